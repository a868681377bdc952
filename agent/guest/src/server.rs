//! The ttRPC server of the agent.

use std::sync::Arc;

use async_trait::async_trait;
use redoubt_agent_api::agent_ttrpc::create_agent_service;
use redoubt_agent_api::health::{
    CheckRequest, HealthCheckResponse, VersionCheckResponse, health_check_response,
};
use redoubt_agent_api::health_ttrpc::{Health, create_health};
use ttrpc::r#async::{Server, TtrpcContext};

use crate::agent::Agent;
use crate::error::{AgentError, Result};
use crate::service::Service;

/// The version of the agent API that this agent serves.
const API_VERSION: &str = "0.0.1";

/// Answers whether the agent is there. These calls are not subject to the policy.
#[derive(Debug)]
struct HealthService;

#[async_trait]
impl Health for HealthService {
    async fn check(&self, _: &TtrpcContext, _: CheckRequest) -> ttrpc::Result<HealthCheckResponse> {
        Ok(HealthCheckResponse {
            status: health_check_response::ServingStatus::SERVING.into(),
            ..HealthCheckResponse::default()
        })
    }

    async fn version(
        &self,
        _: &TtrpcContext,
        _: CheckRequest,
    ) -> ttrpc::Result<VersionCheckResponse> {
        Ok(VersionCheckResponse {
            grpc_version: API_VERSION.to_owned(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            ..VersionCheckResponse::default()
        })
    }
}

/// Listens on an address: `vsock://-1:1024`, or `unix://` for tests.
pub(crate) async fn start(address: &str, agent: Arc<Agent>) -> Result<Server> {
    let mut server = Server::new()
        .bind(address)
        .map_err(AgentError::Serve)?
        .register_service(create_agent_service(Arc::new(Service(agent))))
        .register_service(create_health(Arc::new(HealthService)));
    server.start().await.map_err(AgentError::Serve)?;
    Ok(server)
}
