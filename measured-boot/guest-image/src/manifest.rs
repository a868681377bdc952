//! What an initrd holds, for whoever wants to compare two builds.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::archive::{Entry, EntryKind};

/// Every file of an initrd with its digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The sha256 of the compressed initrd.
    pub initrd_sha256: String,
    /// Size of the compressed initrd in bytes.
    pub initrd_bytes: usize,
    /// Size of the archive before compression in bytes.
    pub archive_bytes: usize,
    /// The files in the archive's order.
    pub entries: Vec<ManifestEntry>,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestEntry {
    /// The path in the initrd.
    pub path: String,
    /// Permission bits in octal.
    pub mode: String,
    /// Size in bytes; zero for folders and devices.
    pub bytes: usize,
    /// The content's sha256, absent where there is no content.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sha256: Option<String>,
}

impl ManifestEntry {
    pub(crate) fn of(entry: &Entry) -> Self {
        let content: Option<&[u8]> = match &entry.kind {
            EntryKind::File(bytes) => Some(bytes),
            EntryKind::Symlink(target) => Some(target.as_bytes()),
            EntryKind::Directory | EntryKind::CharacterDevice { .. } => None,
        };
        Self {
            path: entry.path.clone(),
            mode: format!("{:04o}", entry.mode & 0o7777),
            bytes: content.map_or(0, <[u8]>::len),
            sha256: content.map(|bytes| hex::encode(Sha256::digest(bytes))),
        }
    }
}
