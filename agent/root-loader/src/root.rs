//! File systems: the kernel's own, the root disk's, and the step from one root to the other.

use std::convert::Infallible;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::mount::{MntFlags, MsFlags, mount as mount_at, umount2};

use crate::error::LoaderError;

/// What this program needs of the kernel, and what it takes away again: the agent mounts its own.
const KERNEL_FILE_SYSTEMS: [(&str, &str); 3] =
    [("/proc", "proc"), ("/sys", "sysfs"), ("/dev", "devtmpfs")];
const NEW_ROOT: &str = "/root";
const FILE_SYSTEM: &str = "erofs";
const AGENT: &str = "/init";
const NO_DATA: Option<&str> = None;

/// Mounts what this program reads.
pub(crate) fn mount_kernel_file_systems() -> Result<(), LoaderError> {
    KERNEL_FILE_SYSTEMS.iter().try_for_each(|(target, kind)| {
        mount_at(Some(*kind), *target, Some(*kind), MsFlags::empty(), NO_DATA)
            .map_err(|errno| LoaderError::file("mount", *target)(errno.into()))
    })
}

/// Mounts the verified device.
pub(crate) fn mount(device: &Path) -> Result<(), LoaderError> {
    let flags = MsFlags::MS_RDONLY;
    mount_at(Some(device), NEW_ROOT, Some(FILE_SYSTEM), flags, NO_DATA)
        .map_err(|errno| LoaderError::file("mount", device)(errno.into()))
}

/// Makes the disk's file system the root.
pub(crate) fn enter() -> Result<(), LoaderError> {
    for (target, _) in KERNEL_FILE_SYSTEMS {
        umount2(target, MntFlags::MNT_DETACH)
            .map_err(|errno| LoaderError::file("unmount", target)(errno.into()))?;
    }
    // The initrd's files stay in memory otherwise; this program goes on without its own.
    let _ = fs::remove_dir_all("/modules");
    let _ = fs::remove_file(AGENT);
    let failed =
        |action| move |errno: nix::Error| LoaderError::file(action, NEW_ROOT)(errno.into());
    nix::unistd::chdir(NEW_ROOT).map_err(failed("enter"))?;
    mount_at(Some("."), "/", NO_DATA, MsFlags::MS_MOVE, NO_DATA).map_err(failed("move"))?;
    nix::unistd::chroot(".").map_err(failed("change the root to"))?;
    nix::unistd::chdir("/").map_err(failed("enter"))
}

/// Becomes the agent.
pub(crate) fn run_agent() -> Result<Infallible, LoaderError> {
    let error = Command::new(AGENT).exec();
    Err(LoaderError::file("run", AGENT)(error))
}
