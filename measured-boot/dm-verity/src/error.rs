//! Why dm-verity metadata was refused.

use redoubt_errors::{ErrorCode, UserError};

/// Why dm-verity metadata was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, displaydoc::Display)]
pub enum VerityError {
    /// dm-verity superblock has {len} bytes, fewer than 512
    SuperblockLength {
        /// Length found in bytes.
        len: usize,
    },
    /// dm-verity superblock, offset {offset}: {field} is wrong
    Superblock {
        /// Offset of the field in bytes.
        offset: usize,
        /// The field.
        field: &'static str,
    },
    /// dm-verity algorithm {name:?} is neither sha256 nor sha512
    Algorithm {
        /// The name found.
        name: String,
    },
    /// dm-verity block size {bytes} is no power of two from 512 to 4096
    BlockSize {
        /// The size in bytes.
        bytes: u64,
    },
    /// dm-verity salt of {len} bytes is longer than 256
    SaltLength {
        /// Length in bytes.
        len: usize,
    },
    /// dm-verity device of {blocks} blocks is empty or too large
    DataBlocks {
        /// Number of data blocks.
        blocks: u64,
    },
    /// dm-verity data of {len} bytes are no whole number of blocks
    PartialBlock {
        /// Length in bytes.
        len: usize,
    },
    /// dm-verity parameters: {key} is missing
    MissingParam {
        /// The key.
        key: &'static str,
    },
    /// dm-verity parameters: {key} is given twice
    ParamTwice {
        /// The key.
        key: &'static str,
    },
    /// dm-verity parameters: {text:?} is no known key=value
    UnknownParam {
        /// The part of the list.
        text: String,
    },
    /// dm-verity parameters: {key} = {value:?} is not {expected}
    ParamValue {
        /// The key.
        key: &'static str,
        /// The value found.
        value: String,
        /// What it must be.
        expected: &'static str,
    },
    /// dm-verity parameters of {len} bytes are longer than 1024
    ParamsLength {
        /// Length in bytes.
        len: usize,
    },
}

impl UserError for VerityError {
    fn code(&self) -> ErrorCode {
        ErrorCode(match self {
            Self::SuperblockLength { .. } => "RDT-DMV-001",
            Self::Superblock { .. } => "RDT-DMV-002",
            Self::Algorithm { .. } => "RDT-DMV-003",
            Self::BlockSize { .. } => "RDT-DMV-004",
            Self::SaltLength { .. } => "RDT-DMV-005",
            Self::DataBlocks { .. } => "RDT-DMV-006",
            Self::PartialBlock { .. } => "RDT-DMV-007",
            Self::MissingParam { .. } => "RDT-DMV-008",
            Self::ParamTwice { .. } => "RDT-DMV-009",
            Self::UnknownParam { .. } => "RDT-DMV-010",
            Self::ParamValue { .. } => "RDT-DMV-011",
            Self::ParamsLength { .. } => "RDT-DMV-012",
        })
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::MissingParam { .. } | Self::UnknownParam { .. } => Some(
                "expected root_hash=…,salt=…,data_blocks=…,data_block_size=…,hash_block_size=…"
                    .to_owned(),
            ),
            _ => None,
        }
    }
}
