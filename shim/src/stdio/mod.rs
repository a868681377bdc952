//! Input and output of processes: containerd's FIFOs on one side, the agent's calls
//! on the other.

mod input;
mod output;
mod target;

pub use input::StdinPipe;
pub use target::{OutputSink, Target};

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::agent::{AgentClient, Output, ProcessRef};
use crate::error::Result;

/// How long the drain after an exit waits for a reader that takes nothing at all.
const STALL_LIMIT: Duration = Duration::from_secs(60);

/// Where containerd wants input and output.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StdioPaths {
    /// The process has a terminal: one stream both ways, no error stream.
    pub terminal: bool,
    /// Address of the input.
    pub stdin: String,
    /// Address of the output.
    pub stdout: String,
    /// Address of the errors.
    pub stderr: String,
}

/// The opened host side of a process's streams.
#[derive(Debug)]
pub struct OpenStdio {
    stdin: Option<StdinPipe>,
    stdout: OutputSink,
    stderr: Option<OutputSink>,
}

impl StdioPaths {
    /// Opens everything.
    pub fn open(&self) -> Result<OpenStdio> {
        let stdout = Target::parse("stdout", &self.stdout)?.open_output("stdout")?;
        let stderr = if self.terminal {
            None
        } else {
            Some(Target::parse("stderr", &self.stderr)?.open_output("stderr")?)
        };
        let stdin = Target::parse("stdin", &self.stdin)?.open_input(self.terminal)?;
        Ok(OpenStdio {
            stdin,
            stdout,
            stderr,
        })
    }
}

/// The copying tasks of one process.
#[derive(Debug)]
pub struct RunningIo {
    outputs: Vec<JoinHandle<()>>,
    input: JoinHandle<()>,
    progress: Arc<AtomicU64>,
    ended: watch::Sender<bool>,
}

impl RunningIo {
    /// Starts to copy between `streams` and a process that has just been started. The input
    /// ends when its writers are gone or, with what they have written, when `close_stdin`
    /// is cancelled.
    pub fn start(
        agent: &AgentClient,
        process: &ProcessRef,
        streams: OpenStdio,
        close_stdin: CancellationToken,
    ) -> Self {
        let progress = Arc::new(AtomicU64::new(0));
        let (ended, ended_receiver) = watch::channel(false);
        let terminal = streams.stderr.is_none();
        let copy = |output: Output, sink: OutputSink| {
            let copy = output::Copy {
                agent: agent.clone(),
                process: process.clone(),
                output,
                progress: progress.clone(),
                ended: ended_receiver.clone(),
            };
            tokio::spawn(copy.run(sink))
        };
        let mut outputs = vec![copy(Output::Stdout, streams.stdout)];
        outputs.extend(streams.stderr.map(|sink| copy(Output::Stderr, sink)));
        let input = tokio::spawn(input::copy(
            agent.clone(),
            process.clone(),
            streams.stdin,
            terminal,
            close_stdin,
        ));
        Self {
            outputs,
            input,
            progress,
            ended,
        }
    }

    /// Waits, after the process ended, until its output has reached the readers.
    ///
    /// A slow reader gets the time it needs. One that takes nothing for a minute no longer
    /// holds up the exit; copying goes on behind it until the process is deleted.
    pub async fn drain(&mut self) {
        self.input.abort();
        self.ended.send_replace(true);
        loop {
            let before = self.progress.load(Ordering::Relaxed);
            if tokio::time::timeout(STALL_LIMIT, self.delivered())
                .await
                .is_ok()
            {
                return;
            }
            if self.progress.load(Ordering::Relaxed) == before {
                tracing::warn!("nobody reads a process's output; its exit waits no longer");
                return;
            }
        }
    }

    /// Waits until all output has reached its readers.
    pub async fn delivered(&mut self) {
        while let Some(output) = self.outputs.last_mut() {
            // A copier that panicked has delivered what it could.
            let _ = output.await;
            self.outputs.pop();
        }
    }
}

impl Drop for RunningIo {
    fn drop(&mut self) {
        self.input.abort();
        for output in &self.outputs {
            output.abort();
        }
    }
}
