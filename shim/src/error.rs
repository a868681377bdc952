//! What can go wrong while serving containerd, and what containerd is told.

use std::path::PathBuf;

use redoubt_errors::{ErrorCode, OneLine, UserError, flatten};
use ttrpc::Code;

use crate::process_state::BadTransition;

/// The longest message sent to containerd, in bytes.
const MAX_MESSAGE_BYTES: usize = 640;

/// One way in which a request of containerd fails.
#[derive(Debug, thiserror::Error, displaydoc::Display)]
pub enum ShimError {
    /// {0}
    Passed(Box<dyn UserError>),
    /// the guest agent answered {call}: {message}
    Agent {
        /// The agent's method.
        call: &'static str,
        /// The status that the agent gave.
        code: Code,
        /// The agent's own words.
        message: String,
    },
    /// the guest agent did not answer {call}: {detail}
    AgentLost {
        /// The agent's method.
        call: &'static str,
        /// What the connection reported.
        detail: String,
    },
    /// the virtual machine of this sandbox has ended: {0}
    MachineGone(String),
    /// container {0} does not exist
    NoSuchContainer(String),
    /// container {container} has no process {exec}
    NoSuchExec {
        /// The container.
        container: String,
        /// The process that was asked for.
        exec: String,
    },
    /// container {0} exists already
    ContainerExists(String),
    /// process {0} exists already
    ExecExists(String),
    /// this request does not fit the state of {what}
    WrongState {
        /// The container or process.
        what: String,
        /// Why.
        #[source]
        source: BadTransition,
    },
    /// there is no sandbox yet in which container {0} could run
    NoSandbox(String),
    /// this shim already serves sandbox {existing}; {refused} cannot become a second one
    SecondSandbox {
        /// The sandbox that runs.
        existing: String,
        /// The one that was asked for.
        refused: String,
    },
    /// container {container} belongs to sandbox {wanted}, this shim serves {served}
    OtherSandbox {
        /// The container.
        container: String,
        /// The sandbox that it names.
        wanted: String,
        /// The sandbox of this shim.
        served: String,
    },
    /// cannot read {path}
    ReadFile {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// cannot write {path}
    WriteFile {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// {path} is larger than {limit} bytes
    FileTooLarge {
        /// The file.
        path: PathBuf,
        /// The largest size that is read, in bytes.
        limit: u64,
    },
    /// {what} is not a valid OCI document
    BadSpec {
        /// The file or message.
        what: &'static str,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// the OCI specification of container {container} has no {part}
    IncompleteSpec {
        /// The container.
        container: String,
        /// What is missing.
        part: &'static str,
    },
    /// annotation {key} has the unknown container type {value}
    UnknownContainerType {
        /// The annotation.
        key: &'static str,
        /// Its value.
        value: String,
    },
    /// container {0} names no sandbox
    NoSandboxId(String),
    /// {what} {id} may hold only letters, digits, '.', '_' and '-', and at most 128 of them
    BadIdentifier {
        /// What kind of id.
        what: &'static str,
        /// The id.
        id: String,
    },
    /// the request carries no image reference and no file system is shared with the guest
    NoImage,
    /// mount {destination} needs the host path {origin}, and no file system is shared with the guest
    HostMount {
        /// Where the container wants it.
        destination: String,
        /// The path on the host.
        origin: String,
    },
    /// no configuration file found (looked at {0})
    NoConfiguration(String),
    /// the runtime options are malformed
    BadOptions(#[source] protobuf::Error),
    /// {what} {uri} is not supported: {reason}
    UnsupportedStdio {
        /// stdin, stdout or stderr.
        what: &'static str,
        /// The address given by containerd.
        uri: String,
        /// Why.
        reason: &'static str,
    },
    /// cannot open {what} {path}
    OpenStdio {
        /// stdin, stdout or stderr.
        what: &'static str,
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// the request carries a {found} where a {wanted} is needed
    WrongMessage {
        /// The type that came.
        found: String,
        /// The type that is needed.
        wanted: &'static str,
    },
    /// checkpoints of confidential guests are not supported
    Checkpoint,
    /// the shim is shutting down
    ShuttingDown,
    /// an internal task of the shim failed: {0}
    Internal(String),
}

/// What every request returns.
pub type Result<T> = std::result::Result<T, ShimError>;

impl UserError for ShimError {
    fn code(&self) -> ErrorCode {
        ErrorCode(match self {
            Self::Passed(inner) => return inner.code(),
            Self::Agent { .. } => "RDT-SHIM-020",
            Self::AgentLost { .. } => "RDT-SHIM-021",
            Self::MachineGone(_) => "RDT-SHIM-022",
            Self::NoSuchContainer(_) => "RDT-SHIM-023",
            Self::NoSuchExec { .. } => "RDT-SHIM-024",
            Self::ContainerExists(_) => "RDT-SHIM-025",
            Self::ExecExists(_) => "RDT-SHIM-026",
            Self::WrongState { .. } => "RDT-SHIM-027",
            Self::NoSandbox(_) => "RDT-SHIM-028",
            Self::SecondSandbox { .. } => "RDT-SHIM-029",
            Self::OtherSandbox { .. } => "RDT-SHIM-030",
            Self::ReadFile { .. } => "RDT-SHIM-031",
            Self::WriteFile { .. } => "RDT-SHIM-032",
            Self::FileTooLarge { .. } => "RDT-SHIM-033",
            Self::BadSpec { .. } => "RDT-SHIM-034",
            Self::IncompleteSpec { .. } => "RDT-SHIM-035",
            Self::UnknownContainerType { .. } => "RDT-SHIM-036",
            Self::NoSandboxId(_) => "RDT-SHIM-037",
            Self::BadIdentifier { .. } => "RDT-SHIM-038",
            Self::NoImage => "RDT-SHIM-039",
            Self::HostMount { .. } => "RDT-SHIM-040",
            Self::NoConfiguration(_) => "RDT-SHIM-041",
            Self::BadOptions(_) => "RDT-SHIM-042",
            Self::UnsupportedStdio { .. } => "RDT-SHIM-043",
            Self::OpenStdio { .. } => "RDT-SHIM-044",
            Self::WrongMessage { .. } => "RDT-SHIM-045",
            Self::Checkpoint => "RDT-SHIM-046",
            Self::ShuttingDown => "RDT-SHIM-047",
            Self::Internal(_) => "RDT-SHIM-048",
        })
    }

    fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Passed(inner) => return inner.hint(),
            Self::NoImage => {
                "set the annotation io.redoubt.image to a reference by digest, name@sha256:…, or \
                 start the container through CRI"
            }
            Self::HostMount { .. } => "remove the mount, or put the files into the image",
            Self::NoConfiguration(_) => "set KATA_CONF_FILE or ConfigPath in containerd's options",
            Self::UnsupportedStdio { .. } => "use FIFOs, as ctr and CRI do, or file:///path",
            _ => return None,
        };
        Some(text.to_owned())
    }
}

impl ShimError {
    /// Keeps an error of another crate whole: its code, causes and hint.
    pub fn passed(error: impl UserError) -> Self {
        Self::Passed(Box::new(error))
    }

    /// One line for a person. An agent's message that carries its own code stays as it is.
    pub fn one_line(&self) -> String {
        let line = match self {
            Self::Agent { message, .. } if carries_code(message) => flatten(message),
            Self::Passed(inner) => OneLine(inner.as_ref()).to_string(),
            other => OneLine(other).to_string(),
        };
        cut(line)
    }

    /// The status code for containerd, which treats some of them in a special way.
    pub fn status_code(&self) -> Code {
        match self {
            Self::Agent { code, .. } => match code {
                Code::OK => Code::UNKNOWN,
                other => *other,
            },
            Self::AgentLost { .. } | Self::MachineGone(_) | Self::ShuttingDown => Code::UNAVAILABLE,
            Self::NoSuchContainer(_) | Self::NoSuchExec { .. } => Code::NOT_FOUND,
            Self::ContainerExists(_) | Self::ExecExists(_) => Code::ALREADY_EXISTS,
            Self::WrongState { .. } | Self::NoSandbox(_) | Self::SecondSandbox { .. } => {
                Code::FAILED_PRECONDITION
            }
            Self::BadSpec { .. }
            | Self::IncompleteSpec { .. }
            | Self::UnknownContainerType { .. }
            | Self::NoSandboxId(_)
            | Self::BadIdentifier { .. }
            | Self::OtherSandbox { .. }
            | Self::HostMount { .. }
            | Self::NoImage
            | Self::BadOptions(_)
            | Self::UnsupportedStdio { .. }
            | Self::WrongMessage { .. } => Code::INVALID_ARGUMENT,
            Self::Checkpoint => Code::UNIMPLEMENTED,
            _ => Code::UNKNOWN,
        }
    }
}

impl From<ShimError> for ttrpc::Error {
    fn from(error: ShimError) -> Self {
        ttrpc::Error::RpcStatus(ttrpc::get_status(error.status_code(), error.one_line()))
    }
}

fn carries_code(message: &str) -> bool {
    message.starts_with("[RDT-")
}

/// Bounds a line. Its end is cut, but for the hint that may follow.
pub(crate) fn cut(line: String) -> String {
    if line.len() <= MAX_MESSAGE_BYTES {
        return line;
    }
    let hint = line
        .rfind(" (hint: ")
        .and_then(|start| line.get(start..))
        .filter(|hint| hint.len() < MAX_MESSAGE_BYTES / 2)
        .unwrap_or_default();
    let mut end = MAX_MESSAGE_BYTES - hint.len() - '…'.len_utf8();
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…{hint}", line.get(..end).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(message: &str, code: Code) -> ShimError {
        ShimError::Agent {
            call: "ExecProcess",
            code,
            message: message.to_owned(),
        }
    }

    #[test]
    fn a_coded_message_of_the_agent_stays_as_it_is() {
        let error = agent(
            "[RDT-POL-001] ExecProcessRequest is blocked by policy\nrule exec",
            Code::PERMISSION_DENIED,
        );
        assert_eq!(
            error.one_line(),
            "[RDT-POL-001] ExecProcessRequest is blocked by policy rule exec"
        );
        assert_eq!(error.status_code(), Code::PERMISSION_DENIED);
    }

    #[test]
    fn a_foreign_message_of_the_agent_gets_a_code() {
        assert_eq!(
            agent("process not found", Code::NOT_FOUND).one_line(),
            "[RDT-SHIM-020] the guest agent answered ExecProcess: process not found"
        );
    }

    #[test]
    fn a_long_message_is_cut_at_a_character() {
        let line = agent(&"ü".repeat(9000), Code::INTERNAL).one_line();
        assert!(line.len() <= MAX_MESSAGE_BYTES);
        assert!(line.ends_with('…'));
    }

    #[test]
    fn a_cut_message_keeps_its_hint() {
        let line = cut(format!(
            "[RDT-VMM-019] {} (hint: raise it)",
            "ü".repeat(900)
        ));
        assert!(line.len() <= MAX_MESSAGE_BYTES);
        assert!(line.ends_with("ü… (hint: raise it)"));
    }

    #[test]
    fn the_missing_image_says_what_to_do() {
        insta::assert_snapshot!(ShimError::NoImage.one_line(), @"[RDT-SHIM-039] the request carries no image reference and no file system is shared with the guest (hint: set the annotation io.redoubt.image to a reference by digest, name@sha256:…, or start the container through CRI)");
    }

    #[test]
    fn containerd_sees_a_status_and_one_line() {
        let ttrpc::Error::RpcStatus(status) =
            ttrpc::Error::from(ShimError::NoSuchContainer("web".to_owned()))
        else {
            panic!("not a status");
        };
        assert_eq!(status.code(), Code::NOT_FOUND);
        assert_eq!(
            status.message,
            "[RDT-SHIM-023] container web does not exist"
        );
    }
}
