use serde_json::json;
use sha2::{Digest, Sha256, Sha384, Sha512};

use crate::error::shortened;
use crate::{KbsProtocolError, Nonce, TeePublicKey, canonical_json};

/// The hash over the runtime data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum HashAlgorithm {
    /// SHA-256.
    Sha256,
    /// SHA-384, the protocol's default.
    #[default]
    Sha384,
    /// SHA-512.
    Sha512,
}

impl HashAlgorithm {
    /// Every algorithm.
    pub const ALL: [Self; 3] = [Self::Sha256, Self::Sha384, Self::Sha512];

    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }

    /// Reads a name.
    pub fn from_name(name: &str) -> Result<Self, KbsProtocolError> {
        Self::ALL
            .into_iter()
            .find(|algorithm| algorithm.name() == name)
            .ok_or_else(|| KbsProtocolError::UnsupportedHash(shortened(name)))
    }

    /// Hashes text; the digest stands left in 64 bytes, zeros follow.
    fn report_data(self, text: &str) -> [u8; 64] {
        let mut out = [0_u8; 64];
        let digest = match self {
            Self::Sha256 => Sha256::digest(text).to_vec(),
            Self::Sha384 => Sha384::digest(text).to_vec(),
            Self::Sha512 => Sha512::digest(text).to_vec(),
        };
        for (to, from) in out.iter_mut().zip(digest) {
            *to = from;
        }
        out
    }
}

/// `REPORT_DATA` of the CPU's evidence: it covers the nonce, the guest's key
/// and the evidence of further devices.
pub fn report_data(
    algorithm: HashAlgorithm,
    nonce: &Nonce,
    key: &TeePublicKey,
    additional_evidence: &str,
) -> Result<[u8; 64], KbsProtocolError> {
    let bound = json!({
        "additional-evidence": additional_evidence,
        "nonce": nonce.as_str(),
        "tee-pubkey": key.to_jwk(),
    });
    Ok(algorithm.report_data(&canonical_json(&bound)?))
}

/// `REPORT_DATA` of a further device's evidence: the nonce and the guest's key.
pub fn device_report_data(
    algorithm: HashAlgorithm,
    nonce: &Nonce,
    key: &TeePublicKey,
) -> Result<[u8; 64], KbsProtocolError> {
    let bound = json!({ "nonce": nonce.as_str(), "tee-pubkey": key.to_jwk() });
    Ok(algorithm.report_data(&canonical_json(&bound)?))
}
