//! Kubernetes manifests read as the requests for sandboxes that kubelet and
//! containerd make of them.
//!
//! [`Manifest::parse`] finds the pods of a YAML file with one or several
//! documents: bare pods and the pod templates of workloads. [`Workload`] turns
//! one into the [`SandboxRequest`](redoubt_launch_plan::SandboxRequest) that the
//! shim would get, so that its launch can be planned before the pod exists.
//! Nothing here does I/O.

#![forbid(unsafe_code)]

mod error;
mod manifest;
mod node;
mod quantity;
mod resources;
mod workload;

pub use error::PodError;
pub use manifest::{MAX_MANIFEST_BYTES, Manifest};
pub use quantity::{Quantity, QuantityError};
pub use resources::{MAX_CPU_SHARES, PodResources};
pub use workload::{Remark, Workload, WorkloadKind};
