//! What can be wrong with the material of a verification.

use redoubt_errors::{ErrorCode, UserError};
use redoubt_verifier::VerifierError;

/// A reason why a quote cannot be verified.
#[derive(Debug, thiserror::Error, displaydoc::Display)]
pub enum TdxVerifierError {
    /// the TDX collateral is {actual} bytes long, more than {limit}
    CollateralSize {
        /// The length that was given, in bytes.
        actual: usize,
        /// The largest length accepted, in bytes.
        limit: usize,
    },
    /// the TDX collateral is neither a bundle nor the JSON of a quote's collateral
    CollateralJson(#[source] serde_json::Error),
    /// the collateral bundle cannot be used
    Bundle(#[from] VerifierError),
    /// the collateral bundle has no {id}
    Missing {
        /// The document that this quote needs.
        id: redoubt_verifier::CollateralId,
    },
    /// the quote carries no PCK certificate chain
    NoPckChain,
    /// the quote's PCK certificate cannot be read: {reason}
    PckCertificate {
        /// Why not.
        reason: String,
    },
    /// the root is not one X.509 certificate in DER or PEM
    Root(#[source] der::Error),
    /// {text:?} is no TCB status
    Status {
        /// The text that was given.
        text: String,
    },
}

impl UserError for TdxVerifierError {
    fn code(&self) -> ErrorCode {
        ErrorCode(match self {
            Self::CollateralSize { .. } => "RDT-VER-101",
            Self::CollateralJson(_) => "RDT-VER-102",
            Self::Bundle(cause) => return cause.code(),
            Self::Missing { .. } => "RDT-VER-103",
            Self::NoPckChain => "RDT-VER-104",
            Self::PckCertificate { .. } => "RDT-VER-105",
            Self::Root(_) => "RDT-VER-106",
            Self::Status { .. } => "RDT-VER-107",
        })
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Bundle(cause) => cause.hint(),
            Self::Missing { .. } => {
                Some("`redoubt collateral export --quote FILE` gets all that a quote needs".into())
            }
            Self::Status { .. } => {
                Some("Intel's names are written as UpToDate, SWHardeningNeeded, OutOfDate".into())
            }
            _ => None,
        }
    }
}
