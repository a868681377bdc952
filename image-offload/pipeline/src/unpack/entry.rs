//! One entry of a layer's archive, independent of the archive's dialect.

use super::pax::Timestamp;
use super::sparse::SparseMap;

/// What an entry creates.
#[derive(Debug)]
pub(crate) enum EntryKind {
    /// A file with this many stored bytes behind the header.
    File {
        stored_bytes: u64,
        sparse: Option<SparseMap>,
    },
    Directory,
    Symlink {
        target: Vec<u8>,
    },
    HardLink {
        target: Vec<u8>,
    },
    CharDevice {
        major: u32,
        minor: u32,
    },
    BlockDevice {
        major: u32,
        minor: u32,
    },
    Fifo,
}

/// Owner, mode and the like.
#[derive(Debug)]
pub(crate) struct Metadata {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Permissions with set-user-id, set-group-id and sticky bits.
    pub(crate) mode: u32,
    pub(crate) mtime: Timestamp,
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// An entry with its name as written in the archive.
#[derive(Debug)]
pub(crate) struct TarEntry {
    pub(crate) name: Vec<u8>,
    pub(crate) kind: EntryKind,
    pub(crate) metadata: Metadata,
}
