//! Encrypted image layers: the ocicrypt format.
//!
//! A layer is encrypted with a key of its own (AES-256 in counter mode, HMAC
//! over the ciphertext). That key and the digest of the plaintext are the
//! layer's *private options*; they are wrapped once per recipient and travel
//! in the annotations of the layer's descriptor beside the *public options*,
//! which hold the HMAC. Two kinds of recipient are served: *provider packets*,
//! which name a key of the key broker, and JWE for an elliptic-curve key.
//!
//! This crate holds the formats and the cryptography, no I/O. The pipeline
//! decides which recipient to try and where keys come from.

#![forbid(unsafe_code)]

mod annotations;
mod base64_text;
mod cipher;
mod errors;
mod jwe;
mod keys;
mod media_type;
mod options;
mod provider;

pub use annotations::{
    ENCRYPTED_KEY_PREFIX, LayerEncryption, PUBLIC_OPTIONS, Recipient, annotations_for,
};
pub use cipher::{DecryptingReader, EncryptedLayer, LayerDecryptor, LayerEncryptor, LayerVerifier};
pub use errors::OcicryptError;
pub use jwe::JweMessage;
pub use keys::{PrivateKey, PublicKey};
pub use media_type::{Compression, LayerMediaType};
pub use options::{PrivateOptions, PublicOptions};
pub use provider::{ProviderPacket, WrapType};
