use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use redoubt_errors::{ErrorCode, UserError};
use redoubt_kbs_protocol::ResourcePath;

use crate::names::PolicyName;

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
    /// database {path} is not usable
    Database {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: Box<redb::Error>,
    },
    /// database {path} is in use by another process
    DatabaseInUse {
        /// The file.
        path: PathBuf,
    },
    /// database {path} is of another format
    DatabaseFormat {
        /// The file.
        path: PathBuf,
    },
    /// database {path} has a record that cannot be read ({record}): {reason}
    Unsealable {
        /// The file.
        path: PathBuf,
        /// The record's table and name.
        record: String,
        /// What is wrong with it.
        reason: String,
    },
    /// storage keys {path} are not usable: {reason}
    StorageKeys {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// {path} is not a session key of 64 hexadecimal digits
    SessionKey {
        /// The file.
        path: PathBuf,
    },
    /// {path} is not an Ed25519 key in PEM
    AdminKey {
        /// The file.
        path: PathBuf,
    },
    /// policy "{name}" is not usable: {reason}
    PolicyText {
        /// Its name.
        name: PolicyName,
        /// What is wrong.
        reason: String,
    },
    /// there is no policy "{name}"
    NoSuchPolicy {
        /// Its name.
        name: PolicyName,
    },
    /// policy "{name}" decides on {path}
    PolicyInUse {
        /// Its name.
        name: PolicyName,
        /// A resource that names it.
        path: ResourcePath,
    },
    /// resource has {size_bytes} bytes, more than the {limit_bytes} allowed
    ResourceTooLarge {
        /// Its size.
        size_bytes: usize,
        /// The limit.
        limit_bytes: usize,
    },
    /// there are {limit} {what} already, and no room for more
    TooMany {
        /// Of what.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// the broker keeps resources, policies and reference values in files
    StorageInFiles,
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
            Self::ReferenceValues { .. } => "RDT-KBS-112",
            Self::AuditLog { .. } => "RDT-KBS-113",
            Self::CertificateName(_) => "RDT-KBS-114",
            Self::KeyGeneration(_) => "RDT-KBS-115",
            Self::Bind { .. } => "RDT-KBS-116",
            Self::Serve(_) => "RDT-KBS-117",
            Self::NoRandomness => "RDT-KBS-118",
            Self::ConfigMissing { .. } => "RDT-KBS-119",
            Self::AuditLogInUse { .. } => "RDT-KBS-120",
            Self::Database { .. } => "RDT-KBS-121",
            Self::DatabaseInUse { .. } => "RDT-KBS-122",
            Self::DatabaseFormat { .. } => "RDT-KBS-123",
            Self::Unsealable { .. } => "RDT-KBS-124",
            Self::StorageKeys { .. } => "RDT-KBS-125",
            Self::SessionKey { .. } => "RDT-KBS-126",
            Self::AdminKey { .. } => "RDT-KBS-127",
            Self::PolicyText { .. } => "RDT-KBS-128",
            Self::NoSuchPolicy { .. } => "RDT-KBS-129",
            Self::PolicyInUse { .. } => "RDT-KBS-130",
            Self::ResourceTooLarge { .. } => "RDT-KBS-131",
            Self::TooMany { .. } => "RDT-KBS-132",
            Self::StorageInFiles => "RDT-KBS-133",
        })
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::AlreadyThere { .. } => Some("choose an empty directory".to_owned()),
            Self::KeyIsReadable { path, .. } => Some(format!("chmod 600 {}", path.display())),
            Self::TokenKey { path } | Self::SessionKey { path } => Some(format!(
                "remove {} and start again: a new key is made",
                path.display()
            )),
            Self::Bind { .. } => {
                Some("change `listen` in the configuration, or stop what listens there".to_owned())
            }
            Self::AuditLog { .. } => {
                Some("move the file away to begin a new log; keep it as evidence".to_owned())
            }
            Self::DatabaseInUse { .. } => Some(
                "one broker opens a database; ask it, with `redoubt kbs` commands and --config or --url"
                    .to_owned(),
            ),
            Self::StorageKeys { .. } | Self::Unsealable { .. } => Some(
                "restore database and key file from the same backup; without its key nothing in a database can be read"
                    .to_owned(),
            ),
            Self::AdminKey { .. } => Some(
                "make one with `openssl genpkey -algorithm ed25519`, or use those of `redoubt kbs init`"
                    .to_owned(),
            ),
            Self::NoSuchPolicy { .. } => Some("set it with `redoubt kbs policy set`".to_owned()),
            Self::StorageInFiles => {
                Some("change the files; the broker reads them again at once".to_owned())
            }
            _ => None,
        }
    }
}
