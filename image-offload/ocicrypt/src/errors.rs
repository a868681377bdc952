//! What can be wrong with an encrypted layer or its keys.

use redoubt_errors::{ErrorCode, UserError};

/// Why a layer was not encrypted or decrypted. No variant carries a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, displaydoc::Display)]
#[non_exhaustive]
pub enum OcicryptError {
    /// the layer has no public encryption options
    PublicOptionsMissing,
    /// the public encryption options are not valid: {reason}
    PublicOptionsInvalid {
        /// What is wrong.
        reason: &'static str,
    },
    /// the layer cipher "{cipher}" is not supported
    UnknownCipher {
        /// The name in the public options.
        cipher: String,
    },
    /// the public encryption options try to set the nonce
    PublicNonce,
    /// the public encryption options have no HMAC of 32 bytes
    HmacMissing,
    /// the private encryption options are not valid: {reason}
    PrivateOptionsInvalid {
        /// What is wrong.
        reason: &'static str,
    },
    /// the layer's ciphertext does not match its HMAC
    HmacMismatch,
    /// the decrypted layer does not have the digest that was sealed with its key
    PlaintextDigest,
    /// the annotation {name} is not valid: {reason}
    AnnotationInvalid {
        /// Name of the annotation.
        name: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// the layer has no wrapped keys
    NoRecipients,
    /// none of the layer's wrapped keys is for a key at hand ({schemes})
    NoUsableRecipient {
        /// The kinds of recipient that the layer has.
        schemes: String,
    },
    /// the key packet is not valid: {reason}
    PacketInvalid {
        /// What is wrong.
        reason: &'static str,
    },
    /// the key packet is wrapped for the provider "{provider}", not for a key broker
    UnknownProvider {
        /// The provider in the packet.
        provider: String,
    },
    /// the key "{kid}" does not open the layer's key packet
    WrongKey {
        /// The key id in the packet.
        kid: String,
    },
    /// the key "{kid}" has {length} bytes instead of 32
    KeyLength {
        /// The key id.
        kid: String,
        /// Its length in bytes.
        length: usize,
    },
    /// the JWE is not valid: {reason}
    JweInvalid {
        /// What is wrong.
        reason: &'static str,
    },
    /// the JWE algorithm "{algorithm}" is not supported
    JweAlgorithm {
        /// `alg` or `enc` of the header.
        algorithm: String,
    },
    /// the JWE is not for the given private key
    JweWrongKey,
    /// RSA private keys are not supported here
    RsaPrivateKey,
    /// the PKCS #7 message is not valid: {reason}
    Pkcs7Invalid {
        /// What is wrong.
        reason: &'static str,
    },
    /// the PKCS #7 message is not for the given private key
    Pkcs7WrongKey,
    /// the key cannot be used: {reason}
    KeyInvalid {
        /// What is wrong.
        reason: &'static str,
    },
    /// the system gives no random numbers
    Random,
}

impl UserError for OcicryptError {
    fn code(&self) -> ErrorCode {
        ErrorCode(match self {
            Self::PublicOptionsMissing => "RDT-ENC-001",
            Self::PublicOptionsInvalid { .. } => "RDT-ENC-002",
            Self::UnknownCipher { .. } => "RDT-ENC-003",
            Self::PublicNonce => "RDT-ENC-004",
            Self::HmacMissing => "RDT-ENC-005",
            Self::PrivateOptionsInvalid { .. } => "RDT-ENC-006",
            Self::HmacMismatch => "RDT-ENC-007",
            Self::PlaintextDigest => "RDT-ENC-008",
            Self::AnnotationInvalid { .. } => "RDT-ENC-009",
            Self::NoRecipients => "RDT-ENC-010",
            Self::NoUsableRecipient { .. } => "RDT-ENC-011",
            Self::PacketInvalid { .. } => "RDT-ENC-012",
            Self::UnknownProvider { .. } => "RDT-ENC-013",
            Self::WrongKey { .. } => "RDT-ENC-014",
            Self::KeyLength { .. } => "RDT-ENC-015",
            Self::JweInvalid { .. } => "RDT-ENC-016",
            Self::JweAlgorithm { .. } => "RDT-ENC-017",
            Self::JweWrongKey => "RDT-ENC-018",
            Self::RsaPrivateKey => "RDT-ENC-019",
            Self::KeyInvalid { .. } => "RDT-ENC-020",
            Self::Random => "RDT-ENC-021",
            Self::Pkcs7Invalid { .. } => "RDT-ENC-022",
            Self::Pkcs7WrongKey => "RDT-ENC-023",
        })
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::RsaPrivateKey => {
                "encrypt for an EC P-256 key or a broker key; RSA decryption cannot be done in constant time"
            }
            Self::KeyLength { .. } => "a broker key for layers is 32 raw bytes",
            Self::WrongKey { .. } => {
                "the broker holds another key under this id than the image was encrypted with"
            }
            _ => return None,
        };
        Some(hint.to_owned())
    }
}
