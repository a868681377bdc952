//! Initdata: TOML document, annotation, disk image and digest.
//!
//! Initdata is the owner's configuration of a confidential guest: the policy,
//! the key broker's address and the like. The host carries it, but its digest
//! is part of what the TEE reports (`HOST_DATA` on SEV-SNP, `MRCONFIGID` on
//! TDX), so the guest and the key broker notice any change.
//!
//! It travels as `base64(gzip(TOML))` in an annotation, and into the guest as
//! a raw disk: the magic `initdata`, the compressed length as little-endian
//! `u64`, the gzip stream, zeros up to a multiple of 512 bytes.

#![forbid(unsafe_code)]

mod annotation;
mod disk;
mod document;
mod error;
mod gzip;
mod render;

pub use annotation::{ANNOTATION, MAX_ANNOTATION_BYTES};
pub use disk::{DISK_HEADER_LEN, DISK_MAGIC, SECTOR_LEN, compressed_len, pack, unpack};
pub use document::{Algorithm, Initdata, VERSION, fitted};
pub use error::InitdataError;
pub use gzip::{MAX_COMPRESSED_BYTES, MAX_DOCUMENT_BYTES};

/// Entry that configures the attestation agent's part.
pub const AA_TOML: &str = "aa.toml";
/// Entry that configures key broker and image pull.
pub const CDH_TOML: &str = "cdh.toml";
/// Entry that holds the agent policy.
pub const POLICY_REGO: &str = "policy.rego";
