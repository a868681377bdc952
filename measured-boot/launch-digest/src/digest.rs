//! The launch digest as a value.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Length of a launch digest in bytes (SHA-384).
pub const LAUNCH_DIGEST_LEN: usize = 48;

/// The SNP launch digest: MEASUREMENT of the attestation report (AMD 56860, table 23).
///
/// Shown, parsed and serialised as 96 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LaunchDigest(pub [u8; LAUNCH_DIGEST_LEN]);

/// not a launch digest: expected {digits} hexadecimal digits
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, displaydoc::Display)]
pub struct ParseDigestError {
    /// How many digits such a digest has.
    pub digits: usize,
}

impl LaunchDigest {
    /// The digest's bytes, as they stand in a report.
    pub fn as_bytes(&self) -> &[u8; LAUNCH_DIGEST_LEN] {
        &self.0
    }
}

impl fmt::Display for LaunchDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for LaunchDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LaunchDigest({self})")
    }
}

impl FromStr for LaunchDigest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; LAUNCH_DIGEST_LEN];
        hex::decode_to_slice(text.trim(), &mut bytes).map_err(|_| ParseDigestError {
            digits: 2 * LAUNCH_DIGEST_LEN,
        })?;
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for LaunchDigest {
    type Error = ParseDigestError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<LaunchDigest> for String {
    fn from(digest: LaunchDigest) -> Self {
        digest.to_string()
    }
}
