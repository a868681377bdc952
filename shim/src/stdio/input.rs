//! Copies a process's input into the guest.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio_util::sync::CancellationToken;

use crate::agent::{AgentClient, ProcessRef, WRITE_BYTES};
use crate::error::Result;
use redoubt_agent_api::agent::CloseStdinRequest;

/// Pause before a write is tried again that the process had no room for.
const FULL_PAUSE: Duration = Duration::from_millis(20);

/// The host's end of an input.
#[derive(Debug)]
pub struct StdinPipe {
    /// What clients write.
    reader: pipe::Receiver,
    /// Keeps a terminal's FIFO open while no client has it open.
    _keeper: Option<pipe::Sender>,
}

impl StdinPipe {
    /// Opens the FIFO without waiting for a writer.
    ///
    /// One that no writer has opened yet is not at its end: Linux reports a hang-up only
    /// after a writer was there.
    pub fn open(path: &Path, terminal: bool) -> io::Result<Self> {
        let reader = pipe::OpenOptions::new().open_receiver(path)?;
        let keeper = terminal
            .then(|| pipe::OpenOptions::new().open_sender(path))
            .transpose()?;
        Ok(Self {
            reader,
            _keeper: keeper,
        })
    }

    /// Reads what comes next; 0 at the end, which is where all writers are gone, or where
    /// nothing is left after `close` was cancelled.
    async fn read(&mut self, buffer: &mut [u8], close: &CancellationToken) -> io::Result<usize> {
        tokio::select! {
            biased;
            length = self.reader.read(buffer) => return length,
            () = close.cancelled() => {}
        }
        // The runtime may not have noticed yet what was written before the request.
        match rustix::io::read(&self.reader, buffer) {
            Ok(length) => Ok(length),
            Err(rustix::io::Errno::AGAIN) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }
}

/// Copies until the input's end, then ends the process's input.
pub(super) async fn copy(
    agent: AgentClient,
    process: ProcessRef,
    source: Option<StdinPipe>,
    terminal: bool,
    close: CancellationToken,
) {
    if let Some(source) = source
        && let Err(error) = forward(&agent, &process, source, &close).await
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
    mut source: StdinPipe,
    close: &CancellationToken,
) -> Result<()> {
    let mut buffer = vec![0; WRITE_BYTES];
    loop {
        let length = match source.read(&mut buffer, close).await {
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
                tokio::time::sleep(FULL_PAUSE).await;
            }
            rest = rest.get(taken..).unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{File, OpenOptions};
    use std::io::Write;
    use std::path::PathBuf;

    use nix::sys::stat::Mode;

    use super::*;

    const SOON: Duration = Duration::from_secs(10);
    const NOT_YET: Duration = Duration::from_millis(100);

    fn fifo() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("stdin");
        nix::unistd::mkfifo(&path, Mode::from_bits_truncate(0o600)).unwrap();
        (dir, path)
    }

    fn writer(path: &Path) -> File {
        OpenOptions::new().write(true).open(path).unwrap()
    }

    async fn all(pipe: &mut StdinPipe, close: &CancellationToken) -> Vec<u8> {
        let mut all = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let length = pipe.read(&mut buffer, close).await.unwrap();
            if length == 0 {
                return all;
            }
            all.extend_from_slice(&buffer[..length]);
        }
    }

    #[tokio::test]
    async fn input_ends_with_its_last_writer_and_not_before_the_first() {
        let (_dir, path) = fifo();
        let mut pipe = StdinPipe::open(&path, false).unwrap();
        let close = CancellationToken::new();
        let early = tokio::time::timeout(NOT_YET, all(&mut pipe, &close)).await;
        assert!(early.is_err(), "an end before any writer came");
        let mut first = writer(&path);
        let second = writer(&path);
        first.write_all(b"one").unwrap();
        drop(first);
        let reader = tokio::spawn(async move { all(&mut pipe, &close).await });
        tokio::time::sleep(NOT_YET).await;
        assert!(!reader.is_finished(), "an end while a writer is there");
        drop(second);
        let read = tokio::time::timeout(SOON, reader).await.unwrap().unwrap();
        assert_eq!(read, b"one");
    }

    #[tokio::test]
    async fn a_writer_that_came_and_went_before_the_first_read_ends_the_input() {
        let (_dir, path) = fifo();
        let mut pipe = StdinPipe::open(&path, false).unwrap();
        writer(&path).write_all(b"all").unwrap();
        let close = CancellationToken::new();
        let read = tokio::time::timeout(SOON, all(&mut pipe, &close)).await;
        assert_eq!(read.unwrap(), b"all");
    }

    #[tokio::test]
    async fn closing_delivers_first_what_was_written() {
        let (_dir, path) = fifo();
        let mut pipe = StdinPipe::open(&path, false).unwrap();
        let mut client = writer(&path);
        // More than one read, less than the pipe holds.
        let data = vec![7; 60_000];
        client.write_all(&data).unwrap();
        let close = CancellationToken::new();
        close.cancel();
        let read = tokio::time::timeout(SOON, all(&mut pipe, &close)).await;
        assert_eq!(read.unwrap(), data);
    }

    #[tokio::test]
    async fn closing_ends_an_input_that_nobody_opened() {
        let (_dir, path) = fifo();
        let mut pipe = StdinPipe::open(&path, false).unwrap();
        let close = CancellationToken::new();
        close.cancel();
        let read = tokio::time::timeout(SOON, all(&mut pipe, &close)).await;
        assert!(read.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_terminal_outlives_its_clients() {
        let (_dir, path) = fifo();
        let mut pipe = StdinPipe::open(&path, true).unwrap();
        let close = CancellationToken::new();
        let mut buffer = [0; 16];
        for word in [b"one", b"two"] {
            writer(&path).write_all(word).unwrap();
            let length = pipe.read(&mut buffer, &close).await.unwrap();
            assert_eq!(&buffer[..length], word);
        }
        let end = tokio::time::timeout(NOT_YET, pipe.read(&mut buffer, &close)).await;
        assert!(end.is_err(), "the terminal ended with its client");
        close.cancel();
        assert_eq!(pipe.read(&mut buffer, &close).await.unwrap(), 0);
    }
}
