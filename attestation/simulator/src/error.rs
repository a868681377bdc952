//! What can go wrong with the simulator.

use std::io;
use std::path::PathBuf;

use redoubt_errors::{ErrorCode, UserError};
use redoubt_evidence::EvidenceError;

/// A reason why the simulated secure processor cannot work.
#[derive(Debug, thiserror::Error, displaydoc::Display)]
pub enum SimulatorError {
    /// {path} cannot be {action}
    File {
        /// The file or directory.
        path: PathBuf,
        /// What was tried: "read", "written", ...
        action: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// {path} already holds a simulated identity
    Exists {
        /// The directory.
        path: PathBuf,
    },
    /// {path} is larger than {limit} bytes
    FileTooLong {
        /// The file.
        path: PathBuf,
        /// The largest size accepted, in bytes.
        limit: usize,
    },
    /// {path} may be read by others (mode {mode:o})
    KeyMode {
        /// The private key's file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// {path} is not {what}
    Content {
        /// The file.
        path: PathBuf,
        /// What it should be, in words.
        what: &'static str,
    },
    /// identity.json is malformed
    Identity(#[source] serde_json::Error),
    /// identity.json says {what}, which does not fit its VCEK
    IdentityDiffers {
        /// The member that differs.
        what: &'static str,
    },
    /// an RSA key cannot be made or used
    Rsa(#[source] rsa::Error),
    /// an RSA signature cannot be made
    RsaSignature(#[source] rsa::signature::Error),
    /// an ECDSA signature cannot be made
    EcdsaSignature(#[source] p384::ecdsa::Error),
    /// a certificate cannot be encoded
    Der(#[from] der::Error),
    /// a public key cannot be encoded
    PublicKey(#[source] x509_cert::spki::Error),
    /// there are no random numbers
    Random(#[source] getrandom::Error),
    /// the thread that made a key ended without one
    Interrupted,
    /// a report cannot be written
    Evidence(#[from] EvidenceError),
}

impl UserError for SimulatorError {
    fn code(&self) -> ErrorCode {
        ErrorCode(match self {
            Self::File { .. } => "RDT-SIM-001",
            Self::Exists { .. } => "RDT-SIM-002",
            Self::FileTooLong { .. } => "RDT-SIM-003",
            Self::KeyMode { .. } => "RDT-SIM-004",
            Self::Content { .. } => "RDT-SIM-005",
            Self::Identity(_) => "RDT-SIM-006",
            Self::IdentityDiffers { .. } => "RDT-SIM-007",
            Self::Rsa(_) => "RDT-SIM-008",
            Self::RsaSignature(_) => "RDT-SIM-009",
            Self::EcdsaSignature(_) => "RDT-SIM-010",
            Self::Der(_) => "RDT-SIM-011",
            Self::PublicKey(_) => "RDT-SIM-012",
            Self::Random(_) => "RDT-SIM-013",
            Self::Interrupted => "RDT-SIM-014",
            Self::Evidence(_) => "RDT-SIM-015",
        })
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::File { action: "read", .. } => {
                Some("`redoubt simulator init DIR` makes a simulated identity".to_owned())
            }
            Self::Exists { .. } => {
                Some("give an empty directory, or remove this one first".to_owned())
            }
            Self::KeyMode { path, .. } => Some(format!("chmod 600 {}", path.display())),
            _ => None,
        }
    }
}
