//! Key broker server.
//!
//! Speaks the key broker protocol 0.4.0 as Trustee does, so that other guests
//! can use it, and verifies SEV-SNP evidence itself. A resource is released
//! when the evidence is authentic and fresh, and the release policy agrees;
//! every release and every refusal is on record before it is answered.
//!
//! [`init`] sets up a directory, [`serve`] runs a broker from it.

#![forbid(unsafe_code)]

mod appraisal;
mod audit;
mod broker;
mod config;
mod error;
mod files;
mod http;
mod init;
mod policy;
mod reference;
mod refusal;
mod resources;
mod server;
mod session;
mod stamp;
mod token;

pub use appraisal::Findings;
pub use audit::{AuditEvent, AuditHead, AuditLog, AuditRecord, verify_audit_log};
pub use config::{
    HttpSettings, MinimumTcb, ServerConfig, SessionSettings, SnpSettings, StoragePaths, TlsFiles,
    TokenSettings,
};
pub use error::KbsServerError;
pub use init::{DEFAULT_POLICY, InitOptions, InitSummary, init};
pub use reference::{SnpReferenceValue, parse_reference_values};
pub use refusal::Refusal;
pub use server::{Server, serve};
pub use token::TokenClaims;
