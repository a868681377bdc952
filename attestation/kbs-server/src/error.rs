use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use redoubt_errors::{ErrorCode, UserError};

/// What can keep a key broker from being set up, started or run.
///
/// These are for the operator. What a guest is told is in [`crate::Refusal`].
#[expect(clippy::doc_markdown, reason = "the comments are the messages")]
#[derive(Debug, thiserror::Error, displaydoc::Display)]
pub enum KbsServerError {
    /// cannot read {path}
    Read {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// cannot write {path}
    Write {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// {path} is there already; a key broker is not set up over another
    AlreadyThere {
        /// The file in the way.
        path: PathBuf,
    },
    /// {path} has {size_bytes} bytes, more than the {limit_bytes} allowed
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        size_bytes: u64,
        /// The limit.
        limit_bytes: u64,
    },
    /// {path}, line {line}, key "{key}": {reason}
    ConfigSyntax {
        /// The configuration file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// The key on this line, or what stands there instead.
        key: String,
        /// What the TOML parser said.
        reason: String,
    },
    /// {path} lacks the key "{key}"
    ConfigMissing {
        /// The configuration file.
        path: PathBuf,
        /// The key.
        key: String,
    },
    /// {path}, key "{key}": {reason}
    ConfigValue {
        /// The configuration file.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// What is wrong with its value.
        reason: String,
    },
    /// {path} is not usable as TLS certificate or key: {reason}
    TlsMaterial {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// {path} is not a P-256 private key in PKCS#8 PEM
    TokenKey {
        /// The file.
        path: PathBuf,
    },
    /// {path} can be read by others than its owner (mode {mode:o})
    KeyIsReadable {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// {path} is not usable as trust anchor: {reason}
    TrustAnchor {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// policy {path} is not usable: {reason}
    Policy {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// reference values {path} are not usable: {reason}
    ReferenceValues {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// audit log {path} is not usable: {reason}
    AuditLog {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// audit log {path} is in use by another key broker
    AuditLogInUse {
        /// The file.
        path: PathBuf,
    },
    /// certificate name "{0}" is neither a host name nor an IP address
    CertificateName(String),
    /// cannot make a certificate or key
    KeyGeneration(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// cannot listen on {address}
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// the server stopped
    Serve(#[source] io::Error),
    /// no random numbers from the operating system
    NoRandomness,
}

impl UserError for KbsServerError {
    fn code(&self) -> ErrorCode {
        ErrorCode(match self {
            Self::Read { .. } => "RDT-KBS-101",
            Self::Write { .. } => "RDT-KBS-102",
            Self::AlreadyThere { .. } => "RDT-KBS-103",
            Self::TooLarge { .. } => "RDT-KBS-104",
            Self::ConfigSyntax { .. } => "RDT-KBS-105",
            Self::ConfigValue { .. } => "RDT-KBS-106",
            Self::TlsMaterial { .. } => "RDT-KBS-107",
            Self::TokenKey { .. } => "RDT-KBS-108",
            Self::KeyIsReadable { .. } => "RDT-KBS-109",
            Self::TrustAnchor { .. } => "RDT-KBS-110",
            Self::Policy { .. } => "RDT-KBS-111",
            Self::ReferenceValues { .. } => "RDT-KBS-112",
            Self::AuditLog { .. } => "RDT-KBS-113",
            Self::CertificateName(_) => "RDT-KBS-114",
            Self::KeyGeneration(_) => "RDT-KBS-115",
            Self::Bind { .. } => "RDT-KBS-116",
            Self::Serve(_) => "RDT-KBS-117",
            Self::NoRandomness => "RDT-KBS-118",
            Self::ConfigMissing { .. } => "RDT-KBS-119",
            Self::AuditLogInUse { .. } => "RDT-KBS-120",
        })
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::AlreadyThere { .. } => Some("choose an empty directory".to_owned()),
            Self::KeyIsReadable { path, .. } => Some(format!("chmod 600 {}", path.display())),
            Self::TokenKey { path } => Some(format!(
                "remove {} and start again: a new key is made",
                path.display()
            )),
            Self::Bind { .. } => {
                Some("change `listen` in the configuration, or stop what listens there".to_owned())
            }
            Self::AuditLog { .. } => {
                Some("move the file away to begin a new log; keep it as evidence".to_owned())
            }
            _ => None,
        }
    }
}
