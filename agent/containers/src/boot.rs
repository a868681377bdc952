//! What containers need of the guest's own root file system.

use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::unistd::{chdir, chroot};

use crate::error::ContainerError;

/// Puts a mount between the initial RAM file system and this process's root.
///
/// `pivot_root(2)`, by which a container leaves the guest's files behind,
/// refuses to work while the root is the initial RAM file system itself: that
/// one has no parent mount to go back to. So its tree is mounted once more
/// over itself. PID 1 calls this before it mounts anything and before it has
/// threads; `folder` is an empty folder, such as `/mnt`.
pub fn make_root_movable(folder: &Path) -> Result<(), ContainerError> {
    let nothing = None::<&str>;
    let root = Path::new("/");
    let step = |path: &Path, result: nix::Result<()>| {
        let path = PathBuf::from(path);
        result.map_err(|errno| ContainerError::RootFs {
            path,
            source: errno.into(),
        })
    };
    step(
        folder,
        mount(
            Some(root),
            folder,
            nothing,
            MsFlags::MS_BIND | MsFlags::MS_REC,
            nothing,
        ),
    )?;
    step(folder, chdir(folder))?;
    step(
        root,
        mount(Some("."), root, nothing, MsFlags::MS_MOVE, nothing),
    )?;
    step(root, chroot("."))?;
    step(root, chdir(root))
}
