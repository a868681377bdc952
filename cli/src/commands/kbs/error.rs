#![expect(
    clippy::doc_markdown,
    reason = "doc comments of errors are their messages"
)]

use std::path::PathBuf;

use redoubt_errors::{ErrorCode, UserError};

/// What goes wrong between an administrator and a key broker.
#[derive(Debug, thiserror::Error, displaydoc::Display)]
pub(crate) enum AdminError {
    /// it is not said which key broker is meant
    NoBroker,
    /// cannot set up the connection to the key broker
    Setup(#[source] reqwest::Error),
    /// key broker {url} cannot be reached
    Unreachable {
        /// Its address.
        url: String,
        /// What went wrong.
        #[source]
        source: reqwest::Error,
    },
    /// key broker {url} refuses (HTTP status {status}): {detail}
    Refused {
        /// Its address.
        url: String,
        /// Its answer.
        status: u16,
        /// Its words.
        detail: String,
    },
    /// key broker {url} answers in a way that is not understood
    Answer {
        /// Its address.
        url: String,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// resource has more than {limit_bytes} bytes
    TooLarge {
        /// The limit in bytes.
        limit_bytes: usize,
    },
    /// cannot read {path:?}
    Read {
        /// The file; `-` is standard input.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// policy does not hold: {0}
    Policy(String),
    /// the policy refuses {path}
    PolicyDenies {
        /// The resource.
        path: String,
    },
}

impl UserError for AdminError {
    fn code(&self) -> ErrorCode {
        ErrorCode(match self {
            Self::NoBroker => "RDT-CLI-040",
            Self::Setup(_) => "RDT-CLI-041",
            Self::Unreachable { .. } => "RDT-CLI-042",
            Self::Refused { .. } => "RDT-CLI-043",
            Self::Answer { .. } => "RDT-CLI-044",
            Self::TooLarge { .. } => "RDT-CLI-045",
            Self::Read { .. } => "RDT-CLI-046",
            Self::Policy(_) => "RDT-CLI-047",
            Self::PolicyDenies { .. } => "RDT-CLI-048",
        })
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NoBroker => Some(
                "give --config FILE for a broker on this machine, or --url with --certificate and --key"
                    .to_owned(),
            ),
            Self::Unreachable { .. } => {
                Some("check the address, the certificate, and that the broker runs".to_owned())
            }
            _ => None,
        }
    }
}
