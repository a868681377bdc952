use redoubt_kbs_protocol::ErrorKind;

/// What a client can be refused for. A guest learns this and nothing more; which
/// claim failed and why stands in the audit log. An administrator is told why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, displaydoc::Display)]
pub enum Refusal {
    /// malformed request
    MalformedRequest,
    /// unsupported protocol version
    UnsupportedVersion,
    /// unsupported kind of evidence
    UnsupportedTee,
    /// no session
    NoSession,
    /// challenge already answered
    ChallengeUsed,
    /// evidence refused
    EvidenceRefused,
    /// unsupported public key
    UnsupportedKey,
    /// no valid token
    InvalidToken,
    /// denied by policy
    PolicyDenied,
    /// no such resource
    NoSuchResource,
    /// no such kind of resource
    NoSuchPlugin,
    /// invalid path
    InvalidPath,
    /// request too large
    TooLarge,
    /// too busy
    Busy,
    /// request took too long
    Timeout,
    /// internal error
    Internal,
    /// too many requests
    TooManyRequests,
    /// no administrator
    NotAdministrator,
    /// not permitted
    NotPermitted,
    /// storage is not changed through the broker
    ReadOnlyStorage,
    /// change refused
    ChangeRefused,
}

impl Refusal {
    /// The stable code.
    pub const fn code(self) -> &'static str {
        match self {
            Self::MalformedRequest => "RDT-KBS-001",
            Self::UnsupportedVersion => "RDT-KBS-002",
            Self::UnsupportedTee => "RDT-KBS-003",
            Self::NoSession => "RDT-KBS-004",
            Self::ChallengeUsed => "RDT-KBS-005",
            Self::EvidenceRefused => "RDT-KBS-006",
            Self::UnsupportedKey => "RDT-KBS-007",
            Self::InvalidToken => "RDT-KBS-008",
            Self::PolicyDenied => "RDT-KBS-009",
            Self::NoSuchResource => "RDT-KBS-010",
            Self::NoSuchPlugin => "RDT-KBS-011",
            Self::InvalidPath => "RDT-KBS-012",
            Self::TooLarge => "RDT-KBS-013",
            Self::Busy => "RDT-KBS-014",
            Self::Timeout => "RDT-KBS-015",
            Self::Internal => "RDT-KBS-016",
            Self::TooManyRequests => "RDT-KBS-017",
            Self::NotAdministrator => "RDT-KBS-018",
            Self::NotPermitted => "RDT-KBS-019",
            Self::ReadOnlyStorage => "RDT-KBS-020",
            Self::ChangeRefused => "RDT-KBS-021",
        }
    }

    /// The HTTP status. With `as_trustee`, 401 to all that Trustee says 401 to.
    pub const fn status(self, as_trustee: bool) -> u16 {
        match self {
            Self::NoSuchPlugin | Self::InvalidPath => 404,
            Self::TooLarge => 413,
            Self::Busy => 503,
            Self::Timeout => 408,
            Self::TooManyRequests => 429,
            Self::ChangeRefused => 400,
            Self::NotPermitted => 403,
            Self::ReadOnlyStorage => 409,
            Self::NoSession | Self::ChallengeUsed | Self::InvalidToken | Self::NotAdministrator => {
                401
            }
            _ if as_trustee => 401,
            Self::MalformedRequest
            | Self::UnsupportedVersion
            | Self::UnsupportedTee
            | Self::UnsupportedKey => 400,
            Self::EvidenceRefused | Self::PolicyDenied => 403,
            Self::NoSuchResource => 404,
            Self::Internal => 500,
        }
    }

    /// The variant in the body's `type`.
    pub fn kind(self) -> ErrorKind {
        match self {
            Self::NoSession => ErrorKind::TokenNotFound,
            Self::InvalidToken => ErrorKind::TokenVerifier,
            Self::PolicyDenied => ErrorKind::PolicyDeny,
            Self::NoSuchResource | Self::Internal => ErrorKind::PluginInternal,
            Self::NoSuchPlugin => ErrorKind::PluginNotFound,
            Self::InvalidPath => ErrorKind::InvalidPath,
            Self::NotAdministrator
            | Self::NotPermitted
            | Self::ReadOnlyStorage
            | Self::ChangeRefused => ErrorKind::Other("AdminAuthAccess".to_owned()),
            Self::TooManyRequests => ErrorKind::Other("TooManyRequests".to_owned()),
            Self::MalformedRequest
            | Self::UnsupportedVersion
            | Self::UnsupportedTee
            | Self::ChallengeUsed
            | Self::EvidenceRefused
            | Self::UnsupportedKey
            | Self::TooLarge
            | Self::Busy
            | Self::Timeout => ErrorKind::Attestation,
        }
    }

    /// Adds the reason, which only the audit log and the server's log show.
    pub(crate) fn because(self, reason: impl Into<String>) -> Refused {
        Refused {
            refusal: self,
            reason: reason.into(),
        }
    }
}

/// A refusal and its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) refusal: Refusal,
    pub(crate) reason: String,
}

/// Joins an error with its causes.
pub(crate) fn chain_text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const ALL: [Refusal; 21] = [
        Refusal::MalformedRequest,
        Refusal::UnsupportedVersion,
        Refusal::UnsupportedTee,
        Refusal::NoSession,
        Refusal::ChallengeUsed,
        Refusal::EvidenceRefused,
        Refusal::UnsupportedKey,
        Refusal::InvalidToken,
        Refusal::PolicyDenied,
        Refusal::NoSuchResource,
        Refusal::NoSuchPlugin,
        Refusal::InvalidPath,
        Refusal::TooLarge,
        Refusal::Busy,
        Refusal::Timeout,
        Refusal::Internal,
        Refusal::TooManyRequests,
        Refusal::NotAdministrator,
        Refusal::NotPermitted,
        Refusal::ReadOnlyStorage,
        Refusal::ChangeRefused,
    ];

    #[test]
    fn codes_are_distinct() {
        let codes: BTreeSet<_> = ALL.iter().map(|refusal| refusal.code()).collect();
        assert_eq!(codes.len(), ALL.len());
    }

    #[test]
    fn compatibility_switch_turns_denials_into_401() {
        assert_eq!(Refusal::PolicyDenied.status(false), 403);
        assert_eq!(Refusal::PolicyDenied.status(true), 401);
        assert_eq!(Refusal::NoSuchResource.status(false), 404);
        assert_eq!(Refusal::NoSuchResource.status(true), 401);
        assert_eq!(Refusal::NoSuchPlugin.status(true), 404);
        assert_eq!(Refusal::InvalidToken.status(false), 401);
    }
}
