//! One process, init or exec: its phase, its streams, its part in containerd's events.

use std::sync::{Mutex, MutexGuard, PoisonError};

use redoubt_agent_api::oci;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::agent::ProcessRef;
use crate::error::{Result, ShimError};
use crate::process_state::{Event, Exit, Phase};
use crate::stdio::{OpenStdio, StdioPaths};

/// Size of a terminal in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TerminalSize {
    /// Rows.
    pub rows: u32,
    /// Columns.
    pub columns: u32,
}

/// A process that containerd knows.
#[derive(Debug)]
pub struct Process {
    /// How the agent calls it.
    pub name: ProcessRef,
    /// How containerd calls it: empty for a container's first process.
    pub exec_id: String,
    /// Where its streams go.
    pub stdio: StdioPaths,
    phase: watch::Sender<Phase>,
    pending: Mutex<Pending>,
    stdin_close: CancellationToken,
}

/// What waits for the start.
#[derive(Debug, Default)]
struct Pending {
    streams: Option<OpenStdio>,
    size: Option<TerminalSize>,
    exec: Option<oci::Process>,
}

impl Process {
    /// A container's first process; opens its streams.
    pub fn init(container: &str, stdio: StdioPaths) -> Result<Self> {
        Self::new(container, "", stdio, None)
    }

    /// Another process of a container; opens its streams.
    pub fn exec(
        container: &str,
        exec_id: &str,
        stdio: StdioPaths,
        process: oci::Process,
    ) -> Result<Self> {
        Self::new(container, exec_id, stdio, Some(process))
    }

    fn new(
        container: &str,
        exec_id: &str,
        stdio: StdioPaths,
        exec: Option<oci::Process>,
    ) -> Result<Self> {
        let streams = stdio.open()?;
        let name = if exec_id.is_empty() {
            container
        } else {
            exec_id
        };
        Ok(Self {
            name: ProcessRef {
                container: container.to_owned(),
                exec: name.to_owned(),
            },
            exec_id: exec_id.to_owned(),
            stdio,
            phase: watch::Sender::new(Phase::Created),
            pending: Mutex::new(Pending {
                streams: Some(streams),
                size: None,
                exec,
            }),
            stdin_close: CancellationToken::new(),
        })
    }

    /// Where it is in its life.
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Follows its life.
    pub fn watch(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Moves on, if its phase allows it.
    pub fn apply(&self, event: Event) -> Result<Phase> {
        let mut result = Ok(Phase::Deleted);
        self.phase
            .send_if_modified(|phase| match phase.after(event) {
                Ok(next) => {
                    *phase = next;
                    result = Ok(next);
                    true
                }
                Err(source) => {
                    result = Err(ShimError::WrongState {
                        what: self.name.exec.clone(),
                        source,
                    });
                    false
                }
            });
        result
    }

    /// Waits for its end. A process that is deleted before its start never ends.
    pub async fn wait(&self) -> Result<Exit> {
        let mut phase = self.watch();
        let phase = phase
            .wait_for(|phase| phase.exit().is_some() || *phase == Phase::Deleted)
            .await
            .map_err(|_| self.missing())?;
        phase.exit().ok_or_else(|| self.missing())
    }

    /// The error for a process that containerd does not know.
    pub fn missing(&self) -> ShimError {
        if self.exec_id.is_empty() {
            return ShimError::NoSuchContainer(self.name.container.clone());
        }
        ShimError::NoSuchExec {
            container: self.name.container.clone(),
            exec: self.exec_id.clone(),
        }
    }

    /// The streams, once.
    pub fn take_streams(&self) -> Option<OpenStdio> {
        self.pending().streams.take()
    }

    /// What to run, for another process of a container.
    pub fn exec_spec(&self) -> Option<oci::Process> {
        self.pending().exec.clone()
    }

    /// Ends the input after what was written to it so far.
    pub fn close_stdin(&self) {
        self.stdin_close.cancel();
    }

    /// Tells when the input is to end although it has writers.
    pub fn stdin_close(&self) -> CancellationToken {
        self.stdin_close.clone()
    }

    /// Remembers a terminal's size until the start.
    pub fn remember_size(&self, size: TerminalSize) {
        self.pending().size = Some(size);
    }

    /// The size set before the start.
    pub fn remembered_size(&self) -> Option<TerminalSize> {
        self.pending().size.take()
    }

    /// Closes what was opened for a process that will not run any more.
    pub fn close_streams(&self) {
        self.pending().streams = None;
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
