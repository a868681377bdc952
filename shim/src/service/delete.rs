//! Delete: a process that has ended, and with the last container the machine.

use std::sync::Arc;
use std::time::SystemTime;

use containerd_shim_protos::api::{DeleteRequest, DeleteResponse};
use containerd_shim_protos::events::task::TaskDelete;
use redoubt_agent_api::agent::RemoveContainerRequest;

use super::core::Core;
use crate::container::Container;
use crate::error::Result;
use crate::events::timestamp;
use crate::process::Process;
use crate::process_state::{Event, Exit};

impl Core {
    pub(super) async fn delete(self: Arc<Self>, request: DeleteRequest) -> Result<DeleteResponse> {
        let container = self.container(&request.id)?;
        let process = container.process(&request.exec_id)?;
        let pid = self.pid();
        let exit = end_of(&process)?;
        if process.exec_id.is_empty() {
            self.remove(&container).await;
            self.events.send(&TaskDelete {
                container_id: container.id.clone(),
                pid,
                exit_status: exit.status,
                exited_at: Some(timestamp(exit.at)).into(),
                ..TaskDelete::default()
            });
        } else {
            container.forget(&process.exec_id);
        }
        Ok(DeleteResponse {
            pid,
            exit_status: exit.status,
            exited_at: Some(timestamp(exit.at)).into(),
            ..DeleteResponse::default()
        })
    }

    /// Removes a container, and the machine if it is the one that owns it. A guest that
    /// does not answer must not keep containerd from getting rid of a container.
    async fn remove(&self, container: &Container) {
        for process in container.processes() {
            let _ = process.apply(Event::Delete);
        }
        if let Some(pod) = self.pod() {
            if container.kind.owns_machine() {
                self.forget_pod();
                pod.stop().await;
            } else {
                let request = RemoveContainerRequest {
                    container_id: container.id.clone(),
                    ..RemoveContainerRequest::default()
                };
                if let Err(error) = pod.agent.remove_container(request).await {
                    tracing::warn!(error = error.one_line(), "cannot remove a container");
                }
            }
        }
        self.forget_container(&container.id);
    }
}

/// Moves a process to its last phase; tells how it ended.
fn end_of(process: &Process) -> Result<Exit> {
    let exit = process.phase().exit();
    process.apply(Event::Delete)?;
    process.close_streams();
    // A process that was never started has no status of its own.
    Ok(exit.unwrap_or(Exit {
        status: 0,
        at: SystemTime::now(),
    }))
}
