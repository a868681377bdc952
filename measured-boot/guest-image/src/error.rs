//! What can be wrong with the inputs of an initrd.

use redoubt_dm_verity::VerityError;
use redoubt_errors::{ErrorCode, UserError};

/// A reason why no initrd was made.
#[derive(Debug, thiserror::Error, displaydoc::Display)]
#[non_exhaustive]
pub enum GuestImageError {
    /// path `{path}` must be relative, without `.`, `..`, empty parts or NUL, and at most 1024 bytes
    Path {
        /// The path as it was given.
        path: String,
    },
    /// path `{path}` is in the archive twice
    Duplicate {
        /// The path that stands twice.
        path: String,
    },
    /// folder `{parent}` of `{path}` is not in the archive
    MissingParent {
        /// The entry without a folder.
        path: String,
        /// The folder that is missing.
        parent: String,
    },
    /// `{path}` has {size} bytes, more than the archive format can say
    TooLarge {
        /// The entry.
        path: String,
        /// Its size in bytes.
        size: usize,
    },
    /// kernel module {name} is not among the modules of the guest kernel
    MissingModule {
        /// The module's name.
        name: &'static str,
    },
    /// the archive cannot be compressed
    Compress(#[source] std::io::Error),
    /// the root disk cannot be given a hash tree
    Verity(#[from] VerityError),
    /// the root hash is no SHA-256
    RootHash,
}

impl UserError for GuestImageError {
    fn code(&self) -> ErrorCode {
        ErrorCode(match self {
            Self::Path { .. } => "RDT-GIMG-001",
            Self::Duplicate { .. } => "RDT-GIMG-002",
            Self::MissingParent { .. } => "RDT-GIMG-003",
            Self::TooLarge { .. } => "RDT-GIMG-004",
            Self::MissingModule { .. } => "RDT-GIMG-005",
            Self::Compress(_) => "RDT-GIMG-006",
            Self::Verity(_) => "RDT-GIMG-007",
            Self::RootHash => "RDT-GIMG-008",
        })
    }
}
