//! Copies a process's output from the guest.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use super::target::OutputSink;
use crate::agent::{AgentClient, Output, ProcessRef};

/// First and longest pause after an empty answer of a living process.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// One output on its way.
pub(super) struct Copy {
    pub(super) agent: AgentClient,
    pub(super) process: ProcessRef,
    pub(super) output: Output,
    pub(super) progress: Arc<AtomicU64>,
    pub(super) ended: watch::Receiver<bool>,
}

impl Copy {
    /// Copies until the stream ends. When the sink breaks, the guest is still read, so
    /// that the process does not block.
    pub(super) async fn run(mut self, mut sink: OutputSink) {
        let mut pause = PAUSES.0;
        loop {
            let ended = *self.ended.borrow();
            let data = match self.agent.read(&self.process, self.output).await {
                Ok(data) => data,
                Err(error) => {
                    // The agent ends a stream with an error, as a lost guest does.
                    tracing::debug!(output = ?self.output, error = error.one_line(), "end of output");
                    return;
                }
            };
            self.progress.fetch_add(1, Ordering::Relaxed);
            if data.is_empty() {
                // Either the end, or output that the policy withholds: only the end of
                // the process tells them apart.
                if ended {
                    return;
                }
                let _ = tokio::time::timeout(pause, self.ended.wait_for(|ended| *ended)).await;
                pause = (pause * 2).min(PAUSES.1);
                continue;
            }
            pause = PAUSES.0;
            if let Err(error) = self.deliver(&mut sink, &data).await {
                tracing::warn!(output = ?self.output, %error, "cannot write output, it is dropped");
                sink = OutputSink::Nothing;
            }
        }
    }

    async fn deliver(&self, sink: &mut OutputSink, data: &[u8]) -> std::io::Result<()> {
        for piece in data.chunks(4096) {
            sink.write_all(piece).await?;
            self.progress.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}
