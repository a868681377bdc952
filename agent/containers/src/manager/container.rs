//! One container.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use oci_spec::runtime::{Process as OciProcess, Spec};
use tokio::task::AbortHandle;

use super::Context;
use super::execs::Execs;
use super::state::{self, ContainerState};
use crate::cgroup::Cgroup;
use crate::error::ContainerError;
use crate::helper::protocol::{Operation, Request, Streams};
use crate::ids::{ContainerId, ExecId, ProcessId};
use crate::io::ProcessIo;
use crate::launch::{self, Launched};
use crate::process::Process;
use crate::spec::{self, CheckedSpec};
use crate::sysctl::SharedSetting;
use crate::terminal::{ConsoleSocket, TerminalSettings};
use crate::{lock, oom, rootfs};

/// How long processes may take to end after SIGKILL.
const DEATH: Duration = Duration::from_secs(10);

/// What added processes need to know of the container's specification.
#[derive(Debug)]
struct Facts {
    rootfs: PathBuf,
    has_user_namespace: bool,
}

/// A container, from the moment its name is taken until it is removed.
#[derive(Debug)]
pub(super) struct Container {
    pub(super) id: ContainerId,
    pub(super) cgroup: Cgroup,
    context: Arc<Context>,
    /// Operations take turns.
    turn: tokio::sync::Mutex<()>,
    state: Mutex<ContainerState>,
    facts: OnceLock<Facts>,
    init: OnceLock<Arc<Process>>,
    execs: Mutex<Execs>,
    oom_watch: Mutex<Option<AbortHandle>>,
}

impl Container {
    pub(super) fn new(id: ContainerId, context: Arc<Context>) -> Self {
        Self {
            cgroup: Cgroup::at(&context.cgroup_parent().join(id.as_str())),
            id,
            context,
            turn: tokio::sync::Mutex::default(),
            state: Mutex::new(ContainerState::Creating),
            facts: OnceLock::new(),
            init: OnceLock::new(),
            execs: Mutex::default(),
            oom_watch: Mutex::default(),
        }
    }

    pub(super) fn state(&self) -> ContainerState {
        match self.init.get() {
            Some(init) if init.has_ended() => ContainerState::Stopped,
            _ => *lock(&self.state),
        }
    }

    fn set_state(&self, state: ContainerState) {
        *lock(&self.state) = state;
    }

    fn require(&self, state: ContainerState, action: &'static str) -> Result<(), ContainerError> {
        let now = self.state();
        if now == state {
            Ok(())
        } else {
            Err(ContainerError::WrongState {
                action,
                id: self.id.clone(),
                state: now,
            })
        }
    }

    pub(super) async fn create(&self, spec: Spec, bundle: &Path) -> Result<i32, ContainerError> {
        let _turn = self.turn.lock().await;
        let cgroups_path = self.context.cgroup_parent().join(self.id.as_str());
        let CheckedSpec {
            mut spec,
            rootfs,
            has_user_namespace,
            shared_settings,
        } = spec::check_spec(spec, bundle, &cgroups_path)?;
        shared_settings.iter().try_for_each(SharedSetting::apply)?;
        rootfs::make_working_folder(&rootfs, &spec)?;
        let mut process = spec.process().clone().unwrap_or_default();
        spec::set_home(&mut process, || {
            rootfs::home_of(&rootfs, process_uid(&spec))
        });
        spec.set_process(Some(process.clone()));
        let facts = Facts {
            rootfs,
            has_user_namespace,
        };

        let own_bundle = self.context.bundle(&self.id);
        state::make_private_folder(&own_bundle)?;
        state::write_private(&own_bundle.join("config.json"), &spec)?;
        let init = self
            .launch(&process, &facts, |streams| Operation::Create {
                bundle: own_bundle,
                streams,
            })
            .await?;
        let pid = init.pid;
        let watch = oom::watch(
            self.cgroup.folder(),
            self.id.clone(),
            init.exit.clone(),
            self.context.oom.clone(),
        );
        *lock(&self.oom_watch) = watch;
        // Both are set once: this runs once per container, under its turn.
        let _ = self.facts.set(facts);
        let _ = self.init.set(Arc::new(init));
        self.set_state(ContainerState::Created);
        Ok(pid)
    }

    /// Has the helper make a process, and takes it over with its streams.
    async fn launch(
        &self,
        process: &OciProcess,
        facts: &Facts,
        operation: impl FnOnce(Streams) -> Operation,
    ) -> Result<Process, ContainerError> {
        // Ids of a user namespace are not those of the agent.
        let owner = (!facts.has_user_namespace).then(|| process.user().uid());
        let context = &self.context;
        let timeout = context.config.helper_timeout;
        if !spec::wants_terminal(process) {
            let (io, ends) = ProcessIo::pipes(owner).map_err(ContainerError::Stream)?;
            let request = self.request(operation(Streams::Pipes {}));
            let launched = launch::launch(&context.reaper, &request, ends, timeout).await?;
            return Ok(Process::new(launched, io));
        }
        let (console, wait) =
            ConsoleSocket::bind(context.terminal_socket()).map_err(ContainerError::Stream)?;
        let socket = console.path().to_owned();
        let request = self.request(operation(Streams::Terminal { socket }));
        let settings = TerminalSettings {
            owner,
            size: spec::terminal_size(process),
        };
        let launch = launch::launch(&context.reaper, &request, vec![wait], timeout);
        let (launched, master) = with_terminal(launch, console, settings).await?;
        Ok(Process::new(
            launched,
            ProcessIo::terminal(master).map_err(ContainerError::Stream)?,
        ))
    }

    fn request(&self, operation: Operation) -> Request {
        Request {
            state_root: self.context.runtime_root(),
            id: self.id.as_str().to_owned(),
            operation,
        }
    }

    pub(super) async fn start(&self) -> Result<(), ContainerError> {
        let _turn = self.turn.lock().await;
        self.require(ContainerState::Created, "start")?;
        let request = self.request(Operation::Start {});
        let timeout = self.context.config.helper_timeout;
        launch::run(&self.context.reaper, &request, timeout).await?;
        self.set_state(ContainerState::Running);
        Ok(())
    }

    pub(super) async fn exec(
        &self,
        exec: ExecId,
        process: OciProcess,
    ) -> Result<i32, ContainerError> {
        let _turn = self.turn.lock().await;
        self.require(ContainerState::Running, "run a process in")?;
        let facts = self.facts.get().ok_or_else(|| self.missing())?;
        {
            let execs = lock(&self.execs);
            if execs.is_in_use(&exec) {
                return Err(ContainerError::ExecIdInUse(self.name(exec)));
            }
            execs.check_limit(self.context.config.max_execs)?;
        }
        let mut process = spec::check_process(process)?;
        let uid = process.user().uid();
        spec::set_home(&mut process, || rootfs::home_of(&facts.rootfs, uid));
        let file = PrivateFile(
            self.context
                .bundle(&self.id)
                .join(format!("process-{}.json", self.context.number())),
        );
        state::write_private(&file.0, &process)?;
        let added = self
            .launch(&process, facts, |streams| Operation::Exec {
                process: file.0.clone(),
                streams,
            })
            .await?;
        let pid = added.pid;
        lock(&self.execs).insert(exec, Arc::new(added));
        Ok(pid)
    }

    pub(super) fn process(&self, id: &ProcessId) -> Result<Arc<Process>, ContainerError> {
        let found = match &id.exec {
            None => self.init.get().cloned(),
            Some(exec) => lock(&self.execs).get(exec),
        };
        found.ok_or_else(|| ContainerError::NoSuchProcess(id.clone()))
    }

    pub(super) fn signal(&self, id: &ProcessId, signal: i32) -> Result<(), ContainerError> {
        let process = self.process(id)?;
        if process.has_ended() {
            return Err(ContainerError::ProcessEnded(id.clone()));
        }
        let signal = if id.exec.is_none() {
            process.effective_init_signal(signal)
        } else {
            signal
        };
        process
            .signal(signal)
            .map_err(|source| match source.raw_os_error() {
                Some(libc::ESRCH) => ContainerError::ProcessEnded(id.clone()),
                _ => ContainerError::Signal {
                    signal,
                    id: self.id.clone(),
                    source,
                },
            })
    }

    pub(super) fn signal_all(&self, signal: i32) -> Result<(), ContainerError> {
        if signal == libc::SIGKILL {
            return self.cgroup.kill();
        }
        self.cgroup
            .signal(signal)
            .map_err(|(signal, source)| ContainerError::Signal {
                signal,
                id: self.id.clone(),
                source,
            })
    }

    pub(super) async fn pause(&self) -> Result<(), ContainerError> {
        let _turn = self.turn.lock().await;
        self.require(ContainerState::Running, "pause")?;
        if let Err(error) = self.cgroup.freeze().await {
            // Not to leave some of its processes stopped.
            let _ = self.cgroup.thaw().await;
            return Err(error);
        }
        self.set_state(ContainerState::Paused);
        Ok(())
    }

    pub(super) async fn resume(&self) -> Result<(), ContainerError> {
        let _turn = self.turn.lock().await;
        self.require(ContainerState::Paused, "resume")?;
        self.cgroup.thaw().await?;
        self.set_state(ContainerState::Running);
        Ok(())
    }

    /// Ends all processes and removes what belongs to the container.
    pub(super) async fn destroy(&self) -> Result<(), ContainerError> {
        let _turn = self.turn.lock().await;
        if let Some(watch) = lock(&self.oom_watch).take() {
            watch.abort();
        }
        if self.cgroup.exists() {
            self.cgroup.kill()?;
        }
        let mut processes = lock(&self.execs).all();
        processes.extend(self.init.get().cloned());
        for process in &processes {
            // Usually the group was enough.
            let _ = process.signal(libc::SIGKILL);
        }
        for process in &processes {
            tokio::time::timeout(DEATH, process.exit.wait())
                .await
                .map_err(|_elapsed| ContainerError::StillRunning(self.id.clone()))??;
        }
        self.cgroup.remove().await?;
        state::remove_folder(&self.context.runtime_root().join(self.id.as_str()))?;
        state::remove_folder(&self.context.bundle(&self.id))?;
        self.set_state(ContainerState::Stopped);
        Ok(())
    }

    fn name(&self, exec: ExecId) -> ProcessId {
        ProcessId {
            container: self.id.clone(),
            exec: Some(exec),
        }
    }

    fn missing(&self) -> ContainerError {
        ContainerError::NoSuchProcess(ProcessId::init(&self.id))
    }
}

/// Prepares the terminal while the process is being made.
async fn with_terminal(
    launch: impl Future<Output = Result<Launched, ContainerError>>,
    console: ConsoleSocket,
    settings: TerminalSettings,
) -> Result<(Launched, OwnedFd), ContainerError> {
    let mut launch = std::pin::pin!(launch);
    tokio::select! {
        biased;
        // The process waits for its terminal, so this is a failure before there was one.
        launched = &mut launch => match launched {
            Err(error) => Err(error),
            Ok(_) => Err(ContainerError::HelperAnswer),
        },
        master = console.take_master(settings) => {
            // If it failed, the process learns that from the end of its pipe.
            drop(console);
            let launched = launch.await;
            let master = master.map_err(ContainerError::Stream)?;
            Ok((launched?, master))
        }
    }
}

fn process_uid(spec: &Spec) -> u32 {
    spec.process()
        .as_ref()
        .map_or(0, |process| process.user().uid())
}

/// A file that goes with this value.
struct PrivateFile(PathBuf);

impl Drop for PrivateFile {
    fn drop(&mut self) {
        // It is in a folder that goes with the container at the latest.
        let _ = fs::remove_file(&self.0);
    }
}
