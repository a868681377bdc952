use redoubt_errors::{ErrorCode, UserError};

/// The message in which something was wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, displaydoc::Display)]
pub enum MessageKind {
    /// authentication request
    AuthRequest,
    /// challenge
    Challenge,
    /// attestation request
    AttestRequest,
    /// attestation response
    AttestResponse,
    /// resource response
    ResourceResponse,
}

#[expect(clippy::doc_markdown, reason = "the comments are the messages")]
/// What can be wrong in a message of the key broker protocol.
#[derive(Debug, thiserror::Error, displaydoc::Display)]
pub enum KbsProtocolError {
    /// {message} has {size_bytes} bytes, more than the {limit_bytes} allowed
    MessageTooLarge {
        /// The message.
        message: MessageKind,
        /// Its size.
        size_bytes: usize,
        /// The limit.
        limit_bytes: usize,
    },
    /// {message} is not the JSON that the protocol asks for
    MalformedMessage {
        /// The message.
        message: MessageKind,
        /// What the JSON parser said.
        #[source]
        source: serde_json::Error,
    },
    /// protocol version "{found}" is not supported, only {supported}
    UnsupportedVersion {
        /// The version in the message, shortened.
        found: String,
        /// What this side speaks.
        supported: &'static str,
    },
    /// TEE name "{0}" is unknown
    UnknownTee(String),
    /// public key is not usable: {0}
    UnusableKey(&'static str),
    /// nonce has {0} bytes; 1 to 1024 visible ASCII characters are allowed
    InvalidNonce(usize),
    /// resource path "{0}" is not <repository>/<type>/<tag> of letters, digits, '_', '-' and '.'
    InvalidResourcePath(String),
    /// resource address "{0}" is not of the form kbs:///<repository>/<type>/<tag>
    InvalidResourceUri(String),
    /// challenge asks for the hash algorithm "{0}", which is not supported
    UnsupportedHash(String),
    /// encrypted response is malformed: {0}
    MalformedJwe(&'static str),
    /// encrypted response uses {0}, which is not supported
    UnsupportedJwe(&'static str),
    /// encrypted response cannot be opened with this session's key
    DecryptionFailed,
    /// resource has {size_bytes} bytes, more than the {limit_bytes} allowed
    ResourceTooLarge {
        /// Its size.
        size_bytes: usize,
        /// The limit.
        limit_bytes: usize,
    },
    /// encryption of the resource failed
    EncryptionFailed,
    /// attestation token is malformed: {0}
    MalformedToken(&'static str),
    /// JSON number {0} has no canonical form here (only integers below 2^53 do)
    NotCanonical(String),
    /// no random numbers from the operating system
    NoRandomness,
}

impl UserError for KbsProtocolError {
    fn code(&self) -> ErrorCode {
        ErrorCode(match self {
            Self::MessageTooLarge { .. } => "RDT-KBP-001",
            Self::MalformedMessage { .. } => "RDT-KBP-002",
            Self::UnsupportedVersion { .. } => "RDT-KBP-003",
            Self::UnknownTee(_) => "RDT-KBP-004",
            Self::UnusableKey(_) => "RDT-KBP-005",
            Self::InvalidNonce(_) => "RDT-KBP-006",
            Self::InvalidResourcePath(_) => "RDT-KBP-007",
            Self::InvalidResourceUri(_) => "RDT-KBP-008",
            Self::UnsupportedHash(_) => "RDT-KBP-009",
            Self::MalformedJwe(_) => "RDT-KBP-010",
            Self::UnsupportedJwe(_) => "RDT-KBP-011",
            Self::DecryptionFailed => "RDT-KBP-012",
            Self::ResourceTooLarge { .. } => "RDT-KBP-013",
            Self::EncryptionFailed => "RDT-KBP-014",
            Self::MalformedToken(_) => "RDT-KBP-015",
            Self::NotCanonical(_) => "RDT-KBP-016",
            Self::NoRandomness => "RDT-KBP-017",
        })
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::UnusableKey(_) => Some("use an EC P-256 key with alg ECDH-ES+A256KW".to_owned()),
            Self::InvalidResourceUri(_) | Self::InvalidResourcePath(_) => {
                Some("an example is kbs:///default/image-key/1".to_owned())
            }
            _ => None,
        }
    }
}

/// Shortens text from outside for an error message.
pub(crate) fn shortened(text: &str) -> String {
    const SHOWN: usize = 80;
    if text.chars().count() <= SHOWN {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(SHOWN).collect();
    short.push('…');
    short
}
