//! A sandbox at work: the machine, the agent in it, and the way from one to the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redoubt_agent_api::agent::{CreateSandboxRequest, GuestDetailsRequest, Storage};

use crate::agent::AgentClient;
use crate::error::{Result, ShimError};
use crate::guest_network;
use crate::machine::{Launched, Machine};
use crate::oci::SHM_MOUNT_POINT;

/// Size of the sandbox's shared memory in bytes; part of what policies check.
const SHM_BYTES: u64 = 64 << 20;

/// How long a lost connection may take to turn out to be a lost machine.
const LOSS_GRACE: Duration = Duration::from_secs(3);

/// What the guest is told about the sandbox as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SandboxFacts {
    /// containerd's id of the sandbox.
    pub id: String,
    /// Host name.
    pub hostname: String,
    /// Lines of the pod's `resolv.conf`.
    pub dns: Vec<String>,
}

/// A sandbox whose agent is ready for containers.
pub struct Pod {
    /// containerd's id of the sandbox.
    pub id: String,
    /// The machine.
    pub machine: Arc<dyn Machine>,
    /// The agent.
    pub agent: AgentClient,
    stopping: AtomicBool,
}

impl std::fmt::Debug for Pod {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pod")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl Pod {
    /// Makes a launched machine ready for containers. If that fails the machine is
    /// stopped again.
    pub async fn set_up(launched: Launched, facts: SandboxFacts) -> Result<Self> {
        let agent = AgentClient::new(launched.machine.agent(), launched.create_timeout);
        let pod = Self {
            id: facts.id.clone(),
            machine: launched.machine,
            agent,
            stopping: AtomicBool::new(false),
        };
        if let Err(error) = pod.introduce(facts).await {
            let error = pod.explain(error).await;
            pod.stop().await;
            return Err(error);
        }
        Ok(pod)
    }

    /// The agent's calls in Kata's order.
    async fn introduce(&self, facts: SandboxFacts) -> Result<()> {
        self.agent.check().await?;
        let network = self.machine.network();
        for interface in guest_network::interfaces(&network) {
            self.agent.update_interface(interface).await?;
        }
        if let Some(routes) = guest_network::routes(&network) {
            self.agent.update_routes(routes).await?;
        }
        if let Some(neighbours) = guest_network::neighbours(&network) {
            self.agent.add_arp_neighbors(neighbours).await?;
        }
        self.agent.create_sandbox(sandbox_request(facts)).await?;
        let details = GuestDetailsRequest {
            mem_block_size: true,
            mem_hotplug_probe: true,
            ..GuestDetailsRequest::default()
        };
        let details = self.agent.get_guest_details(details).await?;
        let version = details
            .agent_details
            .as_ref()
            .map(|agent| agent.version.as_str());
        tracing::info!(
            sandbox = self.id,
            agent_version = version,
            "the sandbox is ready"
        );
        Ok(())
    }

    /// Tells why a call failed: a connection that broke because the machine ended is
    /// reported as the end of the machine.
    pub async fn explain(&self, error: ShimError) -> ShimError {
        if !matches!(error, ShimError::AgentLost { .. }) {
            return error;
        }
        let mut ended = self.machine.ended();
        let end = tokio::time::timeout(LOSS_GRACE, ended.wait_for(Option::is_some)).await;
        match (end, self.machine.gone()) {
            (_, Some(reason)) => reason,
            (Ok(Ok(exit)), None) => {
                let text = exit.as_ref().map(ToString::to_string).unwrap_or_default();
                ShimError::MachineGone(text)
            }
            _ => error,
        }
    }

    /// True when the machine is being stopped on request.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Ends the machine and removes what belongs to it. What cannot be removed now is
    /// left to `delete`.
    pub async fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        if self.machine.ended().borrow().is_none()
            && let Err(error) = self.agent.destroy_sandbox().await
        {
            tracing::debug!(error = error.one_line(), "the guest did not say good-bye");
        }
        if let Err(error) = self.machine.stop().await {
            tracing::error!(
                error = error.one_line(),
                "cannot remove everything of the sandbox"
            );
        }
    }
}

fn sandbox_request(facts: SandboxFacts) -> CreateSandboxRequest {
    let shm = Storage {
        driver: "ephemeral".to_owned(),
        source: "shm".to_owned(),
        fstype: "tmpfs".to_owned(),
        options: ["noexec", "nosuid", "nodev", "mode=1777"]
            .map(str::to_owned)
            .into_iter()
            .chain([format!("size={SHM_BYTES}")])
            .collect(),
        mount_point: SHM_MOUNT_POINT.to_owned(),
        ..Storage::default()
    };
    CreateSandboxRequest {
        hostname: facts.hostname,
        dns: facts.dns,
        storages: vec![shm],
        sandbox_id: facts.id,
        ..CreateSandboxRequest::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shared_memory_is_the_one_that_policies_expect() {
        let request = sandbox_request(SandboxFacts {
            id: "pod".to_owned(),
            ..Default::default()
        });
        let [shm] = request.storages.as_slice() else {
            panic!("not one storage")
        };
        assert_eq!(
            shm.options,
            ["noexec", "nosuid", "nodev", "mode=1777", "size=67108864"]
        );
        assert_eq!(shm.mount_point, "/run/kata-containers/sandbox/shm");
        assert!(!request.sandbox_pidns && request.guest_hook_path.is_empty());
    }
}
