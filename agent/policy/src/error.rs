//! What can go wrong between a request and the policy's word on it.

use redoubt_errors::{ErrorCode, UserError};

/// Stands for the reason of a rule that prints nothing.
pub(crate) const NO_REASON: &str = "no body of the rule allows it";

#[expect(clippy::doc_markdown, reason = "the comments are the messages")]
/// Why a request was refused or a policy could not be loaded.
#[derive(Debug, thiserror::Error, displaydoc::Display)]
pub enum PolicyError {
    /// {entry_point} is blocked by policy: {reason}
    Denied {
        /// The rule that refused, named after the request's message.
        entry_point: String,
        /// What the rule printed, bounded and on one line.
        reason: String,
    },
    /// {0} is blocked by policy: the policy has no such rule
    NoRule(String),
    /// the policy does not load: {0}
    Load(String),
    /// the policy's package is {0}, not agent_policy
    Package(String),
    /// the policy sets AllowRequestsFailingPolicy, which a confidential guest does not accept
    FailuresAllowed,
    /// the rule {entry_point} cannot be evaluated: {reason}
    Evaluate {
        /// The rule.
        entry_point: String,
        /// What the policy engine says, bounded and on one line.
        reason: String,
    },
    /// the rule {0} gives neither a boolean nor an object with "allowed" and "ops"
    Answer(String),
    /// the rule {entry_point} asks for a change of state outside /pstate: {path}
    StatePath {
        /// The rule.
        entry_point: String,
        /// The path that it asked for.
        path: String,
    },
    /// the change of state that {entry_point} asks for does not apply
    StateChange {
        /// The rule.
        entry_point: String,
        /// Which operation failed.
        #[source]
        source: json_patch::PatchError,
    },
    /// the policy's state would exceed {limit_bytes} bytes
    StateSize {
        /// The bound.
        limit_bytes: usize,
    },
    /// image_digests in the policy must be a set of "sha256:<64 hexadecimal digits>"
    ImageDigests,
    /// {0} is not the name of a request
    EntryPoint(String),
    /// the request has no JSON form
    Input(#[source] serde_json::Error),
}

impl UserError for PolicyError {
    fn code(&self) -> ErrorCode {
        ErrorCode(match self {
            Self::Denied { .. } => "RDT-POL-001",
            Self::NoRule(_) => "RDT-POL-002",
            Self::Load(_) => "RDT-POL-003",
            Self::Package(_) => "RDT-POL-004",
            Self::FailuresAllowed => "RDT-POL-005",
            Self::Evaluate { .. } => "RDT-POL-006",
            Self::Answer(_) => "RDT-POL-007",
            Self::StatePath { .. } => "RDT-POL-008",
            Self::StateChange { .. } => "RDT-POL-009",
            Self::StateSize { .. } => "RDT-POL-010",
            Self::ImageDigests => "RDT-POL-011",
            Self::EntryPoint(_) => "RDT-POL-012",
            Self::Input(_) => "RDT-POL-013",
        })
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Denied { reason, .. } if reason == NO_REASON => {
                "a print() in the rule's body appears here"
            }
            Self::NoRule(name) => {
                return Some(format!("add \"default {name} := true\" to allow it"));
            }
            Self::FailuresAllowed => "remove the line; it is meant for guests without a TEE",
            Self::Package(_) => "start the policy with \"package agent_policy\"",
            _ => return None,
        };
        Some(hint.to_owned())
    }
}
