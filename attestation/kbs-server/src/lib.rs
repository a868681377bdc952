//! Key broker server.
//!
//! Speaks the key broker protocol 0.4.0 as Trustee does, so that other guests
//! can use it, and verifies SEV-SNP evidence itself. A resource is released
//! when the evidence is authentic and fresh, and the release policy agrees;
//! every release, every refusal and every change is on record before it is
//! answered.
//!
//! [`init`] sets up a directory, [`serve`] runs a broker from it.

#![forbid(unsafe_code)]

mod admin;
mod appraisal;
mod audit;
mod broker;
mod config;
mod error;
mod files;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod http;
mod init;
mod jwks;
mod keyring;
mod metrics;
mod names;
mod policy;
mod reference;
mod refusal;
mod rvps;
mod server;
mod session;
mod spent;
mod stamp;
mod storage;
mod token;

pub use admin::{
    AdminClaims, AdminKeys, AdminRole, AdminSigner, ImportReport, PolicyDocument, ReferenceSummary,
    ResourcePage, parse_admin_key,
};
pub use appraisal::Findings;
pub use audit::{
    AuditEvent, AuditHead, AuditLog, AuditRecord, follow_audit_line, verify_audit_log,
};
pub use config::{
    AdminSettings, HttpSettings, LimitSettings, MetricsSettings, MinimumTcb, ServerConfig,
    SessionSettings, SnpSettings, StorageKind, StorageSettings, TlsFiles, TokenSettings,
};
pub use error::KbsServerError;
pub use init::{ADMIN_KEY_FILE, DEFAULT_POLICY, InitFiles, InitOptions, InitSummary, init};
pub use jwks::{Jwks, VerificationKey};
pub use names::{PolicyName, ReferenceSetName, Tenant};
pub use policy::{PolicyDecision, test_policy};
pub use reference::{SnpReferenceValue, parse_reference_values};
pub use refusal::Refusal;
pub use rvps::{RvpsImport, parse_rvps};
pub use server::{Server, serve};
pub use storage::{EmbeddedStorage, PolicySummary, ResourceSummary};
pub use token::TokenClaims;
