use redoubt_attester::AttesterError;
use redoubt_errors::{ErrorCode, UserError};
use redoubt_evidence::EvidenceError;
use redoubt_kbs_protocol::{KbsProtocolError, ResourcePath};

/// Why a resource did not come.
#[expect(clippy::doc_markdown, reason = "the comments are the messages")]
#[derive(Debug, thiserror::Error, displaydoc::Display)]
pub enum KbsClientError {
    /// key broker address "{url}" is not usable: {reason}
    InvalidUrl {
        /// The address as it was configured.
        url: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// the pinned certificate of the key broker is not usable: {0}
    PinnedCertificate(String),
    /// the HTTP client cannot be set up
    Setup(#[source] reqwest::Error),
    /// key broker {url} cannot be reached ({tries} tries)
    Unreachable {
        /// The broker's address.
        url: String,
        /// How often it was tried.
        tries: u32,
        /// What the last try met.
        #[source]
        source: reqwest::Error,
    },
    /// key broker {url} does not prove its identity
    Tls {
        /// The broker's address.
        url: String,
        /// What TLS said.
        #[source]
        source: rustls::Error,
    },
    /// key broker {url} does not release {path}: {detail}
    Denied {
        /// The broker's address.
        url: String,
        /// What was asked for.
        path: ResourcePath,
        /// The broker's code.
        detail: String,
    },
    /// key broker {url} has no {path}: {detail}
    NotFound {
        /// The broker's address.
        url: String,
        /// What was asked for.
        path: ResourcePath,
        /// The broker's code.
        detail: String,
    },
    /// key broker {url} refuses this guest's evidence: {detail}
    EvidenceRefused {
        /// The broker's address.
        url: String,
        /// The broker's code.
        detail: String,
    },
    /// key broker {url} refuses the handshake: {detail}
    HandshakeRefused {
        /// The broker's address.
        url: String,
        /// The broker's code.
        detail: String,
    },
    /// key broker {url} refuses a fresh session: {detail}
    SessionRefused {
        /// The broker's address.
        url: String,
        /// The broker's code.
        detail: String,
    },
    /// key broker {url} is not able to answer now (HTTP status {status}, {tries} tries): {detail}
    Unavailable {
        /// The broker's address.
        url: String,
        /// Its last answer.
        status: u16,
        /// How often it was tried.
        tries: u32,
        /// The broker's code.
        detail: String,
    },
    /// key broker {url} answers HTTP status {status} while {doing}: {detail}
    UnexpectedStatus {
        /// The broker's address.
        url: String,
        /// Its answer.
        status: u16,
        /// What the client was doing.
        doing: &'static str,
        /// The broker's text, shortened.
        detail: String,
    },
    /// key broker {url} answers with more than {limit_bytes} bytes
    AnswerTooLarge {
        /// The broker's address.
        url: String,
        /// The limit.
        limit_bytes: usize,
    },
    /// key broker {url} answers in a way that is not the protocol
    Protocol {
        /// The broker's address.
        url: String,
        /// What is wrong.
        #[source]
        source: KbsProtocolError,
    },
    /// key broker {url} was given up after {deadline_ms} ms while {doing}
    Deadline {
        /// The broker's address.
        url: String,
        /// The time that the whole request may take.
        deadline_ms: u128,
        /// What the client was doing.
        doing: &'static str,
    },
    /// this guest has no evidence to show
    Attester(#[source] AttesterError),
    /// this guest's evidence cannot be written down
    Evidence(#[source] EvidenceError),
    /// this guest cannot make its part of the handshake
    Local(#[source] KbsProtocolError),
}

impl KbsClientError {
    /// Whether the same request may succeed a little later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Unavailable { .. })
    }
}

impl UserError for KbsClientError {
    fn code(&self) -> ErrorCode {
        ErrorCode(match self {
            Self::InvalidUrl { .. } => "RDT-KBC-001",
            Self::PinnedCertificate(_) => "RDT-KBC-002",
            Self::Setup(_) => "RDT-KBC-003",
            Self::Unreachable { .. } => "RDT-KBC-004",
            Self::Tls { .. } => "RDT-KBC-005",
            Self::Denied { .. } => "RDT-KBC-006",
            Self::NotFound { .. } => "RDT-KBC-007",
            Self::EvidenceRefused { .. } => "RDT-KBC-008",
            Self::HandshakeRefused { .. } => "RDT-KBC-009",
            Self::SessionRefused { .. } => "RDT-KBC-010",
            Self::Unavailable { .. } => "RDT-KBC-011",
            Self::UnexpectedStatus { .. } => "RDT-KBC-012",
            Self::AnswerTooLarge { .. } => "RDT-KBC-013",
            Self::Protocol { .. } => "RDT-KBC-014",
            Self::Deadline { .. } => "RDT-KBC-015",
            Self::Attester(_) => "RDT-KBC-016",
            Self::Evidence(_) => "RDT-KBC-017",
            Self::Local(_) => "RDT-KBC-018",
        })
    }

    fn hint(&self) -> Option<String> {
        let text = match self {
            Self::InvalidUrl { .. } => "set `url` in the initdata's aa.toml or cdh.toml",
            Self::PinnedCertificate(_) => "put the broker's certificate in PEM into the initdata",
            Self::Unreachable { .. } | Self::Deadline { .. } => {
                "check the address, that the broker runs, and that pods can reach it"
            }
            Self::Tls { .. } => {
                "the certificate in the initdata is not the one that the broker shows"
            }
            Self::Denied { .. } => {
                "the broker's audit log says which claim failed; register this launch's reference values"
            }
            Self::EvidenceRefused { .. } => "the broker's audit log says which claim failed",
            Self::NotFound { .. } => {
                "store the resource at the broker, or correct the key's address"
            }
            _ => return None,
        };
        Some(text.to_owned())
    }
}
