//! A private containerd, registry and key broker in network namespaces of their own.
//!
//! Everything here is real: Debian's containerd and registry, QEMU, the shim
//! and the broker of this workspace. The only simulated part is the PSP that
//! signs attestation reports. A [`Lab`] removes all it made when it is dropped,
//! and [`Leftovers`] tells what a pod left on the machine.

#![forbid(unsafe_code)]

mod broker;
mod command;
mod containerd;
mod image;
mod lab;
mod leftovers;
mod netns;
mod pod;
mod process;
mod registry;
mod scenario;
mod stale;
mod turn;

pub use broker::Broker;
pub use containerd::Containerd;
pub use image::{SECRET, SampleImage, SampleParts};
pub use lab::{Binaries, GuestFiles, Lab, LabDescription, RootDiskFiles};
pub use leftovers::Leftovers;
pub use netns::NetworkNamespace;
pub use pod::{PodOutcome, PodRequest, RunningPod, TrailLine, run_on_terminal};
pub use process::Daemon;
pub use registry::Registry;
pub use scenario::{InitdataChoice, POLICY_ALLOWING, Scenario, ScenarioOptions};
