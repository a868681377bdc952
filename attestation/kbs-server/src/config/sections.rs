use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// PEM files for TLS.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// The certificate chain.
    pub certificate: PathBuf,
    /// The private key.
    pub private_key: PathBuf,
}

/// How resources, policies and reference values are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StorageKind {
    /// In a database with sealed values, changed through the admin API.
    #[default]
    Embedded,
    /// In files that the operator writes; they may be on a volume that replicas share.
    Files,
}

/// Where the broker keeps its things.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StorageSettings {
    /// How they are kept.
    pub kind: StorageKind,
    /// Of the embedded kind: the database.
    pub database: PathBuf,
    /// Of the embedded kind: the keys that seal what is in it.
    pub key_file: PathBuf,
    /// Of the kind in files: resources, as `<repository>/<type>/<tag>` below this directory.
    pub resources: PathBuf,
    /// Of the kind in files: reference values, a directory of JSON files.
    pub reference_values: PathBuf,
    /// Of the kind in files: the release policy (Rego).
    pub policy: PathBuf,
    /// The audit log (JSON lines). Each broker has one of its own.
    pub audit_log: PathBuf,
}

impl Default for StorageSettings {
    fn default() -> Self {
        Self {
            kind: StorageKind::default(),
            database: "broker.redb".into(),
            key_file: "storage-key".into(),
            resources: "resources".into(),
            reference_values: "reference-values".into(),
            policy: "policy.rego".into(),
            audit_log: "audit.jsonl".into(),
        }
    }
}

/// How tokens are made.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TokenSettings {
    /// The P-256 signing key in PKCS#8 PEM; made when it is missing.
    pub private_key: PathBuf,
    /// For how long a token is valid, in seconds.
    pub lifetime_s: u32,
    /// The `iss` of tokens. Where it is an address, it is announced to verifiers.
    pub issuer: String,
    /// The `aud` of tokens.
    pub audience: String,
    /// Former keys, in PEM: tokens made with them are accepted until they end.
    pub previous_keys: Vec<PathBuf>,
}

impl Default for TokenSettings {
    fn default() -> Self {
        Self {
            private_key: "token-key.pem".into(),
            lifetime_s: 300,
            issuer: "redoubt-kbs".to_owned(),
            audience: "redoubt-kbs".to_owned(),
            previous_keys: Vec::new(),
        }
    }
}

/// How challenges are given out and taken back.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SessionSettings {
    /// For how long a challenge can be answered, in seconds.
    pub lifetime_s: u32,
    /// The key that seals challenges; made when it is missing. Replicas share it.
    pub key_file: PathBuf,
    /// Where answered challenges are marked. Replicas share it.
    pub spent_challenges: PathBuf,
}

impl Default for SessionSettings {
    fn default() -> Self {
        Self {
            lifetime_s: 300,
            key_file: "session-key".into(),
            spent_challenges: "spent-challenges".into(),
        }
    }
}

/// How the broker answers.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpSettings {
    /// Answer 401 to every refusal, as Trustee does, for guests that know only this.
    pub trustee_status_codes: bool,
    /// How long one request may take, in milliseconds.
    pub request_timeout_ms: u32,
    /// How long open requests are waited for when the server stops, in milliseconds.
    pub shutdown_grace_ms: u32,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            trustee_status_codes: false,
            request_timeout_ms: 10_000,
            shutdown_grace_ms: 5_000,
        }
    }
}

impl HttpSettings {
    pub(crate) fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.request_timeout_ms.into())
    }

    pub(crate) fn shutdown_grace(&self) -> Duration {
        Duration::from_millis(self.shutdown_grace_ms.into())
    }
}

/// Who may change what the broker keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdminSettings {
    /// Ed25519 public keys in PEM. Without one there is no admin API.
    pub public_keys: Vec<PathBuf>,
}

/// How much is done at a time, and for whom.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitSettings {
    /// Requests of one address per second, on average (IPv6: of one /64 network).
    pub requests_per_second: u32,
    /// Requests of one address at once.
    pub burst: u32,
    /// How many addresses are told apart; further ones share a limit.
    pub max_addresses: u32,
    /// How many requests are worked on or wait at a time.
    pub max_requests_in_flight: u32,
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self {
            requests_per_second: 50,
            burst: 200,
            max_addresses: 10_000,
            max_requests_in_flight: 256,
        }
    }
}

/// Metrics for Prometheus.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MetricsSettings {
    /// Where `/metrics` is served, over plain HTTP and to everybody who can
    /// reach it; nowhere if it is missing.
    pub listen: Option<SocketAddr>,
}

/// What SEV-SNP evidence must show. VMPL 0, a valid signature and the binding
/// to the session are always asked for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one switch of its own in the file"
)]
pub struct SnpSettings {
    /// Trust AMD's own root keys (built in).
    pub amd_roots: bool,
    /// Further root certificates (ARK) in PEM, for instance a simulator's.
    /// Whoever holds such a root's key can make any evidence.
    pub trust_anchors: Vec<PathBuf>,
    /// Accept a guest policy that allows debugging: the host can read such a guest's memory.
    pub allow_debug: bool,
    /// Accept a guest policy that allows a migration agent.
    pub allow_migration: bool,
    /// Accept a guest policy that allows simultaneous multithreading.
    pub allow_smt: bool,
    /// The least TCB versions.
    pub minimum_tcb: MinimumTcb,
}

impl Default for SnpSettings {
    fn default() -> Self {
        Self {
            amd_roots: true,
            trust_anchors: Vec::new(),
            allow_debug: false,
            allow_migration: false,
            allow_smt: true,
            minimum_tcb: MinimumTcb::default(),
        }
    }
}

/// Least security version numbers, compared part by part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MinimumTcb {
    /// FMC (Turin and later).
    pub fmc: u8,
    /// Bootloader of the secure processor.
    pub bootloader: u8,
    /// Operating system of the secure processor.
    pub tee: u8,
    /// SNP firmware.
    pub snp: u8,
    /// CPU microcode.
    pub microcode: u8,
}
