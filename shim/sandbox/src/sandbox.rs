//! A running sandbox, as the task service sees it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use redoubt_agent_api::stage::FatalLine;
use redoubt_launch_plan::LaunchPlan;
use tokio::sync::watch;
use ttrpc::asynchronous::Client;

use crate::console::Console;
use crate::error::SandboxError;
use crate::launch;
use crate::network::GuestNetwork;
use crate::process::{ChildProcess, wait_exit};
use crate::release::Resources;
use crate::trail::Trail;
use crate::vsock::{GuestPorts, GuestStream};

/// Where the state directories of sandboxes are.
pub const DEFAULT_STATE_ROOT: &str = "/run/vc/sbs";

/// What to launch.
#[derive(Clone, Debug)]
pub struct LaunchRequest {
    /// The plan; its sandbox id names the state directory.
    pub plan: LaunchPlan,
    /// The pod's network namespace; without one the sandbox gets no network.
    pub netns: Option<PathBuf>,
    /// The control group of the sandbox's first container (`linux.cgroupsPath` of the OCI
    /// specification); the sandbox's own is made beside it.
    pub cgroups_path: String,
    /// Folder of all state directories, [`DEFAULT_STATE_ROOT`] outside tests.
    pub state_root: PathBuf,
    /// When the request came in: the moment that the trail's times count from.
    pub started: Instant,
}

impl LaunchRequest {
    /// A request for `plan` that came in just now, with its state in the usual place.
    pub fn new(plan: LaunchPlan, netns: Option<PathBuf>) -> Self {
        Self {
            plan,
            netns,
            cgroups_path: String::new(),
            state_root: DEFAULT_STATE_ROOT.into(),
            started: Instant::now(),
        }
    }
}

/// How a process ended; neither is known where somebody else reaped it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VmExit {
    /// Its exit status.
    pub code: Option<i32>,
    /// The signal that killed it.
    pub signal: Option<i32>,
}

impl fmt::Display for VmExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.code, self.signal) {
            (Some(code), _) => write!(f, "exit status {code}"),
            (None, Some(signal)) => write!(f, "killed by signal {signal}"),
            (None, None) => f.write_str("exit status unknown"),
        }
    }
}

/// A virtual machine with an agent that answers, and everything it needs on the host.
///
/// Dropping it kills its processes but leaves taps and the state directory behind; use
/// [`Sandbox::stop`], or [`crate::cleanup_from_disk`] later.
pub struct Sandbox {
    pub(crate) resources: Resources,
    pub(crate) plan: LaunchPlan,
    pub(crate) trail: Trail,
    pub(crate) ports: GuestPorts,
    pub(crate) console: Console,
    pub(crate) network: GuestNetwork,
    pub(crate) client: Client,
}

impl fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sandbox")
            .field("sandbox_id", &self.plan.sandbox_id)
            .field("ports", &self.ports)
            .finish_non_exhaustive()
    }
}

impl Sandbox {
    /// Launches the virtual machine and waits until its agent answers.
    ///
    /// On failure everything that was created is gone again, and the error says what stopped
    /// the boot. A caller that is dropped half-way leaves work for [`crate::cleanup_from_disk`].
    pub async fn launch(request: LaunchRequest) -> Result<Self, SandboxError> {
        launch::launch(request).await
    }

    /// The connection to the agent; clones share it. For the generated clients of
    /// `redoubt_agent_api`: `AgentServiceClient::new(sandbox.agent())`.
    pub fn agent(&self) -> Client {
        self.client.clone()
    }

    /// Opens another connection to a vsock port of the guest, for logs or the debug console.
    pub async fn connect(&self, port: u32) -> io::Result<GuestStream> {
        self.ports.connect(port).await
    }

    /// How the host reaches ports of the guest.
    pub fn ports(&self) -> &GuestPorts {
        &self.ports
    }

    /// What the agent is to be told about the pod's network.
    pub fn network(&self) -> &GuestNetwork {
        &self.network
    }

    /// The plan that was carried out.
    pub fn plan(&self) -> &LaunchPlan {
        &self.plan
    }

    /// The trail, for the stages that the task service knows.
    pub fn trail(&self) -> &Trail {
        &self.trail
    }

    /// The process id of QEMU, which stands for the container's on the host.
    pub fn qemu_pid(&self) -> u32 {
        let pid = self
            .resources
            .qemu
            .as_ref()
            .map_or(0, |qemu| qemu.identity().pid);
        u32::try_from(pid).unwrap_or_default()
    }

    /// The state directory.
    pub fn state_dir(&self) -> &Path {
        self.resources.dir.path()
    }

    /// Tells how the virtual machine ended, once it has. It never changes back.
    pub fn vm_exit(&self) -> watch::Receiver<Option<VmExit>> {
        match &self.resources.qemu {
            Some(qemu) => qemu.exit(),
            None => watch::channel(Some(VmExit::default())).1,
        }
    }

    /// Waits for the end of the virtual machine.
    pub async fn wait_vm(&self) -> VmExit {
        wait_exit(self.vm_exit()).await
    }

    /// The error for work on a virtual machine that is gone; `None` while it runs.
    pub fn vm_gone(&self) -> Option<SandboxError> {
        if let Some(fatal) = self.last_words() {
            let message = format!("{} {}", fatal.code, fatal.message);
            return Some(SandboxError::AgentFatal { message });
        }
        let exit = self
            .resources
            .qemu
            .as_ref()
            .and_then(ChildProcess::try_exit)?;
        Some(SandboxError::VmGone {
            exit: exit.to_string(),
        })
    }

    /// What the agent printed before it powered the guest off, if it did.
    pub fn last_words(&self) -> Option<FatalLine> {
        self.console.signs().borrow().fatal.clone()
    }

    /// The last bytes of the guest's console, at most 64 KiB, as the guest wrote them.
    pub fn console_tail(&self) -> Vec<u8> {
        self.console.bytes()
    }

    /// Stops the virtual CPUs.
    pub async fn pause(&self) -> Result<(), SandboxError> {
        match &self.resources.qmp {
            Some(qmp) => qmp.stop().await,
            None => Ok(()),
        }
    }

    /// Lets the virtual CPUs run again.
    pub async fn resume(&self) -> Result<(), SandboxError> {
        match &self.resources.qmp {
            Some(qmp) => qmp.cont().await,
            None => Ok(()),
        }
    }

    /// Ends the virtual machine and removes everything that belongs to it on the host.
    ///
    /// May be called again, and while the virtual machine is gone already. Telling the agent
    /// beforehand (`DestroySandbox`) is the caller's part.
    pub async fn stop(&self) -> Result<(), SandboxError> {
        self.resources.release().await
    }
}
