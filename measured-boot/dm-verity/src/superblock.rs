//! The superblock that `veritysetup` writes before a tree.

use crate::algorithm::Algorithm;
use crate::error::VerityError;
use crate::format::{Format, HashType, MAX_SALT_LEN, check_data_blocks};

/// Length of the superblock in bytes; it fills a block of the tree, the rest is zeros.
pub const SUPERBLOCK_LEN: usize = 512;

const MAGIC: &[u8; 8] = b"verity\0\0";
const VERSION: u32 = 1;
const AT_VERSION: usize = 8;
const AT_HASH_TYPE: usize = 12;
const AT_UUID: usize = 16;
const AT_ALGORITHM: usize = 32;
const ALGORITHM_LEN: usize = 32;
const AT_DATA_BLOCK_BYTES: usize = 64;
const AT_HASH_BLOCK_BYTES: usize = 68;
const AT_DATA_BLOCKS: usize = 72;
const AT_SALT_LEN: usize = 80;
const AT_PADDING: usize = 82;
const AT_SALT: usize = 88;
const AT_REST: usize = AT_SALT + MAX_SALT_LEN;

/// What a superblock says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// A name for people; not measured.
    pub uuid: [u8; 16],
    /// The format of the tree.
    pub format: Format,
    /// Number of data blocks.
    pub data_blocks: u64,
}

impl Superblock {
    /// The superblock of a device, if the device can exist.
    pub fn new(uuid: [u8; 16], format: Format, data_blocks: u64) -> Result<Self, VerityError> {
        check_data_blocks(data_blocks, format.data_block_bytes())?;
        Ok(Self {
            uuid,
            format,
            data_blocks,
        })
    }

    /// Reads a superblock; what follows its 512 bytes is not looked at.
    pub fn parse(bytes: &[u8]) -> Result<Self, VerityError> {
        let bytes: &[u8; SUPERBLOCK_LEN] = bytes
            .first_chunk()
            .ok_or(VerityError::SuperblockLength { len: bytes.len() })?;
        let wrong = |offset, field| VerityError::Superblock { offset, field };
        if !bytes.starts_with(MAGIC) {
            return Err(wrong(0, "magic"));
        }
        if u32_at(bytes, AT_VERSION) != VERSION {
            return Err(wrong(AT_VERSION, "version"));
        }
        let hash_type = match u32_at(bytes, AT_HASH_TYPE) {
            0 => HashType::SaltLast,
            1 => HashType::SaltFirst,
            _ => return Err(wrong(AT_HASH_TYPE, "hash type")),
        };
        let name = &bytes[AT_ALGORITHM..AT_ALGORITHM + ALGORITHM_LEN];
        let (name, rest) = match name.iter().position(|byte| *byte == 0) {
            Some(end) => name.split_at(end),
            None => (name, &[][..]),
        };
        if rest.iter().any(|byte| *byte != 0) {
            return Err(wrong(AT_ALGORITHM, "algorithm"));
        }
        let algorithm = Algorithm::from_name(&String::from_utf8_lossy(name))?;
        let salt_len = usize::from(u16::from_le_bytes(array_at(bytes, AT_SALT_LEN)));
        if salt_len > MAX_SALT_LEN {
            return Err(VerityError::SaltLength { len: salt_len });
        }
        let (salt, unused) = bytes[AT_SALT..AT_REST].split_at(salt_len);
        // Bytes that nothing reads could carry what nobody checked.
        for (offset, field, bytes) in [
            (AT_PADDING, "padding", &bytes[AT_PADDING..AT_SALT]),
            (AT_SALT + salt_len, "rest of the salt", unused),
            (AT_REST, "padding", &bytes[AT_REST..]),
        ] {
            if bytes.iter().any(|byte| *byte != 0) {
                return Err(wrong(offset, field));
            }
        }
        let format = Format::new(
            hash_type,
            algorithm,
            u32_at(bytes, AT_DATA_BLOCK_BYTES),
            u32_at(bytes, AT_HASH_BLOCK_BYTES),
            salt,
        )?;
        let data_blocks = u64::from_le_bytes(array_at(bytes, AT_DATA_BLOCKS));
        Self::new(array_at(bytes, AT_UUID), format, data_blocks)
    }

    /// The superblock's bytes, padded to a block of the tree.
    pub fn to_block(&self) -> Vec<u8> {
        let format = &self.format;
        let mut block = vec![0; format.hash_block_bytes() as usize];
        let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, MAGIC);
        put(AT_VERSION, &VERSION.to_le_bytes());
        put(AT_HASH_TYPE, &format.hash_type().number().to_le_bytes());
        put(AT_UUID, &self.uuid);
        put(AT_ALGORITHM, format.algorithm().name().as_bytes());
        put(
            AT_DATA_BLOCK_BYTES,
            &format.data_block_bytes().to_le_bytes(),
        );
        put(
            AT_HASH_BLOCK_BYTES,
            &format.hash_block_bytes().to_le_bytes(),
        );
        put(AT_DATA_BLOCKS, &self.data_blocks.to_le_bytes());
        let salt_len = u16::try_from(format.salt().len()).unwrap_or_default();
        put(AT_SALT_LEN, &salt_len.to_le_bytes());
        put(AT_SALT, format.salt());
        block
    }
}

/// `N` bytes at an offset that lies within the superblock.
fn array_at<const N: usize>(bytes: &[u8; SUPERBLOCK_LEN], at: usize) -> [u8; N] {
    bytes[at..].first_chunk().copied().unwrap_or([0; N])
}

fn u32_at(bytes: &[u8; SUPERBLOCK_LEN], at: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, at))
}
