//! What decides the bytes of a tree beside the data.

use crate::algorithm::Algorithm;
use crate::error::VerityError;

/// The largest block in bytes: the kernel cannot map larger ones than a page.
pub const MAX_BLOCK_BYTES: u32 = 4096;
/// The longest salt in bytes.
pub const MAX_SALT_LEN: usize = 256;

/// Where the salt stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashType {
    /// Behind the block (format 0, as Chrome OS began).
    SaltLast,
    /// Before the block (format 1).
    SaltFirst,
}

impl HashType {
    /// The number in superblocks and device-mapper tables.
    pub fn number(self) -> u32 {
        match self {
            Self::SaltLast => 0,
            Self::SaltFirst => 1,
        }
    }
}

/// The format of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format {
    hash_type: HashType,
    algorithm: Algorithm,
    data_block_bytes: u32,
    hash_block_bytes: u32,
    salt: Vec<u8>,
}

impl Format {
    /// A format, if the kernel can use it.
    pub fn new(
        hash_type: HashType,
        algorithm: Algorithm,
        data_block_bytes: u32,
        hash_block_bytes: u32,
        salt: &[u8],
    ) -> Result<Self, VerityError> {
        check_block_bytes(data_block_bytes.into())?;
        check_block_bytes(hash_block_bytes.into())?;
        if salt.len() > MAX_SALT_LEN {
            return Err(VerityError::SaltLength { len: salt.len() });
        }
        Ok(Self {
            hash_type,
            algorithm,
            data_block_bytes,
            hash_block_bytes,
            salt: salt.to_vec(),
        })
    }

    /// SHA-256 over blocks of 4096 bytes with the salt in front, what `veritysetup` makes by default.
    pub fn usual(salt: &[u8]) -> Result<Self, VerityError> {
        let bytes = MAX_BLOCK_BYTES;
        Self::new(HashType::SaltFirst, Algorithm::Sha256, bytes, bytes, salt)
    }

    /// Where the salt stands.
    pub fn hash_type(&self) -> HashType {
        self.hash_type
    }

    /// The hash algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Size of a data block in bytes.
    pub fn data_block_bytes(&self) -> u32 {
        self.data_block_bytes
    }

    /// Size of a block of the tree in bytes.
    pub fn hash_block_bytes(&self) -> u32 {
        self.hash_block_bytes
    }

    /// The salt, perhaps empty.
    pub fn salt(&self) -> &[u8] {
        &self.salt
    }

    pub(crate) fn digest(&self, block: &[u8]) -> Vec<u8> {
        self.algorithm.digest(match self.hash_type {
            HashType::SaltFirst => [&self.salt, block, &[]],
            HashType::SaltLast => [block, &self.salt, &[]],
        })
    }
}

pub(crate) fn check_block_bytes(bytes: u64) -> Result<(), VerityError> {
    if bytes.is_power_of_two() && (512..=u64::from(MAX_BLOCK_BYTES)).contains(&bytes) {
        Ok(())
    } else {
        Err(VerityError::BlockSize { bytes })
    }
}

/// Refuses devices without blocks, and those whose size in bytes is beyond what offsets can name.
pub(crate) fn check_data_blocks(blocks: u64, block_bytes: u32) -> Result<(), VerityError> {
    let size = blocks.checked_mul(u64::from(block_bytes));
    match size.and_then(|size| i64::try_from(size).ok()) {
        Some(size) if size > 0 => Ok(()),
        _ => Err(VerityError::DataBlocks { blocks }),
    }
}
