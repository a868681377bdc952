use serde::{Deserialize, Serialize};

use crate::error::shortened;

/// What stands before the variant's name in an error body's `type`.
pub const ERROR_TYPE_PREFIX: &str = "https://github.com/confidential-containers/kbs/errors/";

/// The kinds of refusal that a guest must tell apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The resource policy said no (`PolicyDeny`): asking again is of no use.
    PolicyDeny,
    /// The resource is missing or its storage failed (`PluginInternalError`):
    /// brokers do not tell these apart.
    PluginInternal,
    /// No such kind of resource (`PluginNotFound`).
    PluginNotFound,
    /// The path names nothing (`InvalidRequestPath`).
    InvalidPath,
    /// No token or session came with the request (`TokenNotFound`).
    TokenNotFound,
    /// The token is not valid, or not any more (`TokenVerifierError`).
    TokenVerifier,
    /// The evidence or the handshake was refused (`AttestationError`).
    Attestation,
    /// Any other variant, shortened.
    Other(String),
}

impl ErrorKind {
    /// The variant's name on the wire.
    pub fn name(&self) -> &str {
        match self {
            Self::PolicyDeny => "PolicyDeny",
            Self::PluginInternal => "PluginInternalError",
            Self::PluginNotFound => "PluginNotFound",
            Self::InvalidPath => "InvalidRequestPath",
            Self::TokenNotFound => "TokenNotFound",
            Self::TokenVerifier => "TokenVerifierError",
            Self::Attestation => "AttestationError",
            Self::Other(name) => name,
        }
    }

    /// Reads the variant's name.
    pub fn from_name(name: &str) -> Self {
        match name {
            "PolicyDeny" => Self::PolicyDeny,
            "PluginInternalError" => Self::PluginInternal,
            "PluginNotFound" => Self::PluginNotFound,
            "InvalidRequestPath" => Self::InvalidPath,
            "TokenNotFound" => Self::TokenNotFound,
            "TokenVerifierError" => Self::TokenVerifier,
            "AttestationError" => Self::Attestation,
            other => Self::Other(shortened(other)),
        }
    }

    /// Whether a new handshake could help: the session or token was refused, not the guest.
    pub fn is_about_session(&self) -> bool {
        matches!(self, Self::TokenNotFound | Self::TokenVerifier)
    }
}

/// The body of an error answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// [`ERROR_TYPE_PREFIX`] and the variant's name.
    #[serde(rename = "type")]
    pub error_type: String,
    /// Text for people; from Redoubt's broker only a stable code.
    #[serde(default)]
    pub detail: String,
}

impl ErrorBody {
    /// Largest body that is read, in bytes.
    pub const MAX_BYTES: usize = 64 * 1024;

    /// Makes a body.
    pub fn new(kind: &ErrorKind, detail: impl Into<String>) -> Self {
        Self {
            error_type: format!("{ERROR_TYPE_PREFIX}{}", kind.name()),
            detail: detail.into(),
        }
    }

    /// Reads a body; `None` if it is not one (a proxy may have answered).
    pub fn parse(body: &[u8]) -> Option<Self> {
        if body.len() > Self::MAX_BYTES {
            return None;
        }
        serde_json::from_slice(body).ok()
    }

    /// The kind of refusal.
    pub fn kind(&self) -> ErrorKind {
        let name = self.error_type.rsplit('/').next().unwrap_or_default();
        ErrorKind::from_name(name)
    }

    /// The detail, shortened for an error message.
    pub fn short_detail(&self) -> String {
        shortened(&self.detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recorded_denial_is_told_apart_from_a_session_error() {
        let body = br#"{"type":"https://github.com/confidential-containers/kbs/errors/PolicyDeny","detail":"Access denied by policy"}"#;
        let denial = ErrorBody::parse(body).unwrap();
        assert_eq!(denial.kind(), ErrorKind::PolicyDeny);
        assert!(!denial.kind().is_about_session());
        let body = br#"{"type":"https://github.com/confidential-containers/kbs/errors/TokenVerifierError","detail":"Token Verifier error"}"#;
        assert!(ErrorBody::parse(body).unwrap().kind().is_about_session());
    }

    #[test]
    fn written_body_reads_back() {
        let body = ErrorBody::new(&ErrorKind::PluginNotFound, "RDT-KBS-000");
        let json = serde_json::to_vec(&body).unwrap();
        assert_eq!(ErrorBody::parse(&json).unwrap(), body);
        assert_eq!(body.kind(), ErrorKind::PluginNotFound);
    }

    #[test]
    fn bodies_of_others_are_not_error_bodies() {
        let long = vec![b' '; ErrorBody::MAX_BYTES + 1];
        for body in [
            &b"<html>401</html>"[..],
            b"",
            b"[]",
            b"{\"detail\":\"x\"}",
            &long,
        ] {
            assert!(ErrorBody::parse(body).is_none());
        }
    }
}
