//! An image's layers as one writable root file system (overlayfs).

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, unshare};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, Uid, fchmod,
    fchown, futimens, openat2, statat,
};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::errors::ImageError;
use crate::layer::IMPLICIT;
use crate::store::{LayerDir, PulledImage};
use crate::unpack::{OPAQUE_XATTR, is_whiteout};

const ROOTFS: &str = "rootfs";
const UPPER: &str = "upper";
const WORK: &str = "work";
/// Short names for the layers while the mount is made.
const LOWER: &str = "lower";

pub(crate) fn mount_rootfs(image: &PulledImage, bundle_dir: &Path) -> Result<PathBuf, ImageError> {
    let stack = unique_layers(&image.layers);
    let result = try_mount(&stack, bundle_dir);
    if result.is_err() {
        // Leave the bundle as it was found; the first error is the one to tell.
        let _ = unmount_rootfs(bundle_dir);
    }
    result
}

pub(crate) fn unmount_rootfs(bundle_dir: &Path) -> Result<(), ImageError> {
    let rootfs = bundle_dir.join(ROOTFS);
    match unmount(&rootfs, UnmountFlags::NOFOLLOW) {
        Ok(()) | Err(Errno::INVAL | Errno::NOENT) => {}
        // Something still stands in it; it goes when that does.
        Err(Errno::BUSY) => unmount(&rootfs, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH)
            .map_err(|error| ImageError::io("unmount", &rootfs, error.into()))?,
        Err(error) => return Err(ImageError::io("unmount", rootfs, error.into())),
    }
    std::fs::remove_dir(&rootfs)
        .or_else(not_found)
        .map_err(|error| ImageError::io("remove", &rootfs, error))?;
    for name in [UPPER, WORK, LOWER] {
        let path = bundle_dir.join(name);
        std::fs::remove_dir_all(&path)
            .or_else(not_found)
            .map_err(|error| ImageError::io("remove", path, error))?;
    }
    Ok(())
}

fn not_found(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == std::io::ErrorKind::NotFound {
        Ok(())
    } else {
        Err(error)
    }
}

/// The layers with the topmost first. Of layers with the same content only
/// the topmost counts: it brings and hides all that the lower ones do, and
/// the kernel refuses to stack one directory twice.
fn unique_layers(layers: &[LayerDir]) -> Vec<&LayerDir> {
    let mut seen = std::collections::HashSet::new();
    layers
        .iter()
        .rev()
        .filter(|layer| seen.insert(layer.diff_id))
        .collect()
}

fn try_mount(stack: &[&LayerDir], bundle_dir: &Path) -> Result<PathBuf, ImageError> {
    let rootfs = bundle_dir.join(ROOTFS);
    for name in [ROOTFS, UPPER, WORK, LOWER] {
        let path = bundle_dir.join(name);
        std::fs::create_dir_all(&path).map_err(|error| ImageError::io("create", path, error))?;
    }
    let lower = bundle_dir.join(LOWER);
    for (position, layer) in stack.iter().enumerate() {
        let link = lower.join(position.to_string());
        let target = std::path::absolute(&layer.path)
            .map_err(|error| ImageError::io("find", &layer.path, error))?;
        std::os::unix::fs::symlink(target, &link)
            .map_err(|error| ImageError::io("create", link, error))?;
    }
    let target =
        std::path::absolute(&rootfs).map_err(|error| ImageError::io("find", &rootfs, error))?;
    mount_overlay(&lower, &target, stack.len()).map_err(|source| ImageError::Mount {
        path: rootfs.clone(),
        source,
    })?;
    std::fs::remove_dir_all(&lower).map_err(|error| ImageError::io("remove", lower, error))?;
    restore_implicit_directories(stack, &rootfs)?;
    Ok(rootfs)
}

/// Mounts with names relative to the directory of links: the kernel takes
/// one page of options, which 500 full paths would not fit into, and names
/// without "," and ":" need no quoting.
fn mount_overlay(lower: &Path, target: &Path, layers: usize) -> std::io::Result<()> {
    let names: Vec<String> = (0..layers).map(|position| position.to_string()).collect();
    let options = format!(
        "lowerdir={},upperdir=../{UPPER},workdir=../{WORK}",
        names.join(":")
    );
    let options = std::ffi::CString::new(options)?;
    // A thread of its own, with a working directory of its own.
    std::thread::scope(|scope| {
        let mounting = scope.spawn(|| {
            unshare(CloneFlags::CLONE_FS)?;
            std::env::set_current_dir(lower)?;
            mount(
                "overlay",
                target,
                "overlay",
                MountFlags::empty(),
                options.as_c_str(),
            )?;
            Ok(())
        });
        mounting
            .join()
            .unwrap_or_else(|_| Err(std::io::Error::other("the thread ended early")))
    })
}

/// Gives directories their owner, mode and time back.
///
/// A layer may bring `tmp/x` without an entry for `tmp`. Unpacked alone it
/// has a directory with default owner and mode, which would cover those of
/// the layer below.
fn restore_implicit_directories(stack: &[&LayerDir], rootfs: &Path) -> Result<(), ImageError> {
    let layers = stack
        .iter()
        .map(|layer| Layer::open(layer))
        .collect::<Result<Vec<_>, _>>()?;
    let merged = open_directory(rootfs)?;
    let paths: std::collections::BTreeSet<&[u8]> = layers
        .iter()
        .flat_map(|layer| layer.implicit.iter().map(Vec::as_slice))
        .collect();
    for path in paths {
        let Some(found) = effective_metadata(&layers, path) else {
            continue;
        };
        let flags = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let Ok(directory) = openat2(&merged, path, DIRECTORY, Mode::empty(), flags) else {
            continue;
        };
        apply(&directory, &found).map_err(|error| {
            ImageError::io(
                "set owner and mode of",
                OsStr::from_bytes(path),
                error.into(),
            )
        })?;
    }
    Ok(())
}

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);

struct Layer {
    root: OwnedFd,
    implicit: std::collections::HashSet<Vec<u8>>,
}

impl Layer {
    fn open(layer: &LayerDir) -> Result<Self, ImageError> {
        let list = layer.path.with_file_name(IMPLICIT);
        let bytes = std::fs::read(&list).map_err(|error| ImageError::io("read", list, error))?;
        let implicit = bytes
            .split(|&byte| byte == 0)
            .filter(|path| !path.is_empty())
            .map(<[u8]>::to_vec)
            .collect();
        Ok(Self {
            root: open_directory(&layer.path)?,
            implicit,
        })
    }

    fn look(&self, path: &[u8]) -> Look {
        let flags = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let open = |path: &[u8]| openat2(&self.root, path, DIRECTORY, Mode::empty(), flags);
        // From the root down: a whiteout, an opaque directory or something
        // that is no directory on the way hides the layers below.
        let mut hides = false;
        let ends = path
            .iter()
            .enumerate()
            .filter(|(_, byte)| **byte == b'/')
            .map(|(at, _)| at);
        for end in ends.chain([path.len()]) {
            let prefix = &path[..end];
            match statat(&self.root, prefix, AtFlags::SYMLINK_NOFOLLOW) {
                Err(_) if hides => return Look::Hidden,
                Err(_) => return Look::Absent,
                Ok(found) if is_whiteout(&found) => return Look::Hidden,
                Ok(found) if FileType::from_raw_mode(found.st_mode) != FileType::Directory => {
                    return Look::Hidden;
                }
                Ok(_) => hides |= open(prefix).is_ok_and(|directory| is_opaque(&directory)),
            }
        }
        let Ok(found) = statat(&self.root, path, AtFlags::SYMLINK_NOFOLLOW) else {
            return Look::Absent;
        };
        match (self.implicit.contains(path), hides) {
            (false, _) => Look::Explicit(Box::new(found)),
            (true, true) => Look::Hidden,
            (true, false) => Look::Implicit,
        }
    }
}

/// What one layer says about a directory.
enum Look {
    /// Nothing; the layers below decide.
    Absent,
    /// It is there, without owner and mode of its own.
    Implicit,
    /// It is there with an entry of its own.
    Explicit(Box<Stat>),
    /// The layers below do not count.
    Hidden,
}

/// Owner, mode and times for a directory whose topmost layer gives none.
fn effective_metadata(layers: &[Layer], path: &[u8]) -> Option<Stat> {
    let mut implicit_above = false;
    for layer in layers {
        match layer.look(path) {
            Look::Absent => {}
            Look::Implicit => implicit_above = true,
            Look::Explicit(found) => return implicit_above.then_some(*found),
            Look::Hidden => return None,
        }
    }
    None
}

fn apply(directory: &OwnedFd, found: &Stat) -> Result<(), Errno> {
    fchown(
        directory,
        Some(Uid::from_raw(found.st_uid)),
        Some(Gid::from_raw(found.st_gid)),
    )?;
    fchmod(directory, Mode::from_raw_mode(found.st_mode & 0o7777))?;
    let time = Timespec {
        tv_sec: found.st_mtime,
        tv_nsec: i64::try_from(found.st_mtime_nsec).unwrap_or_default(),
    };
    futimens(
        directory,
        &Timestamps {
            last_access: time,
            last_modification: time,
        },
    )
}

fn is_opaque(directory: &OwnedFd) -> bool {
    let mut value = [0; 8];
    rustix::fs::fgetxattr(directory, OPAQUE_XATTR, &mut value[..])
        .is_ok_and(|length| value.get(..length) == Some(b"y"))
}

fn open_directory(path: &Path) -> Result<OwnedFd, ImageError> {
    rustix::fs::open(path, DIRECTORY, Mode::empty())
        .map_err(|error| ImageError::io("open", path, error.into()))
}
