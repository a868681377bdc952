//! Follows a sandbox: the end of its machine, and containers that run out of memory.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use containerd_shim_protos::events::task::TaskOOM;

use super::core::Core;
use super::process::KILLED;
use crate::pod::Pod;
use crate::process_state::{Exit, Phase};

impl Core {
    /// Follows a sandbox until its machine ends.
    pub(super) fn watch(self: &Arc<Self>, pod: &Arc<Pod>) {
        tokio::spawn(self.clone().watch_machine(pod.clone()));
        tokio::spawn(self.clone().watch_memory(pod.clone()));
    }

    async fn watch_machine(self: Arc<Self>, pod: Arc<Pod>) {
        let mut ended = pod.machine.ended();
        if ended.wait_for(Option::is_some).await.is_err() {
            return;
        }
        if !pod.is_stopping() {
            let reason = pod
                .machine
                .gone()
                .map(|error| error.one_line())
                .unwrap_or_default();
            tracing::error!(
                sandbox = pod.id,
                reason,
                "the virtual machine ended unexpectedly"
            );
        }
        let exit = Exit {
            status: KILLED,
            at: SystemTime::now(),
        };
        for process in self
            .containers()
            .iter()
            .flat_map(|container| container.processes())
        {
            // Running ones are ended by their supervisor, after their output.
            if process.phase() == Phase::Created {
                self.finish(&pod, &process, exit);
            }
        }
    }

    async fn watch_memory(self: Arc<Self>, pod: Arc<Pod>) {
        let mut ended = pod.machine.ended();
        loop {
            let event = tokio::select! {
                event = pod.agent.oom_event() => event,
                _ = ended.wait_for(Option::is_some) => return,
            };
            match event {
                Ok(container_id) if self.has_container(&container_id) => {
                    self.out_of_memory(container_id);
                }
                Ok(container) => {
                    tracing::warn!(container, "an unknown container ran out of memory");
                }
                Err(error) if error.is_unimplemented() => return,
                Err(error) => {
                    tracing::debug!(error = error.one_line(), "no news about memory");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }

    fn out_of_memory(&self, container_id: String) {
        tracing::warn!(container = container_id, "out of memory");
        if let Ok(container) = self.container(&container_id)
            && let Err(error) = std::fs::File::create(container.bundle.join("oom"))
        {
            // CRI-O looks for this file.
            tracing::debug!(%error, "cannot leave a note for CRI-O");
        }
        self.events.send(&TaskOOM {
            container_id,
            ..TaskOOM::default()
        });
    }
}
