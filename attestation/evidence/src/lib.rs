//! SEV-SNP reports, TDX quotes, certificate table and evidence JSON.
//!
//! Everything here is layout: bytes in, typed values out, and back. Nothing is
//! verified; a parsed [`SnpReport`] is only well-formed. `redoubt-verifier`
//! says what may be believed of it.
//!
//! - [`SnpReport`]: the 1184-byte attestation report (AMD 56860, `ATTESTATION_REPORT`).
//! - [`CertTable`]: the certificate table of an extended report (GHCB specification, AMD 56421).
//! - [`SnpEvidence`]: report and certificates together, and their key-broker JSON form.
//! - [`tdx::TdxQuote`]: a TDX quote of version 4 or 5.
//! - [`Evidence`]: any of them, as a file or a key broker carries it.
//! - [`psp`]: the messages a guest and a secure processor exchange.

#![forbid(unsafe_code)]

mod certs;
mod error;
mod evidence;
mod fields;
mod json;
mod layout;
mod product;
pub mod psp;
mod report;
mod show;
mod tcb;
pub mod tdx;

pub use certs::{CertEntry, CertKind, CertTable, Guid, MAX_CERT_BYTES, MAX_TABLE_BYTES};
pub use error::EvidenceError;
pub use evidence::Evidence;
pub use fields::{GuestPolicy, KeyInfo, PlatformInfo, SigningKey};
pub use json::{MAX_EVIDENCE_JSON_BYTES, SnpEvidence};
pub use layout::{REPORT_BYTES, RawFirmwareVersion, RawReport, RawSignature, SIGNED_BYTES};
pub use product::Product;
pub use report::{CpuId, FirmwareVersion, ReportVersion, SnpReport};
pub use show::{rows, show};
pub use tcb::{TcbLayout, TcbVersion};

/// The prefix of every subject name in a simulated certificate chain.
///
/// A verifier uses it only to warn; trust never depends on a name.
pub const SIMULATED_NAME_PREFIX: &str = "Redoubt simulated";
