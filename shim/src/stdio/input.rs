//! Copies a process's input into the guest.

use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

use crate::agent::{AgentClient, ProcessRef, WRITE_BYTES};
use crate::error::Result;
use redoubt_agent_api::agent::CloseStdinRequest;

/// Copies until every writer has closed the FIFO, then ends the process's input.
pub(super) async fn copy(
    agent: AgentClient,
    process: ProcessRef,
    source: Option<pipe::Receiver>,
    terminal: bool,
) {
    if let Some(source) = source
        && let Err(error) = forward(&agent, &process, source).await
    {
        tracing::debug!(error = error.one_line(), "the process takes no more input");
        return;
    }
    if terminal {
        // A terminal's line stays open both ways.
        return;
    }
    let request = CloseStdinRequest {
        container_id: process.container,
        exec_id: process.exec,
        ..CloseStdinRequest::default()
    };
    if let Err(error) = agent.close_stdin(request).await {
        tracing::debug!(error = error.one_line(), "cannot end the process's input");
    }
}

async fn forward(
    agent: &AgentClient,
    process: &ProcessRef,
    mut source: pipe::Receiver,
) -> Result<()> {
    let mut buffer = vec![0; WRITE_BYTES];
    loop {
        let length = match source.read(&mut buffer).await {
            Ok(0) => return Ok(()),
            Ok(length) => length,
            Err(error) => {
                tracing::warn!(%error, "cannot read input");
                return Ok(());
            }
        };
        let mut rest = buffer.get(..length).unwrap_or_default();
        while !rest.is_empty() {
            let taken = agent.write(process, rest).await?;
            if taken == 0 {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
            rest = rest.get(taken..).unwrap_or_default();
        }
    }
}
