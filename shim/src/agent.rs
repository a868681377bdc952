//! Calls to the guest's agent, with their time limits and typed failures.

use std::time::Duration;

use redoubt_agent_api::agent as api;
use redoubt_agent_api::agent_ttrpc::AgentServiceClient;
use redoubt_agent_api::health::CheckRequest;
use redoubt_agent_api::health_ttrpc::HealthClient;
use ttrpc::asynchronous::Client;
use ttrpc::context::{self, Context};

use crate::error::{Result, ShimError};

/// How long an ordinary call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the first sign of life may take on an open connection.
const CHECK_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the guest may take to say good-bye.
const DESTROY_TIMEOUT: Duration = Duration::from_secs(5);
/// The most that one read asks for, in bytes.
pub const READ_BYTES: u32 = 32 * 1024;
/// The most that one write carries, in bytes.
pub const WRITE_BYTES: usize = 64 * 1024;

/// Names one process of the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessRef {
    /// The container.
    pub container: String,
    /// The process; the container's own id for its first process.
    pub exec: String,
}

/// Which output of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A connection to the agent; clones share it.
#[derive(Clone)]
pub struct AgentClient {
    service: AgentServiceClient,
    health: HealthClient,
    create_timeout: Duration,
}

impl std::fmt::Debug for AgentClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AgentClient").finish_non_exhaustive()
    }
}

/// Makes the plain calls: method of the client, name on the wire, request, response.
macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident($request:ty) -> $response:ty = $wire:literal;)+) => {
        $($(#[$doc])*
        pub async fn $name(&self, request: $request) -> Result<$response> {
            self.service
                .$name(limit(CALL_TIMEOUT), &request)
                .await
                .map_err(|error| failed($wire, error))
        })+
    };
}

type Empty = protobuf::well_known_types::empty::Empty;

impl AgentClient {
    /// Calls through `client`; creating a container may take `create_timeout`.
    pub fn new(client: Client, create_timeout: Duration) -> Self {
        Self {
            service: AgentServiceClient::new(client.clone()),
            health: HealthClient::new(client),
            create_timeout,
        }
    }

    calls! {
        /// Replaces the guest's policy.
        set_policy(api::SetPolicyRequest) -> Empty = "SetPolicy";
        /// Configures a network interface.
        update_interface(api::UpdateInterfaceRequest)
            -> redoubt_agent_api::types::Interface = "UpdateInterface";
        /// Replaces the routes.
        update_routes(api::UpdateRoutesRequest) -> api::Routes = "UpdateRoutes";
        /// Adds neighbours.
        add_arp_neighbors(api::AddARPNeighborsRequest) -> Empty = "AddARPNeighbors";
        /// Sets up what all containers share.
        create_sandbox(api::CreateSandboxRequest) -> Empty = "CreateSandbox";
        /// Asks what the agent can do.
        get_guest_details(api::GuestDetailsRequest)
            -> api::GuestDetailsResponse = "GetGuestDetails";
        /// Starts a created container.
        start_container(api::StartContainerRequest) -> Empty = "StartContainer";
        /// Removes a container.
        remove_container(api::RemoveContainerRequest) -> Empty = "RemoveContainer";
        /// Starts another process in a container.
        exec_process(api::ExecProcessRequest) -> Empty = "ExecProcess";
        /// Sends a signal.
        signal_process(api::SignalProcessRequest) -> Empty = "SignalProcess";
        /// Changes a container's limits.
        update_container(api::UpdateContainerRequest) -> Empty = "UpdateContainer";
        /// Reads a container's counters.
        stats_container(api::StatsContainerRequest)
            -> api::StatsContainerResponse = "StatsContainer";
        /// Freezes a container.
        pause_container(api::PauseContainerRequest) -> Empty = "PauseContainer";
        /// Thaws a container.
        resume_container(api::ResumeContainerRequest) -> Empty = "ResumeContainer";
        /// Sets a terminal's size.
        tty_win_resize(api::TtyWinResizeRequest) -> Empty = "TtyWinResize";
        /// Ends a process's input.
        close_stdin(api::CloseStdinRequest) -> Empty = "CloseStdin";
        /// Writes one piece of a file.
        copy_file(api::CopyFileRequest) -> Empty = "CopyFile";
    }

    /// Asks for a sign of life.
    pub async fn check(&self) -> Result<()> {
        self.health
            .check(limit(CHECK_TIMEOUT), &CheckRequest::default())
            .await
            .map(drop)
            .map_err(|error| failed("Check", error))
    }

    /// Creates a container, its image included.
    pub async fn create_container(&self, request: api::CreateContainerRequest) -> Result<()> {
        self.service
            .create_container(limit(self.create_timeout), &request)
            .await
            .map(drop)
            .map_err(|error| failed("CreateContainer", error))
    }

    /// Tells the guest that it is about to end.
    pub async fn destroy_sandbox(&self) -> Result<()> {
        self.service
            .destroy_sandbox(
                limit(DESTROY_TIMEOUT),
                &api::DestroySandboxRequest::default(),
            )
            .await
            .map(drop)
            .map_err(|error| failed("DestroySandbox", error))
    }

    /// Waits, without a limit, for the end of a process.
    pub async fn wait_process(&self, process: &ProcessRef) -> Result<i32> {
        let request = api::WaitProcessRequest {
            container_id: process.container.clone(),
            exec_id: process.exec.clone(),
            ..Default::default()
        };
        self.service
            .wait_process(Context::default(), &request)
            .await
            .map(|response| response.status)
            .map_err(|error| failed("WaitProcess", error))
    }

    /// Waits, without a limit, for a container to run out of memory.
    pub async fn oom_event(&self) -> Result<String> {
        self.service
            .get_oom_event(Context::default(), &api::GetOOMEventRequest::default())
            .await
            .map(|event| event.container_id)
            .map_err(|error| failed("GetOOMEvent", error))
    }

    /// Waits, without a limit, for output.
    pub async fn read(&self, process: &ProcessRef, output: Output) -> Result<Vec<u8>> {
        let request = api::ReadStreamRequest {
            container_id: process.container.clone(),
            exec_id: process.exec.clone(),
            len: READ_BYTES,
            ..Default::default()
        };
        let limitless = Context::default();
        match output {
            Output::Stdout => self.service.read_stdout(limitless, &request).await,
            Output::Stderr => self.service.read_stderr(limitless, &request).await,
        }
        .map(|response| response.data)
        .map_err(|error| failed("ReadStream", error))
    }

    /// Writes to a process's input; returns how many bytes were taken. There is no limit
    /// on the time, because a process reads when it wants to.
    pub async fn write(&self, process: &ProcessRef, data: &[u8]) -> Result<usize> {
        let request = api::WriteStreamRequest {
            container_id: process.container.clone(),
            exec_id: process.exec.clone(),
            data: data.to_vec(),
            ..Default::default()
        };
        self.service
            .write_stdin(Context::default(), &request)
            .await
            .map(|response| {
                usize::try_from(response.len)
                    .unwrap_or(usize::MAX)
                    .min(data.len())
            })
            .map_err(|error| failed("WriteStdin", error))
    }
}

fn limit(duration: Duration) -> Context {
    context::with_duration(duration)
}

fn failed(call: &'static str, error: ttrpc::Error) -> ShimError {
    match error {
        ttrpc::Error::RpcStatus(status) => ShimError::Agent {
            call,
            code: status.code(),
            message: status.message,
        },
        other => ShimError::AgentLost {
            call,
            detail: other.to_string(),
        },
    }
}

impl ShimError {
    /// True when the agent does not offer the call at all.
    pub fn is_unimplemented(&self) -> bool {
        match self {
            Self::Agent {
                code: ttrpc::Code::UNIMPLEMENTED,
                ..
            } => true,
            // What a generated service answers for a method that nobody wrote.
            Self::Agent {
                code: ttrpc::Code::NOT_FOUND,
                message,
                ..
            } => message.ends_with(" is not supported"),
            _ => false,
        }
    }
}
