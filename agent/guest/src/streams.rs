//! Standard streams of processes.

use redoubt_agent_api::agent::ReadStreamRequest;
use redoubt_containers::{MAX_READ_BYTES, ProcessId};

use crate::agent::Agent;
use crate::error::Result;

/// Which stream is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    /// The output.
    Stdout,
    /// The error output.
    Stderr,
}

/// Reads the next bytes; none at the end of the stream.
///
/// A stream that the policy keeps from the host is read to its end and thrown
/// away, so that the process does not block on a full pipe.
pub(crate) async fn read(
    agent: &Agent,
    request: &ReadStreamRequest,
    stream: Stream,
    allowed: bool,
) -> Result<Vec<u8>> {
    let id = ProcessId::from_request(&request.container_id, &request.exec_id)?;
    let wanted = usize::try_from(request.len)
        .unwrap_or(MAX_READ_BYTES)
        .min(MAX_READ_BYTES);
    loop {
        let data = match stream {
            Stream::Stdout => agent.containers.read_stdout(&id, wanted).await?,
            Stream::Stderr => agent.containers.read_stderr(&id, wanted).await?,
        };
        if allowed || data.is_empty() {
            return Ok(data);
        }
    }
}
