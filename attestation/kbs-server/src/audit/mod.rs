//! The audit log: JSON lines, each with the hash of the one before.

mod chain;
mod log;

use serde::{Deserialize, Serialize};

pub use chain::{AuditHead, follow_audit_line, verify_audit_log};
pub use log::AuditLog;

/// Longest text in a record, in characters.
const MAX_TEXT_CHARS: usize = 4096;

/// What a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AuditEvent {
    /// The server started.
    Started,
    /// The server stopped in order.
    Stopped,
    /// The end of the log was torn by a crash and was cut off.
    Repaired,
    /// Evidence was accepted.
    EvidenceAccepted,
    /// Evidence was refused.
    EvidenceRefused,
    /// A resource was released.
    ResourceReleased,
    /// A resource was not released.
    ResourceRefused,
    /// An administrator stores a resource.
    ResourceStored,
    /// An administrator removes a resource.
    ResourceDeleted,
    /// An administrator sets a policy.
    PolicySet,
    /// An administrator removes a policy.
    PolicyDeleted,
    /// An administrator imports reference values.
    ReferencesImported,
    /// An administrator removes reference values.
    ReferencesDeleted,
    /// An administrator has the storage's key replaced.
    StorageKeyRotated,
    /// A request to the admin API was refused, or did not succeed after it was recorded.
    AdminRefused,
}

/// A record without its place in the log. Never holds a secret.
#[derive(Clone, Debug, Default, Serialize)]
pub struct AuditRecord {
    /// Whose resources; left out for the tenant of addresses that name none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The address that asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// The administrator, as the token names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// The kind of TEE.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tee: Option<String>,
    /// The nonce of the handshake, which joins a release to its evidence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nonce: Option<String>,
    /// The launch digest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub launch_digest: Option<String>,
    /// `HOST_DATA`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_data: Option<String>,
    /// The reference value that matched, or the set that was changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// The resource.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// The policy that decided or was changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// SHA-256 of a policy or a document of reference values, never of a resource.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// The code that the guest was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<&'static str>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl AuditRecord {
    /// Cuts texts that came from outside.
    fn bounded(self) -> Self {
        let cut = |text: Option<String>| {
            text.map(|text| {
                redoubt_errors::flatten(&text)
                    .chars()
                    .take(MAX_TEXT_CHARS)
                    .collect()
            })
        };
        Self {
            tenant: cut(self.tenant),
            peer: cut(self.peer),
            actor: cut(self.actor),
            tee: cut(self.tee),
            nonce: cut(self.nonce),
            launch_digest: cut(self.launch_digest),
            host_data: cut(self.host_data),
            reference: cut(self.reference),
            resource: cut(self.resource),
            policy: cut(self.policy),
            sha256: cut(self.sha256),
            code: self.code,
            reason: cut(self.reason),
        }
    }
}
