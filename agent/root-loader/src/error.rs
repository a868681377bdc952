//! Why a guest cannot start from its root disk.

use std::path::PathBuf;

use redoubt_dm_verity::VerityError;
use redoubt_errors::{ErrorCode, UserError};

/// Why a guest cannot start from its root disk.
#[derive(Debug, thiserror::Error, displaydoc::Display)]
pub(crate) enum LoaderError {
    /// cannot {action} {path}
    File {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// the command line has no {name}: it is measured and names the root disk's hash
    NoParameter {
        /// The parameter's name.
        name: &'static str,
    },
    /// the command line has {name} twice
    ParameterTwice {
        /// The parameter's name.
        name: &'static str,
    },
    /// the root disk's parameters
    Parameter(#[from] VerityError),
    /// there is no disk with the serial number {serial}
    NoDisk {
        /// The serial number.
        serial: &'static str,
    },
    /// the root disk has {bytes} bytes, fewer than the {needed} that its parameters need
    DiskSize {
        /// Size of the disk in bytes.
        bytes: u64,
        /// Size that the parameters tell.
        needed: u64,
    },
    /// the kernel cannot {action} the verified device
    DeviceMapper {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
}

impl LoaderError {
    /// Makes errors of an action on a path.
    pub(crate) fn file(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File {
            action,
            path,
            source,
        }
    }
}

impl UserError for LoaderError {
    fn code(&self) -> ErrorCode {
        ErrorCode(match self {
            Self::File { .. } => "RDT-ROOT-001",
            Self::NoParameter { .. } => "RDT-ROOT-002",
            Self::ParameterTwice { .. } => "RDT-ROOT-003",
            Self::Parameter(error) => return error.code(),
            Self::NoDisk { .. } => "RDT-ROOT-004",
            Self::DiskSize { .. } => "RDT-ROOT-005",
            Self::DeviceMapper { .. } => "RDT-ROOT-006",
        })
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NoParameter { .. } => {
                "this initrd opens root disks: set image and kernel_verity_params"
            }
            Self::DiskSize { .. } => "image and kernel_verity_params are of different builds",
            _ => return None,
        };
        Some(hint.to_owned())
    }
}
