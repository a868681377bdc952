//! Collateral on disk: one file for each document, named by its id.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use redoubt_verifier::{Bundle, CollateralId, CollateralItem};

use crate::error::CollateralError;

/// The largest file that is read, in bytes: a document in Base64 with its chain.
const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;

/// Tells the temporary files of one process apart.
static COUNTER: AtomicU64 = AtomicU64::new(0);

/// A folder of collateral. Several processes can use it at once: a file appears
/// whole or not at all, and one that cannot be used counts as missing.
#[derive(Clone, Debug)]
pub struct DiskCache {
    dir: PathBuf,
}

impl DiskCache {
    /// A cache in this folder, which is made when something is kept.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The document with this id, if it is here and what it should be.
    pub fn get(&self, id: &CollateralId) -> Option<CollateralItem> {
        let path = self.path(id);
        let mut bytes = Vec::new();
        let file = File::open(&path).ok()?;
        file.take(MAX_FILE_BYTES).read_to_end(&mut bytes).ok()?;
        match Bundle::parse(&bytes) {
            Ok(bundle) => bundle.get(id).cloned(),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cached collateral is left out");
                None
            }
        }
    }

    /// Keeps a document in the place of an earlier one.
    pub fn put(&self, item: &CollateralItem) -> Result<(), CollateralError> {
        let mut bundle = Bundle::default();
        bundle
            .insert(item.clone())
            .map_err(CollateralError::CacheFormat)?;
        let text = bundle.to_json().map_err(CollateralError::CacheFormat)?;
        let path = self.path(&item.id);
        write_whole(&path, text.as_bytes())
            .map_err(|cause| CollateralError::CacheWrite { path, cause })
    }

    /// Ids are made of letters, digits, hyphens and slashes only.
    fn path(&self, id: &CollateralId) -> PathBuf {
        self.dir.join(format!("{id}.json"))
    }
}

/// Writes beside the file, then renames.
fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let dir = path.parent().unwrap_or(path);
    fs::create_dir_all(dir)?;
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    let temporary = dir.join(format!(".{}-{number}.tmp", std::process::id()));
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(&temporary)
        .and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        })
        .and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // Nothing else can be done about it.
        let _ = fs::remove_file(&temporary);
    }
    written
}
