//! containerd's task service.

mod core;
mod create;
mod delete;
mod exec;
mod process;
mod query;
mod watch;

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;
use containerd_shim_protos::api;
use containerd_shim_protos::shim_async::{Task, create_task};
use protobuf::well_known_types::empty::Empty;
use ttrpc::asynchronous::{Service, TtrpcContext};

pub use self::core::Core;
use crate::error::{Result, ShimError};

/// The task service as containerd calls it.
#[derive(Clone, Debug)]
pub struct TaskService {
    core: Arc<Core>,
}

impl TaskService {
    /// Serves the state in `core`.
    pub fn new(core: Arc<Core>) -> Self {
        Self { core }
    }
}

/// Names under which containerd 1.6 and 1.7, and 2.x, call the same service.
const SERVICE_NAMES: [&str; 2] = ["containerd.task.v2.Task", "containerd.task.v3.Task"];

/// The task service under both of its names, for a ttRPC server.
pub fn services(core: &Arc<Core>) -> HashMap<String, Service> {
    SERVICE_NAMES
        .iter()
        .flat_map(|name| {
            let service = create_task(Arc::new(TaskService::new(core.clone())));
            service
                .into_values()
                .map(|service| ((*name).to_owned(), service))
        })
        .collect()
}

/// Runs a request to its end even if containerd hangs up in between: a half-made
/// container would be lost otherwise.
async fn complete<T: Send + 'static>(
    call: &'static str,
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> ttrpc::Result<T> {
    let result = tokio::spawn(work)
        .await
        .unwrap_or_else(|error| Err(ShimError::Internal(error.to_string())));
    result.map_err(|error| {
        tracing::warn!(call, error = error.one_line(), "request failed");
        error.into()
    })
}

/// Forwards the service's methods to the core's; those marked `now` do not
/// wait, and `surely` do not fail either.
macro_rules! forward {
    ($($kind:ident $name:ident($request:ty) -> $response:ty = $call:literal;)+) => {
        #[async_trait]
        impl Task for TaskService {
            $(async fn $name(&self, _: &TtrpcContext, request: $request) -> ttrpc::Result<$response> {
                let core = self.core.clone();
                complete($call, async move { forward!(@$kind core.$name(request)) }).await
            })+
        }
    };
    (@now $receiver:ident.$name:ident($request:expr)) => { $receiver.$name(&$request) };
    (@surely $receiver:ident.$name:ident($request:expr)) => { Ok($receiver.$name(&$request)) };
    (@later $receiver:ident.$name:ident($request:expr)) => {
        $receiver.$name($request).await
    };
}

forward! {
    now state(api::StateRequest) -> api::StateResponse = "State";
    later create(api::CreateTaskRequest) -> api::CreateTaskResponse = "Create";
    later start(api::StartRequest) -> api::StartResponse = "Start";
    later delete(api::DeleteRequest) -> api::DeleteResponse = "Delete";
    now pids(api::PidsRequest) -> api::PidsResponse = "Pids";
    later pause(api::PauseRequest) -> Empty = "Pause";
    later resume(api::ResumeRequest) -> Empty = "Resume";
    now checkpoint(api::CheckpointTaskRequest) -> Empty = "Checkpoint";
    later kill(api::KillRequest) -> Empty = "Kill";
    now exec(api::ExecProcessRequest) -> Empty = "Exec";
    later resize_pty(api::ResizePtyRequest) -> Empty = "ResizePty";
    now close_io(api::CloseIORequest) -> Empty = "CloseIO";
    later update(api::UpdateTaskRequest) -> Empty = "Update";
    later wait(api::WaitRequest) -> api::WaitResponse = "Wait";
    later stats(api::StatsRequest) -> api::StatsResponse = "Stats";
    now connect(api::ConnectRequest) -> api::ConnectResponse = "Connect";
    surely shutdown(api::ShutdownRequest) -> Empty = "Shutdown";
}
