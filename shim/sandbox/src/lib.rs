//! The life of a sandbox on the host: QEMU, its helpers, the pod's network, the
//! guest's console, the connection to the agent, and the end of all of them.
//!
//! [`Sandbox::launch`] carries out a `LaunchPlan`. Before it creates anything it
//! writes down in `<state dir>/state.json` what it is about to create, so that
//! [`cleanup_from_disk`] can undo it after the creating process was killed at any
//! moment. While the virtual machine boots, the console and the virtual CPU are
//! watched, so that a boot that fails ends in an error that says why.

mod agent;
mod boot;
mod cgroup;
mod cleanup;
mod console;
mod console_log;
mod error;
mod id;
mod launch;
mod network;
mod probe;
mod process;
mod qmp;
mod release;
mod sandbox;
mod simulation;
mod state;
mod sys;
mod trail;
mod vsock;

pub use agent::AGENT_PORT;
pub use cleanup::{CleanupReport, cleanup_from_disk};
pub use console::{ConsoleEvent, ConsoleScanner};
pub use error::SandboxError;
pub use id::SandboxId;
pub use network::{
    GuestAddress, GuestInterface, GuestNeighbour, GuestNetwork, GuestRoute, NetworkError,
};
pub use probe::host_facts;
pub use sandbox::{DEFAULT_STATE_ROOT, LaunchRequest, Sandbox, VmExit};
pub use trail::Trail;
pub use vsock::{GuestPorts, GuestStream};
