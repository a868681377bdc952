//! The OCI specification: reading a bundle's, and what of it goes to the guest.

mod convert;
mod kind;
mod model;
mod mounts;
mod read;

pub use convert::{exec_process, guest_rootfs, guest_spec, resources};
pub use kind::{ContainerKind, container_kind};
pub use model::{Linux, LinuxResources, Mount, Process, Root, Spec};
pub use mounts::{FileCopy, MountPlan, SHM_MOUNT_POINT, plan_mounts};
pub use read::{parse_process, parse_resources, parse_spec, read_bounded, read_config};
