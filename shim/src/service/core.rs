//! What the requests share: the sandbox, its containers, the way to tell containerd.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use containerd_shim_protos::api::ShutdownRequest;
use protobuf::well_known_types::empty::Empty;
use tokio_util::sync::CancellationToken;

use crate::container::Container;
use crate::error::{Result, ShimError};
use crate::events::EventSender;
use crate::machine::Launcher;
use crate::pod::Pod;
use crate::process::Process;

/// The state behind the task service.
pub struct Core {
    pub(super) launcher: Box<dyn Launcher>,
    pub(super) events: EventSender,
    /// One creation at a time.
    pub(super) creating: tokio::sync::Mutex<()>,
    shutdown: CancellationToken,
    shared: Mutex<Shared>,
}

#[derive(Default)]
struct Shared {
    pod: Option<Arc<Pod>>,
    containers: BTreeMap<String, Arc<Container>>,
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core").finish_non_exhaustive()
    }
}

impl Core {
    /// No sandbox yet; machines come from `launcher`.
    pub fn new(launcher: Box<dyn Launcher>, events: EventSender) -> Self {
        Self {
            launcher,
            events,
            creating: tokio::sync::Mutex::default(),
            shutdown: CancellationToken::new(),
            shared: Mutex::default(),
        }
    }

    /// Is cancelled when the shim is to end.
    pub fn shutdown_token(&self) -> CancellationToken {
        self.shutdown.clone()
    }

    /// Ends the machine, if there is one, and lets the shim end.
    pub async fn end(&self) {
        self.shutdown.cancel();
        // A creation notices the cancellation and gives up.
        let _turn = self.creating.lock().await;
        if let Some(pod) = self.forget_pod() {
            pod.stop().await;
        }
    }

    pub(super) fn pod(&self) -> Option<Arc<Pod>> {
        self.shared().pod.clone()
    }

    /// The sandbox that container `id` needs.
    pub(super) fn pod_for(&self, id: &str) -> Result<Arc<Pod>> {
        self.pod()
            .ok_or_else(|| ShimError::NoSandbox(id.to_owned()))
    }

    pub(super) fn remember_pod(&self, pod: Arc<Pod>) {
        self.shared().pod = Some(pod);
    }

    pub(super) fn forget_pod(&self) -> Option<Arc<Pod>> {
        self.shared().pod.take()
    }

    /// The host process that stands for all containers; zero without a machine.
    pub(super) fn pid(&self) -> u32 {
        self.pod().map_or(0, |pod| pod.machine.pid())
    }

    pub(super) fn has_container(&self, id: &str) -> bool {
        self.shared().containers.contains_key(id)
    }

    pub(super) fn container(&self, id: &str) -> Result<Arc<Container>> {
        self.shared()
            .containers
            .get(id)
            .cloned()
            .ok_or_else(|| ShimError::NoSuchContainer(id.to_owned()))
    }

    pub(super) fn process(&self, id: &str, exec_id: &str) -> Result<Arc<Process>> {
        self.container(id)?.process(exec_id)
    }

    pub(super) fn containers(&self) -> Vec<Arc<Container>> {
        self.shared().containers.values().cloned().collect()
    }

    pub(super) fn remember_container(&self, container: Arc<Container>) {
        self.shared()
            .containers
            .insert(container.id.clone(), container);
    }

    pub(super) fn forget_container(&self, id: &str) {
        self.shared().containers.remove(id);
    }

    /// Ends the shim, unless it still has containers.
    pub(super) fn shutdown(&self, request: &ShutdownRequest) -> Empty {
        if self.shared().containers.is_empty() || request.now {
            self.shutdown.cancel();
        }
        Empty::new()
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
