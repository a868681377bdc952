//! Why the harness itself cannot work. A case with another outcome is no error.

use std::path::PathBuf;

use redoubt_errors::{ErrorCode, UserError};
use redoubt_evidence::EvidenceError;
use redoubt_kbs_protocol::KbsProtocolError;
use redoubt_kbs_server::KbsServerError;
use redoubt_snp_simulator::SimulatorError;
use redoubt_tdx_verifier::TdxVerifierError;
use redoubt_verifier::VerifierError;

/// A reason why cases cannot be run.
#[derive(Debug, thiserror::Error, displaydoc::Display)]
pub enum HarnessError {
    /// {path} cannot be {action}
    File {
        /// File or directory.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// {path} already holds something
    Exists {
        /// The directory.
        path: PathBuf,
    },
    /// a simulated SEV-SNP chip cannot be made
    Simulator(#[from] SimulatorError),
    /// a certificate of the simulated TDX platform cannot be made
    Certificate(#[from] rcgen::Error),
    /// a key of the simulated TDX platform cannot be used
    Key,
    /// evidence cannot be made or read
    Evidence(#[from] EvidenceError),
    /// collateral or a root cannot be used
    Verifier(#[from] VerifierError),
    /// TDX collateral or a root cannot be used
    TdxVerifier(#[from] TdxVerifierError),
    /// a message of the key-broker protocol cannot be made or read
    Protocol(#[from] KbsProtocolError),
    /// the broker of this harness cannot be started
    Broker(#[from] KbsServerError),
    /// {url} cannot be asked
    Http {
        /// The broker's address.
        url: String,
        /// Why not.
        #[source]
        source: reqwest::Error,
    },
    /// {url} answers with more than {limit} bytes
    AnswerTooLarge {
        /// The broker's address.
        url: String,
        /// The longest answer that is read, in bytes.
        limit: usize,
    },
    /// TLS cannot be set up: {reason}
    Tls {
        /// Why not.
        reason: String,
    },
    /// data of this harness is damaged: {what}
    Vector {
        /// Which data.
        what: &'static str,
    },
}

impl UserError for HarnessError {
    fn code(&self) -> ErrorCode {
        ErrorCode(match self {
            Self::File { .. } => "RDT-HRN-001",
            Self::Exists { .. } => "RDT-HRN-002",
            Self::Simulator(_) => "RDT-HRN-003",
            Self::Certificate(_) => "RDT-HRN-004",
            Self::Key => "RDT-HRN-005",
            Self::Evidence(_) => "RDT-HRN-006",
            Self::Verifier(_) => "RDT-HRN-007",
            Self::TdxVerifier(_) => "RDT-HRN-008",
            Self::Protocol(_) => "RDT-HRN-009",
            Self::Broker(_) => "RDT-HRN-010",
            Self::Http { .. } => "RDT-HRN-011",
            Self::AnswerTooLarge { .. } => "RDT-HRN-012",
            Self::Tls { .. } => "RDT-HRN-013",
            Self::Vector { .. } => "RDT-HRN-014",
        })
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::File { action: "read", .. } => {
                Some("`redoubt-harness init DIR` makes a site".to_owned())
            }
            Self::Exists { .. } => Some("give an empty directory".to_owned()),
            _ => None,
        }
    }
}
