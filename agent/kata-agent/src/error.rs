//! Why the agent refuses or cannot do what it was asked.

#![expect(
    clippy::doc_markdown,
    reason = "the comments of variants are the messages"
)]

use std::io;
use std::path::PathBuf;

use redoubt_errors::{ErrorCode, OneLine, UserError};

/// A reason that reaches the caller's screen as one line.
#[derive(Debug, thiserror::Error, displaydoc::Display)]
#[non_exhaustive]
pub(crate) enum AgentError {
    /// cannot {action} {path}
    File {
        /// What was tried.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// cannot load kernel module {path}
    Module {
        /// The module's file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// kernel parameter {name} has the value "{value}", but must be {expected}
    Parameter {
        /// The parameter.
        name: &'static str,
        /// The value.
        value: String,
        /// What it may be.
        expected: &'static str,
    },
    /// the command line names a verified root disk, but this guest's root is its initrd
    RootDiskUnused,
    /// the guest's evidence cannot be had
    Evidence(#[from] redoubt_attester::AttesterError),
    /// the initdata disk is not readable as initdata
    Initdata(#[from] redoubt_initdata::InitdataError),
    /// initdata has the digest {found}, but HOST_DATA of this guest's report is {expected}
    InitdataMismatch {
        /// The digest of the document on the disk.
        found: String,
        /// HOST_DATA.
        expected: String,
    },
    /// this guest was launched with initdata (HOST_DATA is {expected}), but there is no initdata disk
    InitdataMissing {
        /// HOST_DATA.
        expected: String,
    },
    /// two disks carry initdata
    InitdataTwice,
    /// {entry} in initdata is not valid: {reason}
    Settings {
        /// `aa.toml` or `cdh.toml`.
        entry: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// the policy refuses
    Policy(#[from] redoubt_agent_policy::PolicyError),
    /// image {reference} is not pinned by a digest
    ImageNotPinned {
        /// The reference.
        reference: String,
    },
    /// image digest {digest} is not among the image_digests of the measured policy
    ImageNotAllowed {
        /// The digest that was asked for.
        digest: String,
    },
    /// the request names different images: {first} and {second}
    ImageNamesDisagree {
        /// One name.
        first: String,
        /// Another one.
        second: String,
    },
    /// image of container {container}
    Image {
        /// The container.
        container: String,
        /// Why it cannot be used.
        #[source]
        source: redoubt_image_offload::ImageError,
    },
    /// this guest has no key broker: cdh.toml in initdata names none
    NoBroker,
    /// key id {kid} is not of the form kbs:///repository/type/tag
    KeyId {
        /// The key id.
        kid: String,
    },
    /// the key broker refuses
    Broker(#[source] Box<redoubt_kbs_client::KbsClientError>),
    /// the guest's container engine refuses
    Container(#[from] redoubt_containers::ContainerError),
    /// the guest's network cannot be set up
    Network(#[from] redoubt_guest_network::NetworkError),
    /// the request is not valid: {reason}
    Request {
        /// What is wrong with it.
        reason: String,
    },
    /// storage {driver} at {mount_point} is not supported: {reason}
    Storage {
        /// The driver.
        driver: String,
        /// Where it should be mounted.
        mount_point: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// a mount at {destination} has the type "{kind}", which no container gets
    MountType {
        /// Where it should be mounted.
        destination: String,
        /// Its type.
        kind: String,
    },
    /// {what} {path} is not in a folder that is shared with containers
    Path {
        /// What the path is for.
        what: &'static str,
        /// The path.
        path: PathBuf,
    },
    /// the request disagrees about what the container is: {reason}
    ContainerKind {
        /// In what way.
        reason: &'static str,
    },
    /// {entry} in initdata sets {setting}, which this guest does not support
    SettingsUnsupported {
        /// `cdh.toml`.
        entry: &'static str,
        /// The setting.
        setting: &'static str,
    },
    /// container {container} was not removed within {seconds} seconds
    RemoveTimeout {
        /// The container.
        container: String,
        /// The time that the request gave.
        seconds: u32,
    },
    /// {what} is larger than {limit_bytes} bytes
    TooLarge {
        /// The part of the request.
        what: &'static str,
        /// The bound.
        limit_bytes: usize,
    },
    /// the agent failed in an unexpected way; the guest's console names the place
    Unexpected,
    /// {call} is not served by this agent
    Unimplemented {
        /// The call.
        call: &'static str,
    },
    /// there is no sandbox yet
    NoSandbox,
    /// the sandbox exists already
    SandboxExists,
    /// the agent cannot serve
    Serve(#[source] ttrpc::Error),
}

/// What agent functions return.
pub(crate) type Result<T> = std::result::Result<T, AgentError>;

impl AgentError {
    pub(crate) fn request(reason: impl Into<String>) -> Self {
        Self::Request {
            reason: reason.into(),
        }
    }

    pub(crate) fn file(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File {
            action,
            path,
            source,
        }
    }

    /// The error that speaks for this one: wrappers leave code and hint to their cause.
    fn inner(&self) -> Option<&dyn UserError> {
        match self {
            Self::Evidence(error) => Some(error),
            Self::Initdata(error) => Some(error),
            Self::Policy(error) => Some(error),
            Self::Image { source, .. } => Some(source),
            Self::Broker(error) => Some(error.as_ref()),
            Self::Container(error) => Some(error),
            Self::Network(error) => Some(error),
            _ => None,
        }
    }

    /// The status code of the ttRPC answer.
    fn ttrpc_code(&self) -> ttrpc::Code {
        use redoubt_containers::ContainerError;
        match self {
            Self::Policy(_) | Self::ImageNotAllowed { .. } => ttrpc::Code::PERMISSION_DENIED,
            Self::Request { .. }
            | Self::ImageNotPinned { .. }
            | Self::ImageNamesDisagree { .. }
            | Self::Storage { .. }
            | Self::MountType { .. }
            | Self::Path { .. }
            | Self::ContainerKind { .. }
            | Self::TooLarge { .. }
            | Self::KeyId { .. } => ttrpc::Code::INVALID_ARGUMENT,
            Self::Container(error) => match error {
                ContainerError::NoSuchContainer(_)
                | ContainerError::NoSuchProcess(_)
                | ContainerError::ProcessEnded(_) => ttrpc::Code::NOT_FOUND,
                ContainerError::AlreadyExists(_) | ContainerError::ExecIdInUse(_) => {
                    ttrpc::Code::ALREADY_EXISTS
                }
                ContainerError::InvalidId { .. }
                | ContainerError::InvalidSpec { .. }
                | ContainerError::UnsupportedSpec { .. }
                | ContainerError::InvalidSignal(_)
                | ContainerError::EmptyRead => ttrpc::Code::INVALID_ARGUMENT,
                ContainerError::WrongState { .. } => ttrpc::Code::FAILED_PRECONDITION,
                _ => ttrpc::Code::INTERNAL,
            },
            Self::RemoveTimeout { .. } => ttrpc::Code::DEADLINE_EXCEEDED,
            Self::NoSandbox | Self::SandboxExists => ttrpc::Code::FAILED_PRECONDITION,
            Self::Unimplemented { .. } => ttrpc::Code::UNIMPLEMENTED,
            _ => ttrpc::Code::INTERNAL,
        }
    }

    /// The answer to a call: the status code and this error on one line.
    pub(crate) fn into_ttrpc(self) -> ttrpc::Error {
        let status = ttrpc::get_status(self.ttrpc_code(), OneLine(&self).to_string());
        ttrpc::Error::RpcStatus(status)
    }
}

impl From<redoubt_kbs_client::KbsClientError> for AgentError {
    fn from(error: redoubt_kbs_client::KbsClientError) -> Self {
        Self::Broker(Box::new(error))
    }
}

impl UserError for AgentError {
    fn code(&self) -> ErrorCode {
        if let Some(inner) = self.inner() {
            return inner.code();
        }
        ErrorCode(match self {
            Self::File { .. } => "RDT-AGT-001",
            Self::Module { .. } => "RDT-AGT-002",
            Self::Parameter { .. } => "RDT-AGT-003",
            Self::InitdataMismatch { .. } => "RDT-AGT-004",
            Self::InitdataMissing { .. } => "RDT-AGT-005",
            Self::InitdataTwice => "RDT-AGT-006",
            Self::Settings { .. } => "RDT-AGT-007",
            Self::ImageNotPinned { .. } => "RDT-AGT-008",
            Self::ImageNotAllowed { .. } => "RDT-AGT-009",
            Self::ImageNamesDisagree { .. } => "RDT-AGT-010",
            Self::NoBroker => "RDT-AGT-011",
            Self::KeyId { .. } => "RDT-AGT-012",
            Self::Request { .. } => "RDT-AGT-013",
            Self::Storage { .. } => "RDT-AGT-014",
            Self::Unimplemented { .. } => "RDT-AGT-015",
            Self::NoSandbox => "RDT-AGT-016",
            Self::SandboxExists => "RDT-AGT-017",
            Self::Serve(_) => "RDT-AGT-018",
            Self::MountType { .. } => "RDT-AGT-019",
            Self::Path { .. } => "RDT-AGT-020",
            Self::ContainerKind { .. } => "RDT-AGT-021",
            Self::SettingsUnsupported { .. } => "RDT-AGT-022",
            Self::RemoveTimeout { .. } => "RDT-AGT-023",
            Self::TooLarge { .. } => "RDT-AGT-024",
            Self::Unexpected => "RDT-AGT-025",
            Self::RootDiskUnused => "RDT-AGT-026",
            _ => "RDT-AGT-000",
        })
    }

    fn hint(&self) -> Option<String> {
        if let Some(inner) = self.inner() {
            return inner.hint();
        }
        let hint = match self {
            Self::InitdataMismatch { .. } | Self::InitdataMissing { .. } => {
                "the host gave the guest another document than the one it was launched for"
            }
            Self::ImageNotPinned { .. } => "name the image as name@sha256:…",
            Self::ImageNotAllowed { .. } => "add the digest to image_digests in policy.rego",
            Self::NoBroker => "set [kbc] url in cdh.toml",
            Self::SettingsUnsupported { .. } => {
                "remove the setting from initdata if the workload may run without it"
            }
            _ => return None,
        };
        Some(hint.to_owned())
    }
}
