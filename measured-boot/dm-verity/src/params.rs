//! `kernel_verity_params`: what a measured command line says about a root disk.

use std::fmt;
use std::str::FromStr;

use crate::algorithm::Algorithm;
use crate::error::VerityError;
use crate::format::{Format, HashType, check_block_bytes, check_data_blocks};

/// The longest list of parameters in bytes.
const MAX_LEN: usize = 1024;
/// Bytes of a sector in device-mapper tables.
const SECTOR_BYTES: u64 = 512;

/// A tree of SHA-256 with the salt first, as Kata Containers writes it:
/// `root_hash=…,salt=…,data_blocks=…,data_block_size=…,hash_block_size=…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerityParams {
    root_hash: [u8; 32],
    format: Format,
    data_blocks: u64,
}

/// The keys of the list, in the order in which they are written.
const KEYS: [&str; 5] = [
    "root_hash",
    "salt",
    "data_blocks",
    "data_block_size",
    "hash_block_size",
];

impl VerityParams {
    /// The parameters of a tree.
    pub fn new(
        root_hash: [u8; 32],
        salt: &[u8],
        data_blocks: u64,
        data_block_bytes: u32,
        hash_block_bytes: u32,
    ) -> Result<Self, VerityError> {
        let format = Format::new(
            HashType::SaltFirst,
            Algorithm::Sha256,
            data_block_bytes,
            hash_block_bytes,
            salt,
        )?;
        check_data_blocks(data_blocks, data_block_bytes)?;
        Ok(Self {
            root_hash,
            format,
            data_blocks,
        })
    }

    /// The root hash.
    pub fn root_hash(&self) -> [u8; 32] {
        self.root_hash
    }

    /// The format of the tree.
    pub fn format(&self) -> &Format {
        &self.format
    }

    /// Number of data blocks.
    pub fn data_blocks(&self) -> u64 {
        self.data_blocks
    }

    /// Length of the verified device in sectors of 512 bytes.
    pub fn sectors(&self) -> u64 {
        // Neither overflows: the size in bytes was checked.
        self.data_blocks * (u64::from(self.format.data_block_bytes()) / SECTOR_BYTES)
    }

    /// Where the tree begins on a device that holds data, superblock and tree, in blocks of the
    /// tree's size.
    pub fn tree_block(&self) -> u64 {
        let data_bytes = self.sectors() * SECTOR_BYTES;
        data_bytes.div_ceil(u64::from(self.format.hash_block_bytes())) + 1
    }

    /// Length in bytes of a device that holds data, superblock and tree.
    pub fn device_bytes(&self) -> u64 {
        let block_bytes = u64::from(self.format.hash_block_bytes());
        let digests_per_block = block_bytes / self.format.algorithm().digest_len() as u64;
        let mut tree_blocks = 0;
        let mut level = self.data_blocks;
        while level > 1 {
            level = level.div_ceil(digests_per_block);
            tree_blocks += level;
        }
        // The data fit into an i64, and a tree is smaller than its data.
        (self.tree_block() + tree_blocks) * block_bytes
    }

    /// The arguments of device-mapper's `verity` target: data on one device, the tree on another
    /// (or the same) from a block of the tree's size on.
    pub fn table(&self, data_device: &str, hash_device: &str, hash_start_block: u64) -> String {
        let format = &self.format;
        let salt = match format.salt() {
            [] => "-".to_owned(),
            salt => hex::encode(salt),
        };
        format!(
            "{} {data_device} {hash_device} {} {} {} {hash_start_block} {} {} {salt}",
            format.hash_type().number(),
            format.data_block_bytes(),
            format.hash_block_bytes(),
            self.data_blocks,
            format.algorithm().name(),
            hex::encode(self.root_hash),
        )
    }
}

impl FromStr for VerityParams {
    type Err = VerityError;

    fn from_str(text: &str) -> Result<Self, VerityError> {
        if text.len() > MAX_LEN {
            return Err(VerityError::ParamsLength { len: text.len() });
        }
        let mut values: [Option<&str>; KEYS.len()] = [None; KEYS.len()];
        for part in text.split(',') {
            let unknown = || VerityError::UnknownParam {
                text: part.to_owned(),
            };
            let (key, value) = part.split_once('=').ok_or_else(unknown)?;
            let index = KEYS.iter().position(|known| *known == key);
            let index = index.ok_or_else(unknown)?;
            if values[index].replace(value).is_some() {
                return Err(VerityError::ParamTwice { key: KEYS[index] });
            }
        }
        let value = |index: usize| {
            let key = KEYS[index];
            values[index].ok_or(VerityError::MissingParam { key })
        };
        let (root_hash, salt) = (value(0)?, value(1)?);
        let root_hash = hex::decode(root_hash)
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or_else(|| wrong("root_hash", root_hash, "64 hexadecimal digits"))?;
        let salt = hex::decode(salt).map_err(|_| wrong("salt", salt, "hexadecimal digits"))?;
        let data_blocks = number("data_blocks", value(2)?)?;
        let block_bytes = |index: usize| {
            let bytes = number(KEYS[index], value(index)?)?;
            check_block_bytes(bytes)?;
            u32::try_from(bytes).map_err(|_| VerityError::BlockSize { bytes })
        };
        Self::new(
            root_hash,
            &salt,
            data_blocks,
            block_bytes(3)?,
            block_bytes(4)?,
        )
    }
}

impl fmt::Display for VerityParams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "root_hash={},salt={},data_blocks={},data_block_size={},hash_block_size={}",
            hex::encode(self.root_hash),
            hex::encode(self.format.salt()),
            self.data_blocks,
            self.format.data_block_bytes(),
            self.format.hash_block_bytes()
        )
    }
}

fn wrong(key: &'static str, value: &str, expected: &'static str) -> VerityError {
    VerityError::ParamValue {
        key,
        value: value.to_owned(),
        expected,
    }
}

/// Digits alone: the standard library would take a plus sign, too.
fn number(key: &'static str, value: &str) -> Result<u64, VerityError> {
    Some(value)
        .filter(|value| value.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|value| value.parse().ok())
        .ok_or_else(|| wrong(key, value, "a number"))
}
