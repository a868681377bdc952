//! The private directory of one pull.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::errors::ImageError;

/// A directory that is removed when the last user is gone, so that a thread
/// which still unpacks never sees it vanish or leaves something behind.
#[derive(Clone, Debug)]
pub(crate) struct Staging(Arc<Guard>);

#[derive(Debug)]
struct Guard {
    path: PathBuf,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove staging directory");
        }
    }
}

impl Staging {
    /// Creates a fresh directory below `parent`.
    pub(crate) fn create(parent: &Path) -> Result<Self, ImageError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        std::fs::create_dir_all(parent).map_err(|error| ImageError::io("create", parent, error))?;
        loop {
            let path = parent.join(NEXT.fetch_add(1, Ordering::Relaxed).to_string());
            match std::fs::create_dir(&path) {
                Ok(()) => return Ok(Self(Arc::new(Guard { path }))),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(ImageError::io("create", path, error)),
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0.path
    }
}
