//! Encrypted image layers: the ocicrypt format.
//!
//! A layer is encrypted with a key of its own (AES-256 in counter mode, HMAC
//! over the ciphertext). That key and the digest of the plaintext are the
//! layer's *private options*; they are wrapped once per recipient and travel
//! in the annotations of the layer's descriptor beside the *public options*,
//! which hold the HMAC. Three kinds of recipient are served: *provider packets*,
//! which name a key of the key broker, JWE for an elliptic-curve or RSA key, and
//! PKCS #7 for a certificate. All that needs RSA is behind the feature `rsa`,
//! which host tools have and guests do not.
//!
//! This crate holds the formats and the cryptography, no I/O. The pipeline
//! decides which recipient to try and where keys come from.

#![forbid(unsafe_code)]

mod annotations;
mod base64_text;
mod cipher;
#[cfg(feature = "rsa")]
mod der_text;
mod errors;
mod jwe;
mod keys;
mod media_type;
mod options;
#[cfg(feature = "rsa")]
mod pkcs7;
mod provider;
#[cfg(feature = "rsa")]
mod rsa_keys;

pub use annotations::{
    ENCRYPTED_KEY_PREFIX, LayerEncryption, PUBLIC_OPTIONS, Recipient, Recipients, annotations_for,
    is_encryption_annotation,
};
pub use cipher::{DecryptingReader, EncryptedLayer, LayerDecryptor, LayerEncryptor, LayerVerifier};
pub use errors::OcicryptError;
pub use jwe::JweMessage;
pub use keys::{PrivateKey, PublicKey};
pub use media_type::{Compression, LayerMediaType};
pub use options::{PrivateOptions, PublicOptions};
#[cfg(feature = "rsa")]
pub use pkcs7::Pkcs7Message;
pub use provider::{PacketVersion, ProviderPacket, WrapType};
#[cfg(feature = "rsa")]
pub use rsa_keys::RecipientCertificate;
