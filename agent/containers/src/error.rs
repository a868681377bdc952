//! Everything that can go wrong with a container in the guest.

use std::io;
use std::path::PathBuf;

use redoubt_errors::{ErrorCode, UserError};

use crate::ids::{ContainerId, ProcessId};
use crate::manager::ContainerState;

/// Why a container operation failed. No message carries a process's environment or arguments.
#[derive(Debug, thiserror::Error, displaydoc::Display)]
#[non_exhaustive]
pub enum ContainerError {
    /// {kind} id is not valid: 1 to 128 of A-Z a-z 0-9 . _ -, beginning with a letter or digit
    InvalidId {
        /// "container" or "exec".
        kind: &'static str,
    },
    /// the container's OCI specification is not valid: {reason}
    InvalidSpec {
        /// Which rule it breaks, without values from the specification.
        reason: String,
    },
    /// the OCI specification asks for {feature}, which this guest cannot enforce
    UnsupportedSpec {
        /// The part of the specification.
        feature: &'static str,
    },
    /// container {0} already exists
    AlreadyExists(ContainerId),
    /// container {0} does not exist
    NoSuchContainer(ContainerId),
    /// process {0} does not exist
    NoSuchProcess(ProcessId),
    /// process {0} is already running
    ExecIdInUse(ProcessId),
    /// cannot {action} container {id}: it is {state}
    WrongState {
        /// What was asked.
        action: &'static str,
        /// The container.
        id: ContainerId,
        /// The state that forbids it.
        state: ContainerState,
    },
    /// the limit of {limit} {what} is reached
    TooMany {
        /// What is counted.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// cannot start the container helper process
    HelperSpawn(#[source] io::Error),
    /// lost the connection to the container helper process
    HelperConnection(#[source] io::Error),
    /// the container helper process ended without an answer ({status})
    HelperDied {
        /// How it ended.
        status: crate::exit::ExitStatus,
    },
    /// the container helper process answered with something unexpected
    HelperAnswer,
    /// the container helper process did not answer within {seconds} s
    HelperTimeout {
        /// The limit that passed.
        seconds: u64,
    },
    /// cannot {operation} the container: {message}
    Runtime {
        /// "create", "start" or "exec in".
        operation: &'static str,
        /// The runtime's own words on one line.
        message: String,
    },
    /// process {0} has ended
    ProcessEnded(ProcessId),
    /// {0} is not a signal number
    InvalidSignal(u32),
    /// cannot send signal {signal} to a process of container {id}
    Signal {
        /// The signal's number.
        signal: i32,
        /// The container.
        id: ContainerId,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// process {0} has no terminal
    NoTerminal(ProcessId),
    /// the standard input of process {0} is closed
    StdinClosed(ProcessId),
    /// cannot read or write a standard stream of a container process
    Stream(#[source] io::Error),
    /// a read must ask for at least one byte
    EmptyRead,
    /// cannot {action} {path}
    Cgroup {
        /// What was tried.
        action: &'static str,
        /// The control group file or folder.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// control group {path} did not become {goal} in time
    CgroupTimeout {
        /// The control group.
        path: PathBuf,
        /// "empty", "frozen" or "thawed".
        goal: &'static str,
    },
    /// cannot change the resources of container {id}: {message}
    Resources {
        /// The container.
        id: ContainerId,
        /// The control group library's words.
        message: String,
    },
    /// cannot {action} {path}
    State {
        /// What was tried.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// cannot use the root file system {path}
    RootFs {
        /// The root file system or a folder in it.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// a process of container {0} did not end after SIGKILL
    StillRunning(ContainerId),
    /// cannot watch child processes
    Reaper(#[source] io::Error),
    /// the watch over child processes has ended
    ReaperStopped,
}

impl UserError for ContainerError {
    fn code(&self) -> ErrorCode {
        ErrorCode(match self {
            Self::InvalidId { .. } => "RDT-CTR-001",
            Self::InvalidSpec { .. } => "RDT-CTR-002",
            Self::UnsupportedSpec { .. } => "RDT-CTR-003",
            Self::AlreadyExists(_) => "RDT-CTR-004",
            Self::NoSuchContainer(_) => "RDT-CTR-005",
            Self::NoSuchProcess(_) => "RDT-CTR-006",
            Self::ExecIdInUse(_) => "RDT-CTR-007",
            Self::WrongState { .. } => "RDT-CTR-008",
            Self::TooMany { .. } => "RDT-CTR-009",
            Self::HelperSpawn(_) => "RDT-CTR-010",
            Self::HelperConnection(_) => "RDT-CTR-011",
            Self::HelperDied { .. } => "RDT-CTR-012",
            Self::HelperAnswer => "RDT-CTR-013",
            Self::HelperTimeout { .. } => "RDT-CTR-014",
            Self::Runtime { .. } => "RDT-CTR-015",
            Self::ProcessEnded(_) => "RDT-CTR-016",
            Self::InvalidSignal(_) => "RDT-CTR-017",
            Self::Signal { .. } => "RDT-CTR-018",
            Self::NoTerminal(_) => "RDT-CTR-019",
            Self::StdinClosed(_) => "RDT-CTR-020",
            Self::Stream(_) => "RDT-CTR-021",
            Self::EmptyRead => "RDT-CTR-022",
            Self::Cgroup { .. } => "RDT-CTR-023",
            Self::CgroupTimeout { .. } => "RDT-CTR-024",
            Self::Resources { .. } => "RDT-CTR-025",
            Self::State { .. } => "RDT-CTR-026",
            Self::RootFs { .. } => "RDT-CTR-027",
            Self::StillRunning(_) => "RDT-CTR-028",
            Self::Reaper(_) => "RDT-CTR-029",
            Self::ReaperStopped => "RDT-CTR-030",
        })
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::UnsupportedSpec {
                feature: "a seccomp profile",
            } => Some(
                "this guest applies no seccomp profiles, and its own shim sends none; remove the \
                 profile from what was sent"
                    .to_owned(),
            ),
            Self::UnsupportedSpec { .. } => {
                Some("remove it from the pod's or container's settings".to_owned())
            }
            _ => None,
        }
    }
}
