//! The three ways in which containerd starts this program.

pub mod delete;
pub mod serve;
pub mod start;

use std::io;
use std::path::{Path, PathBuf};

use redoubt_errors::{ErrorCode, OneLine, UserError};

use crate::cli::{CliError, Flags};
use crate::error::{ShimError, cut};

/// File in the bundle with the server's address; containerd 1.6 reads it after a restart.
pub const ADDRESS_FILE: &str = "address";
/// File in the bundle with the server's process id.
pub const PID_FILE: &str = "shim.pid";

/// What can go wrong before or after the task service's own life.
#[derive(Debug, thiserror::Error, displaydoc::Display)]
pub enum CommandError {
    /// cannot read standard input
    Stdin(#[source] io::Error),
    /// cannot write to standard output
    Stdout(#[source] io::Error),
    /// cannot listen on {path}
    Listen {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// cannot start the server
    Spawn(#[source] io::Error),
    /// cannot write {path}
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// container {container} belongs to sandbox {sandbox}, which no shim serves
    NoServer {
        /// The container.
        container: String,
        /// The sandbox.
        sandbox: String,
    },
    /// the answer for containerd cannot be encoded
    Encode(#[source] protobuf::Error),
    /// standard input of the server is no listening socket
    NoSocket(#[source] io::Error),
    /// the server cannot be started
    Server(#[source] ttrpc::Error),
    /// bundle {path} cannot be entered
    Bundle {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl UserError for CommandError {
    fn code(&self) -> ErrorCode {
        ErrorCode(match self {
            Self::Stdin(_) => "RDT-SHIM-008",
            Self::Stdout(_) => "RDT-SHIM-009",
            Self::Listen { .. } => "RDT-SHIM-010",
            Self::Spawn(_) => "RDT-SHIM-011",
            Self::Write { .. } => "RDT-SHIM-012",
            Self::NoServer { .. } => "RDT-SHIM-013",
            Self::Encode(_) => "RDT-SHIM-014",
            Self::NoSocket(_) => "RDT-SHIM-015",
            Self::Server(_) => "RDT-SHIM-016",
            Self::Bundle { .. } => "RDT-SHIM-017",
        })
    }
}

/// The bundle: the folder in `-bundle`, else the working folder, where containerd
/// starts its shims.
fn bundle_of(flags: &Flags) -> Result<PathBuf, CommandError> {
    if !flags.bundle.is_empty() {
        return Ok(PathBuf::from(&flags.bundle));
    }
    let here = || CommandError::Bundle {
        path: PathBuf::from("."),
        source: io::ErrorKind::NotFound.into(),
    };
    std::env::current_dir().map_err(|_| here())
}

/// Writes a small file that containerd, or a later run of this program, reads.
fn write_file(path: &Path, text: &str) -> Result<(), CommandError> {
    std::fs::write(path, text).map_err(|source| CommandError::Write {
        path: path.to_owned(),
        source,
    })
}

/// The line for an error that ends a command.
pub fn last_line(error: &anyhow::Error) -> String {
    fn known<E: UserError>(error: &anyhow::Error) -> Option<String> {
        error
            .downcast_ref::<E>()
            .map(|error| OneLine(error).to_string())
    }
    let line = error
        .downcast_ref::<ShimError>()
        .map(ShimError::one_line)
        .or_else(|| known::<CommandError>(error))
        .or_else(|| known::<CliError>(error))
        .or_else(|| known::<redoubt_sandbox::SandboxError>(error))
        .unwrap_or_else(|| redoubt_errors::flatten(&format!("{error:#}")));
    cut(line)
}
