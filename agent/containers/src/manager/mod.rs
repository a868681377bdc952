//! All containers of the guest.

mod container;
mod execs;
mod state;

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use oci_spec::runtime::{LinuxResources, Process as OciProcess, Spec};
use tokio::sync::mpsc;

use crate::cgroup::Cgroup;
use crate::error::ContainerError;
use crate::exit::ExitStatus;
use crate::ids::{ContainerId, ProcessId};
use crate::io::TerminalSize;
use crate::lock;
use crate::process::Process;
use crate::reaper::Reaper;
use crate::stats::CgroupStats;

use container::Container;
pub use state::ContainerState;

/// How many out-of-memory events wait for a taker.
const OOM_QUEUE: usize = 64;

/// Where the manager keeps its files, and its limits.
#[derive(Clone, Debug)]
pub struct ManagerConfig {
    /// A folder on a memory file system: it holds the containers' specifications, which may
    /// contain secrets. The manager makes it, for root only.
    pub state_dir: PathBuf,
    /// The control group under which containers' groups are made, without slashes.
    pub cgroup_parent: String,
    /// The most containers at a time.
    pub max_containers: usize,
    /// The most running processes added to one container.
    pub max_execs: usize,
    /// How long one call to the container runtime may take.
    pub helper_timeout: Duration,
}

impl Default for ManagerConfig {
    fn default() -> Self {
        Self {
            state_dir: "/run/redoubt/containers".into(),
            cgroup_parent: "redoubt".to_owned(),
            max_containers: 256,
            max_execs: 1024,
            helper_timeout: Duration::from_secs(60),
        }
    }
}

/// What every container needs of its manager.
#[derive(Debug)]
struct Context {
    config: ManagerConfig,
    reaper: Reaper,
    oom: mpsc::Sender<ContainerId>,
    /// Numbers files of which several may exist at a time.
    counter: AtomicU64,
}

impl Context {
    /// libcontainer's folder, with one folder per container.
    fn runtime_root(&self) -> PathBuf {
        self.config.state_dir.join("state")
    }

    /// The folder of a container's specification.
    fn bundle(&self, id: &ContainerId) -> PathBuf {
        self.config.state_dir.join("bundles").join(id.as_str())
    }

    /// A name for a socket, short enough for one.
    fn terminal_socket(&self) -> PathBuf {
        self.config.state_dir.join(format!("tty/{}", self.number()))
    }

    fn number(&self) -> u64 {
        self.counter.fetch_add(1, Ordering::Relaxed)
    }

    fn cgroup_parent(&self) -> PathBuf {
        Path::new("/").join(&self.config.cgroup_parent)
    }
}

#[derive(Debug)]
struct Inner {
    context: Arc<Context>,
    containers: Mutex<BTreeMap<ContainerId, Arc<Container>>>,
    oom_events: tokio::sync::Mutex<mpsc::Receiver<ContainerId>>,
}

/// Makes, runs and removes the guest's containers.
///
/// Operations that change a container finish even if the caller stops waiting
/// for them, so that nothing is left half-done; those of one container take
/// turns. Clones share everything.
#[derive(Clone, Debug)]
pub struct ContainerManager {
    inner: Arc<Inner>,
}

impl ContainerManager {
    /// Prepares the state folder. Needs a started [`Reaper`] and a tokio runtime.
    pub fn new(config: ManagerConfig, reaper: Reaper) -> Result<Self, ContainerError> {
        ContainerId::parse(&config.cgroup_parent)?;
        let (oom, oom_events) = mpsc::channel(OOM_QUEUE);
        let context = Arc::new(Context {
            config,
            reaper,
            oom,
            counter: AtomicU64::new(0),
        });
        for folder in [
            context.config.state_dir.clone(),
            context.runtime_root(),
            context.config.state_dir.join("bundles"),
            context.config.state_dir.join("tty"),
        ] {
            state::make_private_folder(&folder)?;
        }
        let inner = Inner {
            context,
            containers: Mutex::default(),
            oom_events: tokio::sync::Mutex::new(oom_events),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Makes a container whose first process waits for [`start`](Self::start); returns its pid.
    ///
    /// `spec.root.path` may be relative to `bundle`. The process gets a terminal if
    /// `spec.process.terminal` says so, else three pipes. On failure nothing is left.
    pub async fn create(
        &self,
        id: &ContainerId,
        spec: Spec,
        bundle: &Path,
    ) -> Result<i32, ContainerError> {
        let container = self.reserve(id)?;
        let (this, bundle) = (self.clone(), bundle.to_owned());
        to_the_end(async move {
            let created = container.create(spec, &bundle).await;
            if created.is_err() {
                this.abandon(&container).await;
            }
            created
        })
        .await
    }

    fn reserve(&self, id: &ContainerId) -> Result<Arc<Container>, ContainerError> {
        let mut containers = lock(&self.inner.containers);
        if containers.contains_key(id) {
            return Err(ContainerError::AlreadyExists(id.clone()));
        }
        let limit = self.inner.context.config.max_containers;
        if containers.len() >= limit {
            return Err(ContainerError::TooMany {
                what: "containers",
                limit,
            });
        }
        let container = Arc::new(Container::new(id.clone(), self.inner.context.clone()));
        containers.insert(id.clone(), container.clone());
        Ok(container)
    }

    /// Puts a container away that could not be made.
    async fn abandon(&self, container: &Container) {
        if let Err(error) = container.destroy().await {
            tracing::warn!(container = %container.id, %error, "cannot clean up after a failure");
        }
        lock(&self.inner.containers).remove(&container.id);
    }

    /// Lets a created container's first process run its program.
    pub async fn start(&self, id: &ContainerId) -> Result<(), ContainerError> {
        let container = self.container(id)?;
        to_the_end(async move { container.start().await }).await
    }

    /// Runs another process in a running container; returns its pid.
    ///
    /// The name may be used again once its process has ended.
    pub async fn exec(&self, id: &ProcessId, process: OciProcess) -> Result<i32, ContainerError> {
        let container = self.container(&id.container)?;
        let Some(exec) = id.exec.clone() else {
            return Err(ContainerError::InvalidId { kind: "exec" });
        };
        to_the_end(async move { container.exec(exec, process).await }).await
    }

    /// Sends a signal to one process. A container's first process that has no handler for
    /// SIGTERM gets SIGKILL instead, because it would not notice.
    pub fn signal(&self, id: &ProcessId, signal: u32) -> Result<(), ContainerError> {
        self.container(&id.container)?
            .signal(id, state::signal_number(signal)?)
    }

    /// Sends a signal to all processes of a container.
    pub fn signal_all(&self, id: &ContainerId, signal: u32) -> Result<(), ContainerError> {
        self.container(id)?
            .signal_all(state::signal_number(signal)?)
    }

    /// Waits for the end of a process; the status stays known until the container is removed,
    /// except that only the latest ended processes of many added ones are remembered.
    pub async fn wait(&self, id: &ProcessId) -> Result<ExitStatus, ContainerError> {
        self.process(id)?.wait().await
    }

    /// Reads from a process's output: at least one byte and at most `length` or
    /// [`MAX_READ_BYTES`](crate::MAX_READ_BYTES). An empty result is the end.
    pub async fn read_stdout(
        &self,
        id: &ProcessId,
        length: usize,
    ) -> Result<Vec<u8>, ContainerError> {
        let process = self.process(id)?;
        let length = state::read_length(length)?;
        process
            .io
            .read_stdout(length, &process.exit)
            .await
            .map_err(ContainerError::Stream)
    }

    /// Reads from a process's errors, as [`read_stdout`](Self::read_stdout) does from its output.
    /// A terminal has none.
    pub async fn read_stderr(
        &self,
        id: &ProcessId,
        length: usize,
    ) -> Result<Vec<u8>, ContainerError> {
        let process = self.process(id)?;
        let length = state::read_length(length)?;
        process
            .io
            .read_stderr(length, &process.exit)
            .await
            .map_err(ContainerError::Stream)
    }

    /// Writes all of `data` to a process's input, waiting while the process does not read.
    pub async fn write_stdin(&self, id: &ProcessId, data: &[u8]) -> Result<usize, ContainerError> {
        let process = self.process(id)?;
        match process.io.write_stdin(data, &process.exit).await {
            Ok(()) => Ok(data.len()),
            Err(error) if state::means_closed(&error) => {
                Err(ContainerError::StdinClosed(id.clone()))
            }
            Err(error) => Err(ContainerError::Stream(error)),
        }
    }

    /// Ends a process's input. Closing it twice is no error.
    pub fn close_stdin(&self, id: &ProcessId) -> Result<(), ContainerError> {
        self.process(id)?.io.close_stdin();
        Ok(())
    }

    /// Sets the size of a process's terminal.
    pub fn resize(&self, id: &ProcessId, size: TerminalSize) -> Result<(), ContainerError> {
        match self.process(id)?.io.resize(size) {
            Ok(true) => Ok(()),
            Ok(false) => Err(ContainerError::NoTerminal(id.clone())),
            Err(error) => Err(ContainerError::Stream(error)),
        }
    }

    /// The ids of all processes of a container, in the guest's numbering.
    pub fn pids(&self, id: &ContainerId) -> Result<Vec<i32>, ContainerError> {
        self.container(id)?.cgroup.pids()
    }

    /// The id of one process.
    pub fn pid(&self, id: &ProcessId) -> Result<i32, ContainerError> {
        Ok(self.process(id)?.pid)
    }

    /// What a container uses.
    pub fn stats(&self, id: &ContainerId) -> Result<CgroupStats, ContainerError> {
        crate::stats::read(self.container(id)?.cgroup.folder())
    }

    /// Stops all processes of a container until [`resume`](Self::resume).
    pub async fn pause(&self, id: &ContainerId) -> Result<(), ContainerError> {
        let container = self.container(id)?;
        to_the_end(async move { container.pause().await }).await
    }

    /// Lets a paused container go on.
    pub async fn resume(&self, id: &ContainerId) -> Result<(), ContainerError> {
        let container = self.container(id)?;
        to_the_end(async move { container.resume().await }).await
    }

    /// Changes a container's limits; what is not named stays as it is.
    pub fn update(
        &self,
        id: &ContainerId,
        resources: &LinuxResources,
    ) -> Result<(), ContainerError> {
        self.container(id)?
            .cgroup
            .update(resources)
            .map_err(|message| ContainerError::Resources {
                id: id.clone(),
                message,
            })
    }

    /// Waits for the next container of which the out-of-memory killer ended a process.
    /// Each event goes to one caller.
    pub async fn next_oom(&self) -> Result<ContainerId, ContainerError> {
        let mut events = self.inner.oom_events.lock().await;
        events.recv().await.ok_or(ContainerError::ReaperStopped)
    }

    /// What a container is doing.
    pub fn state(&self, id: &ContainerId) -> Result<ContainerState, ContainerError> {
        Ok(self.container(id)?.state())
    }

    /// The names of all containers.
    pub fn list(&self) -> Vec<ContainerId> {
        lock(&self.inner.containers).keys().cloned().collect()
    }

    /// Ends all processes of a container and removes everything of it but its root file system,
    /// which belongs to the caller. On failure it may be tried again.
    pub async fn remove(&self, id: &ContainerId) -> Result<(), ContainerError> {
        let container = self.container(id)?;
        let this = self.clone();
        to_the_end(async move {
            container.destroy().await?;
            lock(&this.inner.containers).remove(&container.id);
            Ok(())
        })
        .await
    }

    /// Removes all containers; the first error is returned after all were tried.
    pub async fn destroy_all(&self) -> Result<(), ContainerError> {
        let mut result = Ok(());
        for id in self.list() {
            match self.remove(&id).await {
                Ok(()) | Err(ContainerError::NoSuchContainer(_)) => {}
                Err(error) => result = result.and(Err(error)),
            }
        }
        if result.is_ok() {
            Cgroup::at(&self.inner.context.cgroup_parent())
                .remove()
                .await?;
        }
        result
    }

    fn container(&self, id: &ContainerId) -> Result<Arc<Container>, ContainerError> {
        lock(&self.inner.containers)
            .get(id)
            .cloned()
            .ok_or_else(|| ContainerError::NoSuchContainer(id.clone()))
    }

    fn process(&self, id: &ProcessId) -> Result<Arc<Process>, ContainerError> {
        self.container(&id.container)?.process(id)
    }
}

/// Runs an operation to its end even if the caller stops waiting.
async fn to_the_end<T: Send + 'static>(
    operation: impl Future<Output = Result<T, ContainerError>> + Send + 'static,
) -> Result<T, ContainerError> {
    match tokio::spawn(operation).await {
        Ok(result) => result,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // The runtime is shutting down.
        Err(_cancelled) => Err(ContainerError::ReaperStopped),
    }
}
