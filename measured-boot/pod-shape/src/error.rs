//! Why a manifest was refused.

use redoubt_errors::{ErrorCode, UserError};

use crate::quantity::QuantityError;

/// Why no sandbox can be made out of a Kubernetes manifest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, displaydoc::Display)]
pub enum PodError {
    /// Kubernetes manifest is larger than 4 MiB
    TooLarge,
    /// Kubernetes manifest is not UTF-8 text: invalid byte at offset {offset}
    NotText {
        /// Offset of the first invalid byte.
        offset: usize,
    },
    /// Kubernetes manifest is not YAML: {message}
    Yaml {
        /// What the parser says, with line and column.
        message: String,
    },
    /// Kubernetes manifest describes no pod: it holds {found}
    NoPod {
        /// The kinds of its documents.
        found: String,
    },
    /// {place} is missing
    Missing {
        /// Document and path of the field.
        place: String,
    },
    /// {place} is not {expected}
    WrongType {
        /// Document and path of the field.
        place: String,
        /// What must stand there.
        expected: &'static str,
    },
    /// {place} is no usable quantity
    Quantity {
        /// Document and path of the field.
        place: String,
        /// What is wrong with it.
        #[source]
        cause: QuantityError,
    },
    /// {place}: the sum of the containers' quantities is out of range
    Sum {
        /// Document and the resource.
        place: String,
    },
    /// {place} has {size} bytes, more than the 256 KiB that Kubernetes allows for all annotations
    AnnotationsTooLarge {
        /// Document and path of the annotations.
        place: String,
        /// Length of all names and values in bytes.
        size: usize,
    },
    /// Kubernetes manifest holds more than 1024 objects
    TooManyObjects,
}

impl UserError for PodError {
    fn code(&self) -> ErrorCode {
        ErrorCode(match self {
            Self::TooLarge => "RDT-POD-001",
            Self::NotText { .. } => "RDT-POD-002",
            Self::Yaml { .. } => "RDT-POD-003",
            Self::NoPod { .. } => "RDT-POD-004",
            Self::Missing { .. } => "RDT-POD-005",
            Self::WrongType { .. } => "RDT-POD-006",
            Self::Quantity { .. } => "RDT-POD-007",
            Self::Sum { .. } => "RDT-POD-008",
            Self::AnnotationsTooLarge { .. } => "RDT-POD-009",
            Self::TooManyObjects => "RDT-POD-010",
        })
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Yaml { .. } => "templates must be rendered first, for example by `helm template`",
            Self::NoPod { .. } => {
                "give a Pod, Deployment, ReplicaSet, StatefulSet, DaemonSet, Job or CronJob"
            }
            Self::WrongType {
                expected: "text", ..
            } => "put quotes around the value, as Kubernetes demands it too",
            _ => return None,
        };
        Some(hint.to_owned())
    }
}
