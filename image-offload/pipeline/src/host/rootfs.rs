//! Runs the guest's pipeline on the host and leaves one plain directory.

use std::collections::{HashSet, VecDeque};
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Gid, Mode, Timespec, Timestamps, Uid};

use crate::digest::Digest;
use crate::errors::ImageError;
use crate::events::PullObserver;
use crate::keys::KeySource;
use crate::layer::{IMPLICIT, MARKED};
use crate::options::PullOptions;
use crate::store::{ImageStore, PulledImage};
use crate::unpack::OPAQUE_XATTR;

const WORK: &str = ".work";
const CONFIG: &str = "config.json";
const ROOTFS: &str = "rootfs";

/// An image whose layers lie on top of each other in one directory.
#[derive(Debug)]
pub struct UnpackedImage {
    /// Digest of the manifest for this platform.
    pub manifest_digest: Digest,
    /// The image's files.
    pub rootfs: PathBuf,
    /// The image configuration as it is in the registry.
    pub config: PathBuf,
}

/// Pulls an image into `directory/rootfs`, with its configuration beside it.
///
/// The directory must be empty or absent; on an error it is empty or absent
/// again.
pub async fn pull_to_directory(
    directory: &Path,
    reference: &str,
    options: &PullOptions,
    keys: &dyn KeySource,
    observer: &dyn PullObserver,
) -> Result<UnpackedImage, ImageError> {
    let existed = claim(directory)?;
    let result = pull_into(directory, reference, options, keys, observer).await;
    let _ = fs::remove_dir_all(directory.join(WORK));
    if result.is_err() {
        let _ = fs::remove_file(directory.join(CONFIG));
        let _ = fs::remove_dir_all(directory.join(ROOTFS));
        if !existed {
            let _ = fs::remove_dir(directory);
        }
    }
    result
}

/// Makes sure that the directory is there and empty; tells if it was there.
fn claim(directory: &Path) -> Result<bool, ImageError> {
    match fs::read_dir(directory) {
        Ok(mut entries) => match entries.next() {
            None => Ok(true),
            Some(_) => Err(ImageError::DestinationNotEmpty {
                path: directory.to_owned(),
            }),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            fs::create_dir_all(directory)
                .map_err(|error| ImageError::io("create", directory, error))?;
            Ok(false)
        }
        Err(error) => Err(ImageError::io("open", directory, error)),
    }
}

async fn pull_into(
    directory: &Path,
    reference: &str,
    options: &PullOptions,
    keys: &dyn KeySource,
    observer: &dyn PullObserver,
) -> Result<UnpackedImage, ImageError> {
    let store = ImageStore::open(directory.join(WORK))?;
    let image = store.pull(reference, options, keys, observer).await?;
    let rootfs = directory.join(ROOTFS);
    let target = rootfs.clone();
    let merging = image.clone();
    tokio::task::spawn_blocking(move || merge_layers(&merging, &target))
        .await
        .map_err(|_| ImageError::Task)??;
    let config = directory.join(CONFIG);
    fs::write(&config, &image.config_json)
        .map_err(|error| ImageError::io("write", &config, error))?;
    Ok(UnpackedImage {
        manifest_digest: image.manifest_digest,
        rootfs,
        config,
    })
}

/// Moves the layers, lowest first, on top of each other.
///
/// The names come from directories that the extractor made; what is there is
/// looked at without following links.
fn merge_layers(image: &PulledImage, rootfs: &Path) -> Result<(), ImageError> {
    fs::create_dir(rootfs).map_err(|error| ImageError::io("create", rootfs, error))?;
    fs::set_permissions(rootfs, fs::Permissions::from_mode(0o755))
        .map_err(|error| ImageError::io("set mode of", rootfs, error))?;
    let mut done = HashSet::new();
    // A layer that appears twice counts where it is topmost.
    let mut layers: Vec<_> = image
        .layers
        .iter()
        .rev()
        .filter(|layer| done.insert(layer.diff_id))
        .collect();
    layers.reverse();
    for layer in layers {
        let list = layer.path.with_file_name(IMPLICIT);
        let list = fs::read(&list).map_err(|error| ImageError::io("read", list, error))?;
        let implicit = list.split(|&byte| byte == 0).map(<[u8]>::to_vec).collect();
        let marked = layer.path.with_file_name(MARKED).exists();
        let created = HashSet::new();
        Merge {
            layer: &layer.path,
            rootfs,
            implicit,
            marked,
            created,
        }
        .run()?;
    }
    Ok(())
}

struct Merge<'a> {
    layer: &'a Path,
    rootfs: &'a Path,
    implicit: HashSet<Vec<u8>>,
    /// Whether the layer hides anything of those below.
    marked: bool,
    /// Directories that were not there before this layer.
    created: HashSet<PathBuf>,
}

impl Merge<'_> {
    fn run(&mut self) -> Result<(), ImageError> {
        let mut queue = VecDeque::from([PathBuf::new()]);
        // Times of directories last: moving things changes them.
        let mut directories = Vec::new();
        while let Some(relative) = queue.pop_front() {
            let path = self.layer.join(&relative);
            // Before its entries move away, which changes its time.
            let found = fs::symlink_metadata(&path)
                .map_err(|error| ImageError::io("look up", &path, error))?;
            let entries =
                fs::read_dir(&path).map_err(|error| ImageError::io("list", &path, error))?;
            for entry in entries {
                let entry = entry.map_err(|error| ImageError::io("list", &path, error))?;
                let name = relative.join(entry.file_name());
                let kind = entry
                    .file_type()
                    .map_err(|error| ImageError::io("look up", &path, error))?;
                if self.place(&name, kind)? {
                    queue.push_back(name);
                }
            }
            directories.push((relative, found));
        }
        for (relative, found) in directories {
            self.directory_metadata(&relative, &found)?;
        }
        Ok(())
    }

    /// Places one entry; true for a directory whose entries are to come.
    fn place(&mut self, name: &Path, kind: fs::FileType) -> Result<bool, ImageError> {
        let (from, to) = (self.layer.join(name), self.rootfs.join(name));
        if !kind.is_dir() {
            if kind.is_char_device() && is_whiteout(&from)? {
                remove(&to)?;
            } else {
                move_over(&from, &to)?;
            }
            return Ok(false);
        }
        let there = fs::symlink_metadata(&to).is_ok_and(|there| there.is_dir());
        if !self.marked && !there {
            // Nothing in it hides anything: it can move as a whole.
            move_over(&from, &to)?;
            return Ok(false);
        }
        let opaque = rustix::fs::lgetxattr(&from, OPAQUE_XATTR, &mut [0_u8; 8][..]).is_ok();
        if opaque || !there {
            remove(&to)?;
            fs::create_dir(&to).map_err(|error| ImageError::io("create", &to, error))?;
            self.created.insert(name.to_owned());
        }
        Ok(true)
    }

    fn is_implicit(&self, name: &Path) -> bool {
        match name.as_os_str().as_encoded_bytes() {
            b"" => self.implicit.contains(&b"."[..]),
            bytes => self.implicit.contains(bytes),
        }
    }

    fn directory_metadata(&self, name: &Path, found: &fs::Metadata) -> Result<(), ImageError> {
        let (from, to) = (self.layer.join(name), self.rootfs.join(name));
        let failed = |error: std::io::Error| ImageError::io("set owner and mode of", &to, error);
        // The owner and mode of a directory without an entry of its own are
        // those of the layers below, if these have it.
        if self.is_implicit(name) && !self.created.contains(name) {
            return Ok(());
        }
        let directory = fs::File::open(&to).map_err(failed)?;
        let (uid, gid) = (Uid::from_raw(found.uid()), Gid::from_raw(found.gid()));
        rustix::fs::fchown(&directory, Some(uid), Some(gid))
            .map_err(|error| failed(error.into()))?;
        rustix::fs::fchmod(&directory, Mode::from_raw_mode(found.mode() & 0o7777))
            .map_err(|error| failed(error.into()))?;
        copy_xattrs(&from, &directory).map_err(failed)?;
        let time = Timespec {
            tv_sec: found.mtime(),
            tv_nsec: found.mtime_nsec(),
        };
        rustix::fs::futimens(
            &directory,
            &Timestamps {
                last_access: time,
                last_modification: time,
            },
        )
        .map_err(|error| failed(error.into()))
    }
}

fn copy_xattrs(from: &Path, to: &fs::File) -> std::io::Result<()> {
    let mut names = vec![0_u8; 64 * 1024];
    let length = rustix::fs::llistxattr(from, &mut names[..])?;
    let mut value = vec![0_u8; 64 * 1024];
    for name in names[..length]
        .split(|&byte| byte == 0)
        .filter(|name| !name.is_empty())
    {
        if name == OPAQUE_XATTR.as_bytes() {
            continue;
        }
        let length = rustix::fs::lgetxattr(from, name, &mut value[..])?;
        rustix::fs::fsetxattr(to, name, &value[..length], rustix::fs::XattrFlags::empty())?;
    }
    Ok(())
}

fn is_whiteout(path: &Path) -> Result<bool, ImageError> {
    let found =
        fs::symlink_metadata(path).map_err(|error| ImageError::io("look up", path, error))?;
    Ok(found.file_type().is_char_device() && found.rdev() == 0)
}

/// Moves a file or directory to a name that may be taken.
fn move_over(from: &Path, to: &Path) -> Result<(), ImageError> {
    let taken = [
        std::io::ErrorKind::IsADirectory,
        std::io::ErrorKind::NotADirectory,
        std::io::ErrorKind::DirectoryNotEmpty,
        std::io::ErrorKind::AlreadyExists,
    ];
    match fs::rename(from, to) {
        Err(error) if taken.contains(&error.kind()) => {
            remove(to)?;
            fs::rename(from, to)
        }
        other => other,
    }
    .map_err(|error| ImageError::io("move", from, error))
}

fn remove(path: &Path) -> Result<(), ImageError> {
    let result = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => Err(error),
    };
    result.map_err(|error| ImageError::io("replace", path, error))
}
