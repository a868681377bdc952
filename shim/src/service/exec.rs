//! Exec and what concerns a running process: its terminal, its input, its limits.

use std::sync::Arc;

use containerd_shim_protos::api::{
    CheckpointTaskRequest, CloseIORequest, ExecProcessRequest, PauseRequest, ResizePtyRequest,
    ResumeRequest, UpdateTaskRequest,
};
use containerd_shim_protos::events::task::{TaskExecAdded, TaskPaused, TaskResumed};
use protobuf::well_known_types::any::Any;
use protobuf::well_known_types::empty::Empty;
use redoubt_agent_api::agent::{
    PauseContainerRequest, ResumeContainerRequest, UpdateContainerRequest,
};

use super::core::Core;
use super::process::{refused, resize};
use crate::cli::is_identifier;
use crate::error::{Result, ShimError};
use crate::oci;
use crate::process::{Process, TerminalSize};
use crate::process_state::{Event, Phase};
use crate::stdio::StdioPaths;

/// Type of a process in an exec request, whatever host stands before it.
const PROCESS_TYPE: &str = "opencontainers/runtime-spec/1/Process";
/// Type of the limits in an update request.
const RESOURCES_TYPE: &str = "opencontainers/runtime-spec/1/LinuxResources";

impl Core {
    pub(super) fn exec(&self, request: &ExecProcessRequest) -> Result<Empty> {
        let container = self.container(&request.id)?;
        if !is_identifier(&request.exec_id) {
            return Err(ShimError::BadIdentifier {
                what: "exec id",
                id: request.exec_id.clone(),
            });
        }
        if !matches!(container.init.phase(), Phase::Running | Phase::Paused) {
            return Err(refused(&container.init, "get another process"));
        }
        let spec = oci::parse_process(value_of(request.spec.as_ref(), PROCESS_TYPE)?)?;
        let mut spec = oci::exec_process(&spec);
        spec.Terminal = request.terminal;
        let stdio = StdioPaths {
            terminal: request.terminal,
            stdin: request.stdin.clone(),
            stdout: request.stdout.clone(),
            stderr: request.stderr.clone(),
        };
        let process = Process::exec(&container.id, &request.exec_id, stdio, spec)?;
        container.add(Arc::new(process))?;
        self.events.send(&TaskExecAdded {
            container_id: request.id.clone(),
            exec_id: request.exec_id.clone(),
            ..TaskExecAdded::default()
        });
        Ok(Empty::new())
    }

    pub(super) async fn resize_pty(self: Arc<Self>, request: ResizePtyRequest) -> Result<Empty> {
        let process = self.process(&request.id, &request.exec_id)?;
        let size = TerminalSize {
            rows: request.height,
            columns: request.width,
        };
        match process.phase() {
            Phase::Created | Phase::Starting => process.remember_size(size),
            Phase::Running | Phase::Paused => {
                let pod = self.pod_for(&request.id)?;
                if let Err(error) = resize(&pod, &process, size).await {
                    return Err(pod.explain(error).await);
                }
            }
            // A terminal that is gone has no size; clients may learn of the end late.
            Phase::Stopped(_) | Phase::Deleted => {}
        }
        Ok(Empty::new())
    }

    pub(super) fn close_io(&self, request: &CloseIORequest) -> Result<Empty> {
        let process = self.process(&request.id, &request.exec_id)?;
        if request.stdin {
            process.close_stdin();
        }
        Ok(Empty::new())
    }

    pub(super) async fn pause(self: Arc<Self>, request: PauseRequest) -> Result<Empty> {
        let container = self.container(&request.id)?;
        let pod = self.pod_for(&request.id)?;
        if container.init.phase() != Phase::Running {
            return Err(refused(&container.init, "be paused"));
        }
        let freeze = PauseContainerRequest {
            container_id: request.id.clone(),
            ..PauseContainerRequest::default()
        };
        if let Err(error) = pod.agent.pause_container(freeze).await {
            return Err(pod.explain(error).await);
        }
        apply_to_all(&container.processes(), Event::Pause);
        self.events.send(&TaskPaused {
            container_id: request.id,
            ..TaskPaused::default()
        });
        Ok(Empty::new())
    }

    pub(super) async fn resume(self: Arc<Self>, request: ResumeRequest) -> Result<Empty> {
        let container = self.container(&request.id)?;
        let pod = self.pod_for(&request.id)?;
        if container.init.phase() != Phase::Paused {
            return Err(refused(&container.init, "be resumed"));
        }
        let thaw = ResumeContainerRequest {
            container_id: request.id.clone(),
            ..ResumeContainerRequest::default()
        };
        if let Err(error) = pod.agent.resume_container(thaw).await {
            return Err(pod.explain(error).await);
        }
        apply_to_all(&container.processes(), Event::Resume);
        self.events.send(&TaskResumed {
            container_id: request.id,
            ..TaskResumed::default()
        });
        Ok(Empty::new())
    }

    pub(super) async fn update(self: Arc<Self>, request: UpdateTaskRequest) -> Result<Empty> {
        let container = self.container(&request.id)?;
        let pod = self.pod_for(&request.id)?;
        let limits = oci::parse_resources(value_of(request.resources.as_ref(), RESOURCES_TYPE)?)?;
        let update = UpdateContainerRequest {
            container_id: container.id.clone(),
            resources: Some(oci::resources(&limits)).into(),
            ..UpdateContainerRequest::default()
        };
        match pod.agent.update_container(update).await {
            Ok(_) => Ok(Empty::new()),
            Err(error) => Err(pod.explain(error).await),
        }
    }

    pub(super) fn checkpoint(&self, request: &CheckpointTaskRequest) -> Result<Empty> {
        self.container(&request.id)?;
        Err(ShimError::Checkpoint)
    }
}

fn apply_to_all(processes: &[Arc<Process>], event: Event) {
    for process in processes {
        // Those that have ended, or have not begun, are not concerned.
        let _ = process.apply(event);
    }
}

/// The JSON in a message of the wanted type.
fn value_of<'a>(any: Option<&'a Any>, wanted: &'static str) -> Result<&'a [u8]> {
    match any {
        Some(any) if any.type_url.ends_with(wanted) => Ok(&any.value),
        other => Err(ShimError::WrongMessage {
            found: other
                .map_or("nothing", |any| any.type_url.as_str())
                .to_owned(),
            wanted,
        }),
    }
}
