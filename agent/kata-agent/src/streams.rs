//! Standard streams of processes.

use redoubt_agent_api::agent::ReadStreamRequest;
use redoubt_containers::{ContainerError, MAX_READ_BYTES, ProcessId};

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
    match stream {
        Stream::Stdout => next(allowed, || agent.containers.read_stdout(&id, wanted)).await,
        Stream::Stderr => next(allowed, || agent.containers.read_stderr(&id, wanted)).await,
    }
}

/// The next bytes of a stream, or nothing at its end if they are not allowed out.
async fn next<F>(allowed: bool, mut read: impl FnMut() -> F) -> Result<Vec<u8>>
where
    F: Future<Output = std::result::Result<Vec<u8>, ContainerError>>,
{
    loop {
        let data = read().await?;
        if allowed || data.is_empty() {
            return Ok(data);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads once from a stream of three parts; also tells how many were taken.
    async fn read_once(allowed: bool) -> (Vec<u8>, usize) {
        let mut parts = [&b"secret"[..], b"output", b""].into_iter();
        let mut taken = 0;
        let data = next(allowed, || {
            taken += 1;
            let part = parts.next().unwrap().to_vec();
            async move { Ok(part) }
        })
        .await
        .unwrap();
        (data, taken)
    }

    #[tokio::test]
    async fn output_that_the_policy_keeps_is_read_to_its_end_and_thrown_away() {
        assert_eq!(read_once(false).await, (Vec::new(), 3));
    }

    #[tokio::test]
    async fn allowed_output_comes_as_it_is_read() {
        assert_eq!(read_once(true).await, (b"secret".to_vec(), 1));
    }
}
