//! SEV-SNP ID blocks and their authentication (AMD 56860, sections on `SNP_LAUNCH_FINISH`).
//!
//! An ID block says which launch digest and guest policy its owner means, and names the guest. The
//! owner signs it with an ID key, and may vouch for that key with an author key. The CPU refuses to
//! start a guest whose ID block does not hold, and repeats names and keys in every report:
//!
//! - [`IdBlock`]: the 96 bytes that are signed.
//! - [`IdAuth`]: the 4096 bytes with keys and signatures.
//! - [`SigningKey`]: an ID key or author key, ECDSA over P-384.

#![forbid(unsafe_code)]

mod auth;
mod block;
mod error;
mod fields;
mod key;

pub use auth::{ID_AUTH_BYTES, IdAuth};
pub use block::{ID_BLOCK_BYTES, IdBlock};
pub use error::{IdBlockError, IdPart};
pub use key::{KEY_BYTES, PublicKey, SIGNATURE_BYTES, SigningKey};
