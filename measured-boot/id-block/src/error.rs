//! Ways in which an ID block can be wrong.

use std::fmt;

use redoubt_errors::{ErrorCode, UserError};
use redoubt_launch_digest::LaunchDigest;

/// One of the two structures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdPart {
    /// The ID block.
    Block,
    /// Its authentication.
    Auth,
}

impl fmt::Display for IdPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Block => "ID block",
            Self::Auth => "ID authentication",
        })
    }
}

/// Why an ID block cannot be used. Offsets count from the start of the structure.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, displaydoc::Display)]
pub enum IdBlockError {
    /// {part} has {actual} bytes instead of {expected}
    Length {
        /// Which structure.
        part: IdPart,
        /// Length that it must have.
        expected: usize,
        /// Length that it has.
        actual: usize,
    },
    /// {part} is not {expected} bytes in base64
    Format {
        /// Which structure.
        part: IdPart,
        /// Length that it must have.
        expected: usize,
    },
    /// ID block, version at offset {offset:#x}: {version} is not 1
    Version {
        /// Where it stands.
        offset: usize,
        /// What stands there.
        version: u32,
    },
    /// ID block, guest policy at offset {offset:#x}: {policy:#x} must have bit 17 set and bits 26 to 63 clear
    Policy {
        /// Where it stands.
        offset: usize,
        /// What stands there.
        policy: u64,
    },
    /// {part}: reserved byte at offset {offset:#x} is not zero
    Reserved {
        /// Which structure.
        part: IdPart,
        /// Where it stands.
        offset: usize,
    },
    /// ID authentication, algorithm at offset {offset:#x}: {algorithm} is not 1 (ECDSA P-384 with SHA-384)
    Algorithm {
        /// Where it stands.
        offset: usize,
        /// What stands there.
        algorithm: u32,
    },
    /// ID authentication, key at offset {offset:#x}: curve {curve} is not 2 (P-384)
    Curve {
        /// Where the key stands.
        offset: usize,
        /// What stands there.
        curve: u32,
    },
    /// ID authentication, key at offset {offset:#x}: no point of P-384
    KeyPoint {
        /// Where the key stands.
        offset: usize,
    },
    /// ID authentication, block signature at offset {offset:#x}: not the ID key's for this ID block
    BlockSignature {
        /// Where it stands.
        offset: usize,
    },
    /// ID authentication, key signature at offset {offset:#x}: not the author key's for this ID key
    KeySignature {
        /// Where it stands.
        offset: usize,
    },
    /// not an unencrypted P-384 private key in PEM
    KeyPem,
    /// the key cannot sign
    Sign,
    /// ID block is for launch digest {expected}, but this launch has {actual}
    OtherDigest {
        /// The digest in the block.
        expected: LaunchDigest,
        /// The predicted digest.
        actual: LaunchDigest,
    },
    /// ID block is for guest policy {expected:#x}, but this launch has {actual:#x}
    OtherPolicy {
        /// The policy in the block.
        expected: u64,
        /// The launch's.
        actual: u64,
    },
}

impl IdBlockError {
    /// The same for a structure that stands at `offset` of another.
    pub(crate) fn moved_by(self, by: usize) -> Self {
        match self {
            Self::Reserved { part, offset } => Self::Reserved {
                part,
                offset: offset + by,
            },
            other => other,
        }
    }
}

impl UserError for IdBlockError {
    fn code(&self) -> ErrorCode {
        ErrorCode(match self {
            Self::Length { .. } => "RDT-IDB-001",
            Self::Format { .. } => "RDT-IDB-002",
            Self::Version { .. } => "RDT-IDB-003",
            Self::Policy { .. } => "RDT-IDB-004",
            Self::Reserved { .. } => "RDT-IDB-005",
            Self::Algorithm { .. } => "RDT-IDB-006",
            Self::Curve { .. } => "RDT-IDB-007",
            Self::KeyPoint { .. } => "RDT-IDB-008",
            Self::BlockSignature { .. } => "RDT-IDB-009",
            Self::KeySignature { .. } => "RDT-IDB-010",
            Self::KeyPem => "RDT-IDB-011",
            Self::Sign => "RDT-IDB-012",
            Self::OtherDigest { .. } => "RDT-IDB-013",
            Self::OtherPolicy { .. } => "RDT-IDB-014",
        })
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::KeyPem => {
                "make one with `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384`"
            }
            Self::OtherDigest { .. } | Self::OtherPolicy { .. } => {
                "sign a new ID block with `redoubt id-block create`"
            }
            _ => return None,
        };
        Some(hint.to_owned())
    }
}
