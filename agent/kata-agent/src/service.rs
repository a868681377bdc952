//! The calls of the agent API. Each passes the policy before anything else happens.

use std::sync::Arc;

use async_trait::async_trait;
use protobuf::well_known_types::empty::Empty;
use redoubt_agent_api::agent_ttrpc::AgentService;
use redoubt_agent_api::{agent, types};
use redoubt_agent_policy::PolicyRequest;
use redoubt_containers::{ContainerId, ProcessId, TerminalSize};
use ttrpc::r#async::TtrpcContext;

use crate::agent::Agent;
use crate::clock;
use crate::copy_file;
use crate::error::{AgentError, Result};
use crate::metrics;
use crate::spec::runtime_resources;
use crate::stats;
use crate::streams::{self, Stream};

/// The signal that ends all processes of a container when it names none of them.
const SIGKILL: u32 = 9;
/// The most bytes of input that one call brings.
const MAX_INPUT_BYTES: usize = 256 * 1024;

/// Serves the agent API.
#[derive(Clone, Debug)]
pub(crate) struct Service(pub(crate) Arc<Agent>);

impl Service {
    /// Runs one call: the policy first, then the work.
    async fn serve<R, T, F>(
        &self,
        request: R,
        work: impl FnOnce(Arc<Agent>, R) -> F,
    ) -> ttrpc::Result<T>
    where
        R: PolicyRequest,
        F: Future<Output = Result<T>>,
    {
        self.0.gate(&request).map_err(AgentError::into_ttrpc)?;
        work(Arc::clone(&self.0), request)
            .await
            .map_err(AgentError::into_ttrpc)
    }

    /// Refuses a call that this agent does not serve, after the policy had its say.
    fn refuse<R: PolicyRequest, T>(&self, request: &R, call: &'static str) -> ttrpc::Result<T> {
        self.0.gate(request).map_err(AgentError::into_ttrpc)?;
        Err(AgentError::Unimplemented { call }.into_ttrpc())
    }

    /// Reads a stream; where the policy forbids it the host gets nothing, and
    /// the process goes on as if somebody read.
    async fn read(
        &self,
        request: agent::ReadStreamRequest,
        stream: Stream,
    ) -> ttrpc::Result<agent::ReadStreamResponse> {
        let allowed = self.0.gate(&request).is_ok();
        let data = streams::read(&self.0, &request, stream, allowed)
            .await
            .map_err(AgentError::into_ttrpc)?;
        Ok(agent::ReadStreamResponse {
            data,
            ..Default::default()
        })
    }
}

fn container(id: &str) -> Result<ContainerId> {
    Ok(ContainerId::parse(id)?)
}

fn process(container: &str, exec: &str) -> Result<ProcessId> {
    Ok(ProcessId::from_request(container, exec)?)
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "it is the last expression of calls that can fail"
)]
fn empty() -> Result<Empty> {
    Ok(Empty::new())
}

type Context = TtrpcContext;

#[async_trait]
impl AgentService for Service {
    async fn create_container(
        &self,
        _: &Context,
        request: agent::CreateContainerRequest,
    ) -> ttrpc::Result<Empty> {
        self.serve(request, |agent, request| async move {
            agent.create_container(request).await?;
            empty()
        })
        .await
    }

    async fn start_container(
        &self,
        _: &Context,
        request: agent::StartContainerRequest,
    ) -> ttrpc::Result<Empty> {
        self.serve(request, |agent, request| async move {
            agent
                .containers
                .start(&container(&request.container_id)?)
                .await?;
            empty()
        })
        .await
    }

    async fn remove_container(
        &self,
        _: &Context,
        request: agent::RemoveContainerRequest,
    ) -> ttrpc::Result<Empty> {
        self.serve(request, |agent, request| async move {
            let id = container(&request.container_id)?;
            agent.remove_container(id, request.timeout).await?;
            empty()
        })
        .await
    }

    async fn exec_process(
        &self,
        _: &Context,
        request: agent::ExecProcessRequest,
    ) -> ttrpc::Result<Empty> {
        self.serve(request, |agent, request| async move {
            agent.exec(&request).await?;
            empty()
        })
        .await
    }

    async fn signal_process(
        &self,
        _: &Context,
        request: agent::SignalProcessRequest,
    ) -> ttrpc::Result<Empty> {
        self.serve(request, |agent, request| async move {
            if request.exec_id.is_empty() && request.signal == SIGKILL {
                agent
                    .containers
                    .signal_all(&container(&request.container_id)?, SIGKILL)?;
            } else {
                let id = process(&request.container_id, &request.exec_id)?;
                agent.containers.signal(&id, request.signal)?;
            }
            empty()
        })
        .await
    }

    async fn wait_process(
        &self,
        _: &Context,
        request: agent::WaitProcessRequest,
    ) -> ttrpc::Result<agent::WaitProcessResponse> {
        self.serve(request, |agent, request| async move {
            let id = process(&request.container_id, &request.exec_id)?;
            let status = agent.containers.wait(&id).await?.code();
            Ok(agent::WaitProcessResponse {
                status,
                ..Default::default()
            })
        })
        .await
    }

    async fn update_container(
        &self,
        _: &Context,
        request: agent::UpdateContainerRequest,
    ) -> ttrpc::Result<Empty> {
        self.serve(request, |agent, request| async move {
            let resources = request
                .resources
                .as_ref()
                .ok_or_else(|| AgentError::request("there are no resources"))?;
            let id = container(&request.container_id)?;
            agent
                .containers
                .update(&id, &runtime_resources(resources)?)?;
            empty()
        })
        .await
    }

    async fn stats_container(
        &self,
        _: &Context,
        request: agent::StatsContainerRequest,
    ) -> ttrpc::Result<agent::StatsContainerResponse> {
        self.serve(request, |agent, request| async move {
            Ok(stats::response(
                agent.containers.stats(&container(&request.container_id)?)?,
            ))
        })
        .await
    }

    async fn pause_container(
        &self,
        _: &Context,
        request: agent::PauseContainerRequest,
    ) -> ttrpc::Result<Empty> {
        self.serve(request, |agent, request| async move {
            agent
                .containers
                .pause(&container(&request.container_id)?)
                .await?;
            empty()
        })
        .await
    }

    async fn resume_container(
        &self,
        _: &Context,
        request: agent::ResumeContainerRequest,
    ) -> ttrpc::Result<Empty> {
        self.serve(request, |agent, request| async move {
            agent
                .containers
                .resume(&container(&request.container_id)?)
                .await?;
            empty()
        })
        .await
    }

    async fn write_stdin(
        &self,
        _: &Context,
        request: agent::WriteStreamRequest,
    ) -> ttrpc::Result<agent::WriteStreamResponse> {
        // The policy's input has a number for each byte: bounded before it is made.
        if request.data.len() > MAX_INPUT_BYTES {
            return Err(AgentError::TooLarge {
                what: "the input",
                limit_bytes: MAX_INPUT_BYTES,
            }
            .into_ttrpc());
        }
        self.serve(request, |agent, request| async move {
            let id = process(&request.container_id, &request.exec_id)?;
            let written = agent.containers.write_stdin(&id, &request.data).await?;
            let len = u32::try_from(written).unwrap_or(u32::MAX);
            Ok(agent::WriteStreamResponse {
                len,
                ..Default::default()
            })
        })
        .await
    }

    async fn read_stdout(
        &self,
        _: &Context,
        request: agent::ReadStreamRequest,
    ) -> ttrpc::Result<agent::ReadStreamResponse> {
        self.read(request, Stream::Stdout).await
    }

    async fn read_stderr(
        &self,
        _: &Context,
        request: agent::ReadStreamRequest,
    ) -> ttrpc::Result<agent::ReadStreamResponse> {
        self.read(request, Stream::Stderr).await
    }

    async fn close_stdin(
        &self,
        _: &Context,
        request: agent::CloseStdinRequest,
    ) -> ttrpc::Result<Empty> {
        self.serve(request, |agent, request| async move {
            agent
                .containers
                .close_stdin(&process(&request.container_id, &request.exec_id)?)?;
            empty()
        })
        .await
    }

    async fn tty_win_resize(
        &self,
        _: &Context,
        request: agent::TtyWinResizeRequest,
    ) -> ttrpc::Result<Empty> {
        self.serve(request, |agent, request| async move {
            let cells_of = |cells: u32| u16::try_from(cells).unwrap_or(u16::MAX);
            let size = TerminalSize {
                rows: cells_of(request.row),
                columns: cells_of(request.column),
            };
            agent
                .containers
                .resize(&process(&request.container_id, &request.exec_id)?, size)?;
            empty()
        })
        .await
    }

    async fn update_interface(
        &self,
        _: &Context,
        request: agent::UpdateInterfaceRequest,
    ) -> ttrpc::Result<types::Interface> {
        self.serve(request, |_, request| async move {
            Ok(redoubt_guest_network::update_interface(&request.interface).await?)
        })
        .await
    }

    async fn update_routes(
        &self,
        _: &Context,
        request: agent::UpdateRoutesRequest,
    ) -> ttrpc::Result<agent::Routes> {
        self.serve(request, |_, request| async move {
            let routes = redoubt_guest_network::update_routes(&request.routes.Routes).await?;
            Ok(agent::Routes {
                Routes: routes,
                ..Default::default()
            })
        })
        .await
    }

    async fn list_interfaces(
        &self,
        _: &Context,
        request: agent::ListInterfacesRequest,
    ) -> ttrpc::Result<agent::Interfaces> {
        self.serve(request, |_, _| async move {
            let interfaces = redoubt_guest_network::list_interfaces().await?;
            Ok(agent::Interfaces {
                Interfaces: interfaces,
                ..Default::default()
            })
        })
        .await
    }

    async fn list_routes(
        &self,
        _: &Context,
        request: agent::ListRoutesRequest,
    ) -> ttrpc::Result<agent::Routes> {
        self.serve(request, |_, _| async move {
            let routes = redoubt_guest_network::list_routes().await?;
            Ok(agent::Routes {
                Routes: routes,
                ..Default::default()
            })
        })
        .await
    }

    async fn add_arp_neighbors(
        &self,
        _: &Context,
        request: agent::AddARPNeighborsRequest,
    ) -> ttrpc::Result<Empty> {
        self.serve(request, |_, request| async move {
            let neighbors = &request.neighbors.ARPNeighbors;
            redoubt_guest_network::add_arp_neighbors(neighbors).await?;
            empty()
        })
        .await
    }

    async fn create_sandbox(
        &self,
        _: &Context,
        request: agent::CreateSandboxRequest,
    ) -> ttrpc::Result<Empty> {
        self.serve(request, |agent, request| async move {
            agent.create_sandbox(&request)?;
            empty()
        })
        .await
    }

    async fn destroy_sandbox(
        &self,
        _: &Context,
        request: agent::DestroySandboxRequest,
    ) -> ttrpc::Result<Empty> {
        self.serve(request, |agent, _| async move {
            agent.destroy_sandbox().await?;
            empty()
        })
        .await
    }

    async fn online_cpu_mem(
        &self,
        _: &Context,
        request: agent::OnlineCPUMemRequest,
    ) -> ttrpc::Result<Empty> {
        // The sandbox has its size from the start: there is nothing to bring online.
        self.serve(request, |_, _| async move { empty() }).await
    }

    async fn reseed_random_dev(
        &self,
        _: &Context,
        request: agent::ReseedRandomDevRequest,
    ) -> ttrpc::Result<Empty> {
        self.serve(request, |_, request| async move {
            clock::mix_random(&request.data)?;
            empty()
        })
        .await
    }

    async fn get_guest_details(
        &self,
        _: &Context,
        request: agent::GuestDetailsRequest,
    ) -> ttrpc::Result<agent::GuestDetailsResponse> {
        self.serve(request, |_, _| async move { Ok(guest_details()) })
            .await
    }

    async fn set_guest_date_time(
        &self,
        _: &Context,
        request: agent::SetGuestDateTimeRequest,
    ) -> ttrpc::Result<Empty> {
        self.serve(request, |_, request| async move {
            clock::set(request.Sec, request.Usec)?;
            empty()
        })
        .await
    }

    async fn get_oom_event(
        &self,
        _: &Context,
        request: agent::GetOOMEventRequest,
    ) -> ttrpc::Result<agent::OOMEvent> {
        self.serve(request, |agent, _| async move {
            let id = agent.containers.next_oom().await?;
            Ok(agent::OOMEvent {
                container_id: id.as_str().to_owned(),
                ..Default::default()
            })
        })
        .await
    }

    async fn set_policy(
        &self,
        _: &Context,
        request: agent::SetPolicyRequest,
    ) -> ttrpc::Result<Empty> {
        self.serve(request, |agent, request| async move {
            agent.replace_policy(&request.policy)?;
            empty()
        })
        .await
    }

    async fn get_metrics(
        &self,
        _: &Context,
        request: agent::GetMetricsRequest,
    ) -> ttrpc::Result<agent::Metrics> {
        self.serve(request, |agent, _| async move {
            Ok(agent::Metrics {
                metrics: metrics::text(agent.containers.list().len()),
                ..Default::default()
            })
        })
        .await
    }

    async fn update_ephemeral_mounts(
        &self,
        _: &Context,
        request: agent::UpdateEphemeralMountsRequest,
    ) -> ttrpc::Result<Empty> {
        self.refuse(&request, "UpdateEphemeralMounts")
    }

    async fn remove_stale_virtiofs_share_mounts(
        &self,
        _: &Context,
        request: agent::RemoveStaleVirtiofsShareMountsRequest,
    ) -> ttrpc::Result<Empty> {
        self.refuse(&request, "RemoveStaleVirtiofsShareMounts")
    }

    async fn get_diagnostic_data(
        &self,
        _: &Context,
        request: agent::GetDiagnosticDataRequest,
    ) -> ttrpc::Result<agent::GetDiagnosticDataResponse> {
        self.refuse(&request, "GetDiagnosticData")
    }

    async fn get_ip_tables(
        &self,
        _: &Context,
        request: agent::GetIPTablesRequest,
    ) -> ttrpc::Result<agent::GetIPTablesResponse> {
        self.refuse(&request, "GetIPTables")
    }

    async fn set_ip_tables(
        &self,
        _: &Context,
        request: agent::SetIPTablesRequest,
    ) -> ttrpc::Result<agent::SetIPTablesResponse> {
        self.refuse(&request, "SetIPTables")
    }

    async fn mem_agent_memcg_set(
        &self,
        _: &Context,
        request: agent::MemAgentMemcgConfig,
    ) -> ttrpc::Result<Empty> {
        self.refuse(&request, "MemAgentMemcgSet")
    }

    async fn mem_agent_compact_set(
        &self,
        _: &Context,
        request: agent::MemAgentCompactConfig,
    ) -> ttrpc::Result<Empty> {
        self.refuse(&request, "MemAgentCompactSet")
    }

    async fn mem_hotplug_by_probe(
        &self,
        _: &Context,
        request: agent::MemHotplugByProbeRequest,
    ) -> ttrpc::Result<Empty> {
        self.refuse(&request, "MemHotplugByProbe")
    }

    async fn copy_file(
        &self,
        _: &Context,
        request: agent::CopyFileRequest,
    ) -> ttrpc::Result<Empty> {
        self.serve(request, |agent, request| async move {
            copy_file::copy(&agent.folders.shared, &request)?;
            empty()
        })
        .await
    }

    async fn add_swap(&self, _: &Context, request: agent::AddSwapRequest) -> ttrpc::Result<Empty> {
        self.refuse(&request, "AddSwap")
    }

    async fn add_swap_path(
        &self,
        _: &Context,
        request: agent::AddSwapPathRequest,
    ) -> ttrpc::Result<Empty> {
        self.refuse(&request, "AddSwapPath")
    }

    async fn get_volume_stats(
        &self,
        _: &Context,
        request: agent::VolumeStatsRequest,
    ) -> ttrpc::Result<redoubt_agent_api::csi::VolumeStatsResponse> {
        self.refuse(&request, "GetVolumeStats")
    }

    async fn resize_volume(
        &self,
        _: &Context,
        request: agent::ResizeVolumeRequest,
    ) -> ttrpc::Result<Empty> {
        self.refuse(&request, "ResizeVolume")
    }
}

fn guest_details() -> agent::GuestDetailsResponse {
    let details = agent::AgentDetails {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        init_daemon: nix::unistd::getpid().as_raw() == 1,
        storage_handlers: ["ephemeral", "local", "image_guest_pull"]
            .map(str::to_owned)
            .to_vec(),
        supports_seccomp: false,
        extra_features: vec!["guest-pull".to_owned()],
        ..Default::default()
    };
    agent::GuestDetailsResponse {
        agent_details: Some(details).into(),
        ..Default::default()
    }
}

#[cfg(test)]
pub(crate) mod tests;
