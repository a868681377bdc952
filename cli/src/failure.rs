//! Failures of a command and the exit codes that scripts see.

#![expect(
    clippy::doc_markdown,
    reason = "doc comments of errors are their messages"
)]

use std::path::PathBuf;
use std::process::ExitCode;

use redoubt_errors::{ErrorCode, UserError};
use redoubt_firmware::FirmwareError;
use redoubt_id_block::IdBlockError;
use redoubt_launch_digest::DigestError;

/// Why a command failed: an error of any of the libraries.
#[derive(Debug)]
pub(crate) struct Failure {
    error: Box<dyn UserError>,
    /// An exit code in the place of the area's.
    exit_code: Option<u8>,
}

/// The exit code of `redoubt verify` where there is nothing to judge.
const UNUSABLE_INPUT: u8 = 30;

impl<E: UserError> From<E> for Failure {
    fn from(error: E) -> Self {
        Self {
            error: Box::new(error),
            exit_code: None,
        }
    }
}

impl Failure {
    pub(crate) fn error(&self) -> &dyn UserError {
        &*self.error
    }

    /// The same failure of a command whose other exit codes are verdicts.
    pub(crate) fn unusable_input(self) -> Self {
        Self {
            exit_code: Some(UNUSABLE_INPUT),
            ..self
        }
    }

    /// The exit code, by the area of the error. 2 is left to wrong usage.
    pub(crate) fn exit_code(&self) -> ExitCode {
        if let Some(code) = self.exit_code {
            return ExitCode::from(code);
        }
        let code = self.error.code().0;
        let area = code.split('-').nth(1).unwrap_or_default();
        ExitCode::from(match area {
            "CFG" | "PLAN" => 3,
            "FW" | "DIG" | "IDB" | "TDX" | "INIT" | "GIMG" | "POD" => 4,
            "EVD" | "VER" | "SIM" | "LOG" | "COL" => 5,
            "KBP" | "KBC" | "KBS" => 6,
            "ENC" | "IMG" => 20,
            _ => 1,
        })
    }
}

/// What goes wrong in the command itself.
#[derive(Debug, thiserror::Error, displaydoc::Display)]
pub(crate) enum CliError {
    /// cannot read {path:?}
    Read {
        /// Path of the file.
        path: PathBuf,
        /// Why not.
        #[source]
        cause: std::io::Error,
    },
    /// cannot write {path:?}
    Write {
        /// Path of the file.
        path: PathBuf,
        /// Why not.
        #[source]
        cause: std::io::Error,
    },
    /// file {path:?} is larger than {limit_mib} MiB
    TooLarge {
        /// Path of the file.
        path: PathBuf,
        /// The limit in MiB.
        limit_mib: u64,
    },
    /// file {path:?} is not text
    NotText {
        /// Path of the file.
        path: PathBuf,
    },
    /// cannot write the result
    Output(#[source] std::io::Error),
    /// cannot write JSON
    Json(#[source] serde_json::Error),
    /// the sandbox is not confidential, so that nothing of it is measured
    NotMeasured,
    /// file {path:?} is no initdata: neither a document nor an annotation nor a disk image
    NotInitdata {
        /// Path of the file.
        path: PathBuf,
    },
    /// entry {name} is given twice
    EntryTwice {
        /// The entry's name.
        name: String,
    },
    /// the manifest has no workload {name:?}, but {found}
    NoSuchWorkload {
        /// What was asked for.
        name: String,
        /// The workloads of the manifest.
        found: String,
    },
    /// this register is explained from the parts of a launch: {option} is missing
    ExplainNeeds {
        /// The option.
        option: &'static str,
    },
    /// file {path:?} is no evidence of {expected}
    OtherTee {
        /// Path of the file.
        path: PathBuf,
        /// The TEE that was expected.
        expected: &'static str,
    },
    /// the manifest has several workloads
    SeveralWorkloads,
    /// cannot start the runtime
    Runtime(#[source] std::io::Error),
    /// firmware {path:?} cannot be used
    Firmware {
        /// Path of the file.
        path: PathBuf,
        /// What is wrong with it, and where.
        #[source]
        cause: FirmwareError,
    },
    /// file {path:?} cannot be used
    Digest {
        /// Path of the file.
        path: PathBuf,
        /// What is wrong with it, and where.
        #[source]
        cause: DigestError,
    },
    /// file {path:?} is not usable for an ID block
    IdBlock {
        /// Path of the file.
        path: PathBuf,
        /// What is wrong with it, and where.
        #[source]
        cause: Box<IdBlockError>,
    },
    /// option --append cannot be used
    Cmdline(#[source] DigestError),
    /// a thread that hashes files ended early
    Thread,
    /// a {tee} guest reports nothing, so that there are no reference values for it
    NotReportable {
        /// The generation of the guest.
        tee: &'static str,
    },
}

impl UserError for CliError {
    fn code(&self) -> ErrorCode {
        ErrorCode(match self {
            Self::Read { .. } => "RDT-CLI-001",
            Self::Write { .. } => "RDT-CLI-002",
            Self::TooLarge { .. } => "RDT-CLI-003",
            Self::NotText { .. } => "RDT-CLI-004",
            Self::Output(_) => "RDT-CLI-005",
            Self::Json(_) => "RDT-CLI-006",
            Self::NotMeasured => "RDT-CLI-007",
            Self::NotInitdata { .. } => "RDT-CLI-008",
            Self::EntryTwice { .. } => "RDT-CLI-009",
            Self::Runtime(_) => "RDT-CLI-010",
            Self::ExplainNeeds { .. } => "RDT-CLI-022",
            Self::OtherTee { .. } => "RDT-CLI-023",
            Self::SeveralWorkloads => "RDT-CLI-021",
            Self::NoSuchWorkload { .. } => "RDT-CLI-020",
            Self::Firmware { cause, .. } => return cause.code(),
            Self::Digest { cause, .. } | Self::Cmdline(cause) => return cause.code(),
            Self::IdBlock { cause, .. } => return cause.code(),
            Self::Thread => "RDT-CLI-011",
            Self::NotReportable { .. } => "RDT-CLI-012",
        })
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Firmware { cause, .. } => cause.hint(),
            Self::Digest { cause, .. } | Self::Cmdline(cause) => cause.hint(),
            Self::IdBlock { cause, .. } => cause.hint(),
            Self::NotMeasured => {
                Some("set confidential_guest = true in [hypervisor.qemu]".to_owned())
            }
            Self::SeveralWorkloads => Some("choose one with --workload".to_owned()),
            Self::ExplainNeeds { .. } => {
                Some("give --firmware, and for RTMR2 --kernel, --initrd and --append".to_owned())
            }
            _ => None,
        }
    }
}
