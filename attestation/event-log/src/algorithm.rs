//! Hash algorithms by the numbers of the TCG's algorithm registry.

use std::fmt;

use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256, Sha384, Sha512};
use sm3::Sm3;

/// A hash algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HashAlgorithm {
    /// SHA-1 (0x4).
    Sha1,
    /// SHA-256 (0xb).
    Sha256,
    /// SHA-384 (0xc), which RTMRs are made of.
    Sha384,
    /// SHA-512 (0xd).
    Sha512,
    /// SM3 (0x12).
    Sm3,
    /// One that this version does not know.
    Other(u16),
}

impl HashAlgorithm {
    /// Length of a digest in bytes; `None` for an unknown algorithm.
    pub fn digest_len(self) -> Option<u16> {
        match self {
            Self::Sha1 => Some(20),
            Self::Sha256 | Self::Sm3 => Some(32),
            Self::Sha384 => Some(48),
            Self::Sha512 => Some(64),
            Self::Other(_) => None,
        }
    }

    /// The digest of some data; `None` where it cannot be computed.
    pub(crate) fn digest(self, data: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Sha256 => Some(Sha256::digest(data).to_vec()),
            Self::Sha384 => Some(Sha384::digest(data).to_vec()),
            Self::Sha512 => Some(Sha512::digest(data).to_vec()),
            Self::Sm3 => Some(Sm3::digest(data).to_vec()),
            Self::Sha1 | Self::Other(_) => None,
        }
    }
}

impl From<u16> for HashAlgorithm {
    fn from(number: u16) -> Self {
        match number {
            0x4 => Self::Sha1,
            0xb => Self::Sha256,
            0xc => Self::Sha384,
            0xd => Self::Sha512,
            0x12 => Self::Sm3,
            other => Self::Other(other),
        }
    }
}

impl fmt::Display for HashAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sha1 => f.write_str("sha1"),
            Self::Sha256 => f.write_str("sha256"),
            Self::Sha384 => f.write_str("sha384"),
            Self::Sha512 => f.write_str("sha512"),
            Self::Sm3 => f.write_str("sm3"),
            Self::Other(number) => write!(f, "{number:#x}"),
        }
    }
}

impl Serialize for HashAlgorithm {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
