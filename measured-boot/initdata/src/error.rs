//! Ways in which initdata can be wrong.

use redoubt_errors::{ErrorCode, UserError};

/// Why initdata was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, displaydoc::Display)]
pub enum InitdataError {
    /// initdata document is larger than 4 MiB
    DocumentTooLarge,
    /// initdata document is not UTF-8 text: invalid byte at offset {offset}
    NotText {
        /// Offset of the first invalid byte.
        offset: usize,
    },
    /// initdata document, line {line}: {message}
    Toml {
        /// Line of the document, counted from 1.
        line: usize,
        /// What the TOML parser says.
        message: String,
    },
    /// initdata version {version:?} is not "0.1.0"
    Version {
        /// The version found.
        version: String,
    },
    /// initdata algorithm {algorithm:?} is none of sha256, sha384, sha512
    Algorithm {
        /// The algorithm found.
        algorithm: String,
    },
    /// initdata entry name {name:?} is not a plain file name
    EntryName {
        /// The name found.
        name: String,
    },
    /// initdata annotation of {size} bytes exceeds the 256 KiB that Kubernetes allows for all annotations
    AnnotationTooLarge {
        /// Length of the annotation in bytes.
        size: usize,
    },
    /// initdata annotation is not base64
    NotBase64,
    /// initdata annotation is not compressed with gzip
    NotGzip,
    /// initdata annotation was encoded with base64 twice
    EncodedTwice,
    /// initdata gzip stream is damaged or cut off
    DamagedGzip,
    /// initdata gzip stream is followed by {extra} bytes
    TrailingBytes {
        /// Number of bytes after the stream.
        extra: usize,
    },
    /// initdata disk does not start with the magic "initdata"
    DiskMagic,
    /// initdata disk, offset 8: compressed length {len} is zero, above 1 MiB, or beyond the disk's end
    DiskLength {
        /// The length found there.
        len: u64,
    },
    /// initdata disk, offset {offset}: padding is not zero
    DiskPadding {
        /// Offset of the first byte that is not zero.
        offset: usize,
    },
}

impl UserError for InitdataError {
    fn code(&self) -> ErrorCode {
        ErrorCode(match self {
            Self::DocumentTooLarge => "RDT-INIT-001",
            Self::NotText { .. } => "RDT-INIT-002",
            Self::Toml { .. } => "RDT-INIT-003",
            Self::Version { .. } => "RDT-INIT-004",
            Self::Algorithm { .. } => "RDT-INIT-005",
            Self::EntryName { .. } => "RDT-INIT-006",
            Self::AnnotationTooLarge { .. } => "RDT-INIT-007",
            Self::NotBase64 => "RDT-INIT-008",
            Self::NotGzip => "RDT-INIT-009",
            Self::EncodedTwice => "RDT-INIT-010",
            Self::DamagedGzip => "RDT-INIT-011",
            Self::TrailingBytes { .. } => "RDT-INIT-012",
            Self::DiskMagic => "RDT-INIT-013",
            Self::DiskLength { .. } => "RDT-INIT-014",
            Self::DiskPadding { .. } => "RDT-INIT-015",
        })
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NotBase64 | Self::NotGzip | Self::EncodedTwice => {
                "the annotation is base64 of the gzip-compressed document: make it with \
                 `redoubt initdata build --format annotation`"
            }
            Self::AnnotationTooLarge { .. } => "shorten the policy: it is usually the largest part",
            _ => return None,
        };
        Some(hint.to_owned())
    }
}
