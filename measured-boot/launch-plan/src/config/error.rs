//! Ways in which a configuration can be wrong.

use std::path::PathBuf;

use redoubt_errors::{ErrorCode, UserError};

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error, displaydoc::Display)]
pub enum ConfigError {
    /// no configuration file found: tried {tried}
    NotFound {
        /// The paths that were tried.
        tried: String,
    },
    /// cannot read {path:?}, named by {origin}
    Read {
        /// Path of the file.
        path: PathBuf,
        /// What named the file.
        origin: String,
        /// Why it cannot be read.
        #[source]
        cause: std::io::Error,
    },
    /// configuration {path:?} is larger than 1 MiB
    TooLarge {
        /// Path of the file.
        path: PathBuf,
    },
    /// configuration {file}, line {line}: {message}
    Toml {
        /// The file.
        file: String,
        /// Line in the file, counted from 1.
        line: usize,
        /// What the TOML parser says.
        message: String,
    },
    /// configuration {file}: {key} must be {expected}, not {found}
    WrongType {
        /// The file.
        file: String,
        /// The key with its table.
        key: String,
        /// What the value must be.
        expected: &'static str,
        /// What the value is.
        found: String,
    },
    /// configuration: {key} is not a regular expression: {pattern:?}
    Pattern {
        /// The key with its table.
        key: &'static str,
        /// The text found there.
        pattern: String,
    },
    /// configuration path {path:?} of an annotation is not absolute, or its file is not under the host operator's control
    UntrustedPath {
        /// The path.
        path: PathBuf,
    },
    /// annotation {annotation} is not enabled
    NotEnabled {
        /// Full name of the annotation.
        annotation: String,
        /// What `enable_annotations` would have to hold.
        name: String,
    },
    /// annotation {annotation} sets a key that only the host's operator may set
    OperatorOnly {
        /// Full name of the annotation.
        annotation: String,
    },
    /// annotation {annotation} must be {expected}
    AnnotationType {
        /// Full name of the annotation.
        annotation: String,
        /// What the value must be.
        expected: &'static str,
    },
    /// annotation {annotation}: {path:?} matches no entry of {list}
    PathNotAllowed {
        /// Full name of the annotation.
        annotation: String,
        /// The path it names.
        path: PathBuf,
        /// The key that lists what is allowed.
        list: &'static str,
    },
    /// annotation {annotation} would reach the guest unmeasured
    UnmeasuredPolicy {
        /// Full name of the annotation.
        annotation: String,
    },
}

impl UserError for ConfigError {
    fn code(&self) -> ErrorCode {
        ErrorCode(match self {
            Self::NotFound { .. } => "RDT-CFG-001",
            Self::Read { .. } => "RDT-CFG-002",
            Self::TooLarge { .. } => "RDT-CFG-003",
            Self::Toml { .. } => "RDT-CFG-004",
            Self::WrongType { .. } => "RDT-CFG-005",
            Self::Pattern { .. } => "RDT-CFG-006",
            Self::UntrustedPath { .. } => "RDT-CFG-007",
            Self::NotEnabled { .. } => "RDT-CFG-008",
            Self::OperatorOnly { .. } => "RDT-CFG-009",
            Self::AnnotationType { .. } => "RDT-CFG-010",
            Self::PathNotAllowed { .. } => "RDT-CFG-011",
            Self::UnmeasuredPolicy { .. } => "RDT-CFG-012",
        })
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NotFound { .. } => Some(
                "install one as /etc/kata-containers/configuration.toml, or name one in \
                 containerd's runtime options as ConfigPath"
                    .to_owned(),
            ),
            Self::NotEnabled { name, .. } => Some(format!(
                "add {name:?} to enable_annotations in [hypervisor.qemu], or remove the annotation"
            )),
            Self::UntrustedPath { .. } => {
                Some("name a file that belongs to root and that only root can write".to_owned())
            }
            Self::UnmeasuredPolicy { .. } => Some(
                "put the policy into initdata as policy.rego: `redoubt initdata build`".to_owned(),
            ),
            _ => None,
        }
    }
}
