//! Why collateral is not to be had.

use std::path::PathBuf;

use redoubt_errors::{ErrorCode, UserError};
use redoubt_verifier::{CollateralId, VerifierError};

use crate::request::Service;

/// What goes wrong while collateral is fetched or kept.
#[derive(Debug, thiserror::Error, displaydoc::Display)]
pub enum CollateralError {
    /// cannot set up HTTP
    Setup(#[source] reqwest::Error),
    /// {url:?} is not the address of a service
    Address {
        /// What was given.
        url: String,
    },
    /// {service} cannot be reached
    Unreachable {
        /// Which service.
        service: Service,
        /// Why not.
        #[source]
        cause: reqwest::Error,
    },
    /// the answer of {service} broke off
    Truncated {
        /// Which service.
        service: Service,
        /// How.
        #[source]
        cause: reqwest::Error,
    },
    /// {service} takes no requests for another {seconds} seconds
    Busy {
        /// Which service.
        service: Service,
        /// How long to wait, in seconds.
        seconds: u64,
    },
    /// {service} does not know {id}
    Unknown {
        /// Which service.
        service: Service,
        /// The document that was asked for.
        id: CollateralId,
    },
    /// {service} answered with status {status}
    Status {
        /// Which service.
        service: Service,
        /// The HTTP status.
        status: u16,
    },
    /// the answer of {service} is longer than {limit} bytes
    AnswerTooLarge {
        /// Which service.
        service: Service,
        /// The longest answer accepted, in bytes.
        limit: usize,
    },
    /// {service} answered with something else
    Content {
        /// Which service.
        service: Service,
        /// What is wrong with the answer.
        #[source]
        cause: VerifierError,
    },
    /// cannot keep collateral in {path:?}
    CacheWrite {
        /// File or folder.
        path: PathBuf,
        /// Why not.
        #[source]
        cause: std::io::Error,
    },
    /// cannot write collateral
    CacheFormat(#[source] VerifierError),
}

impl CollateralError {
    /// Whether another attempt may help.
    pub(crate) fn passes(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Truncated { .. } => true,
            Self::Status { status, .. } => *status >= 500 || *status == 408,
            _ => false,
        }
    }
}

impl UserError for CollateralError {
    fn code(&self) -> ErrorCode {
        ErrorCode(match self {
            Self::Setup(_) => "RDT-COL-001",
            Self::Address { .. } => "RDT-COL-002",
            Self::Unreachable { .. } => "RDT-COL-003",
            Self::Truncated { .. } => "RDT-COL-004",
            Self::Busy { .. } => "RDT-COL-005",
            Self::Unknown { .. } => "RDT-COL-006",
            Self::Status { .. } => "RDT-COL-007",
            Self::AnswerTooLarge { .. } => "RDT-COL-008",
            Self::Content { .. } => "RDT-COL-009",
            Self::CacheWrite { .. } => "RDT-COL-010",
            Self::CacheFormat(_) => "RDT-COL-011",
        })
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Unreachable { .. } => Some(
                "without a network, import a bundle made elsewhere: redoubt collateral import"
                    .to_owned(),
            ),
            Self::Unknown {
                id: CollateralId::Vcek(_),
                ..
            } => Some(
                "AMD knows no chip with this id and TCB: is the report of real hardware, and of \
                 this product?"
                    .to_owned(),
            ),
            Self::Busy { .. } => Some(
                "the service limits how often it is asked; what was fetched before is kept"
                    .to_owned(),
            ),
            _ => None,
        }
    }
}
