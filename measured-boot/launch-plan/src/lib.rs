//! Configuration, annotations and the launch plan with its readers.

#![forbid(unsafe_code)]

mod files;
mod hex_bytes;
mod host;
mod plan;
mod qemu;
mod request;
mod resources;

pub use files::{MeasuredFile, MeasuredFiles};
pub use host::{HostFacts, SnpHost};
pub use plan::{
    Accelerator, AgentPlan, InitdataPlan, LaunchPlan, NetworkModel, Origin, Protection, ShimPlan,
    SimulatedLaunch, SnpLaunchPlan, VsockPlan,
};
pub use request::{ResourceLimits, SandboxRequest};
pub use resources::{
    ConsoleResource, LaunchResources, NetworkInterface, QmpResource, VsockResource,
};
