//! Key broker protocol 0.4.0: messages, binding and JWE.
//!
//! The protocol is the one that Confidential Containers' guests and brokers
//! speak. A guest asks for a challenge (`POST /kbs/v0/auth`), answers it with
//! evidence whose `REPORT_DATA` covers the challenge and the guest's fresh
//! public key (`POST /kbs/v0/attest`), and then fetches resources that are
//! encrypted to this key (`GET /kbs/v0/resource/<repository>/<type>/<tag>`).
//!
//! This crate is pure: it knows texts and bytes, no sockets, no files, no
//! clock. Both sides of the protocol use it.

#![forbid(unsafe_code)]

mod binding;
mod cookie;
mod error;
mod failure;
mod jcs;
mod jwe;
mod jwk;
mod message;
mod nonce;
mod resource;
mod tee;
mod token;

pub use binding::{HashAlgorithm, device_report_data, report_data};
pub use cookie::{SESSION_COOKIE, SessionCookie};
pub use error::{KbsProtocolError, MessageKind};
pub use failure::{ERROR_TYPE_PREFIX, ErrorBody, ErrorKind};
pub use jcs::canonical_json;
pub use jwe::JweResponse;
pub use jwk::{KEY_ALGORITHM, TeeKeyPair, TeePublicKey};
pub use message::{
    AttestRequest, AttestResponse, AuthRequest, Challenge, InitDataMessage, RuntimeData,
    TeeEvidence,
};
pub use nonce::Nonce;
pub use resource::ResourcePath;
pub use tee::Tee;
pub use token::TokenTimes;

/// The only protocol version that today's brokers and guests accept, compared as text.
pub const PROTOCOL_VERSION: &str = "0.4.0";

/// First part of every path of the protocol.
pub const BASE_PATH: &str = "/kbs/v0";

/// Largest request body that a broker reads, in bytes (2 MiB, as Trustee does).
pub const MAX_REQUEST_BYTES: usize = 2 * 1024 * 1024;

/// Largest answer that a guest reads, in bytes: a resource of
/// [`MAX_RESOURCE_BYTES`] in base64 with its JWE members fits.
pub const MAX_RESPONSE_BYTES: usize = 2 * 1024 * 1024;

/// Largest resource that a broker releases, in bytes (1 MiB).
pub const MAX_RESOURCE_BYTES: usize = 1024 * 1024;

/// Largest attestation token, in bytes. Tokens travel in a header.
pub const MAX_TOKEN_BYTES: usize = 128 * 1024;
