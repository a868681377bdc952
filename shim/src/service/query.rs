//! Requests that change nothing.

use std::sync::Arc;

use containerd_shim_protos::api::{
    ConnectRequest, ConnectResponse, PidsRequest, PidsResponse, ProcessInfo, StateRequest,
    StateResponse, StatsRequest, StatsResponse, WaitRequest, WaitResponse,
};
use redoubt_agent_api::agent::StatsContainerRequest;

use super::core::Core;
use crate::error::Result;
use crate::events::timestamp;
use crate::stats;

impl Core {
    pub(super) fn state(&self, request: &StateRequest) -> Result<StateResponse> {
        let container = self.container(&request.id)?;
        let process = container.process(&request.exec_id)?;
        let phase = process.phase();
        let exit = phase.exit();
        Ok(StateResponse {
            id: container.id.clone(),
            bundle: container.bundle.display().to_string(),
            pid: self.pid(),
            status: phase.status().into(),
            stdin: process.stdio.stdin.clone(),
            stdout: process.stdio.stdout.clone(),
            stderr: process.stdio.stderr.clone(),
            terminal: process.stdio.terminal,
            exit_status: exit.map_or(0, |exit| exit.status),
            exited_at: exit.map(|exit| timestamp(exit.at)).into(),
            exec_id: process.exec_id.clone(),
            ..StateResponse::default()
        })
    }

    pub(super) async fn wait(self: Arc<Self>, request: WaitRequest) -> Result<WaitResponse> {
        let process = self.process(&request.id, &request.exec_id)?;
        let exit = process.wait().await?;
        Ok(WaitResponse {
            exit_status: exit.status,
            exited_at: Some(timestamp(exit.at)).into(),
            ..WaitResponse::default()
        })
    }

    pub(super) fn pids(&self, request: &PidsRequest) -> Result<PidsResponse> {
        self.container(&request.id)?;
        let info = ProcessInfo {
            pid: self.pid(),
            ..ProcessInfo::default()
        };
        Ok(PidsResponse {
            processes: vec![info],
            ..PidsResponse::default()
        })
    }

    pub(super) async fn stats(self: Arc<Self>, request: StatsRequest) -> Result<StatsResponse> {
        let container = self.container(&request.id)?;
        let pod = self.pod_for(&request.id)?;
        let question = StatsContainerRequest {
            container_id: container.id.clone(),
            ..StatsContainerRequest::default()
        };
        match pod.agent.stats_container(question).await {
            Ok(answer) => {
                let metrics = stats::encode(answer, stats::host_hierarchy())?;
                Ok(StatsResponse {
                    stats: Some(metrics).into(),
                    ..StatsResponse::default()
                })
            }
            Err(error) => Err(pod.explain(error).await),
        }
    }

    pub(super) fn connect(&self, request: &ConnectRequest) -> Result<ConnectResponse> {
        self.container(&request.id)?;
        Ok(ConnectResponse {
            shim_pid: std::process::id(),
            task_pid: self.pid(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..ConnectResponse::default()
        })
    }
}
