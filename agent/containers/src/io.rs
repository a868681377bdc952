//! Standard streams of container processes.

use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::fs::{Uid, fchown};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::exit::ExitWatch;
use crate::{lock, sys};

/// The most bytes that one read returns.
pub const MAX_READ_BYTES: usize = 256 * 1024;

/// How long output is still waited for after a process has ended, if something else holds its
/// streams open. The agent API's clients expect this value.
const DRAIN: Duration = Duration::from_millis(500);

/// A terminal's size in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TerminalSize {
    /// Lines.
    pub rows: u16,
    /// Characters per line.
    pub columns: u16,
}

type Fd = Arc<AsyncFd<OwnedFd>>;

/// One stream: readers or writers take turns, and it can be closed.
#[derive(Debug)]
struct Stream {
    turn: tokio::sync::Mutex<()>,
    fd: Mutex<Option<Fd>>,
}

impl Stream {
    fn new(fd: Option<Fd>) -> Self {
        Self {
            turn: tokio::sync::Mutex::default(),
            fd: Mutex::new(fd),
        }
    }

    fn get(&self) -> Option<Fd> {
        lock(&self.fd).clone()
    }

    fn close(&self) {
        *lock(&self.fd) = None;
    }
}

/// The agent's ends of a process's standard streams.
#[derive(Debug)]
pub(crate) struct ProcessIo {
    stdin: Stream,
    stdout: Stream,
    stderr: Stream,
    terminal: Option<Fd>,
}

/// The container's ends of three pipes, in the order of their numbers.
pub(crate) type ContainerEnds = Vec<OwnedFd>;

impl ProcessIo {
    /// Three pipes. Their container ends belong to `owner`, so that an unprivileged process can
    /// reopen them by name (`/dev/stdout`).
    pub(crate) fn pipes(owner: Option<u32>) -> io::Result<(Self, ContainerEnds)> {
        let (stdin_reader, stdin) = pipe_with(PipeFlags::CLOEXEC)?;
        let (stdout, stdout_writer) = pipe_with(PipeFlags::CLOEXEC)?;
        let (stderr, stderr_writer) = pipe_with(PipeFlags::CLOEXEC)?;
        let ends = vec![stdin_reader, stdout_writer, stderr_writer];
        if let Some(owner) = owner {
            for end in &ends {
                fchown(end, Some(Uid::from_raw(owner)), None)?;
            }
        }
        let io = Self {
            stdin: Stream::new(Some(non_blocking(stdin)?)),
            stdout: Stream::new(Some(non_blocking(stdout)?)),
            stderr: Stream::new(Some(non_blocking(stderr)?)),
            terminal: None,
        };
        Ok((io, ends))
    }

    /// A terminal: input and output are one, and there is no error stream.
    pub(crate) fn terminal(master: OwnedFd) -> io::Result<Self> {
        let master = non_blocking(master)?;
        Ok(Self {
            stdin: Stream::new(Some(master.clone())),
            stdout: Stream::new(Some(master.clone())),
            stderr: Stream::new(None),
            terminal: Some(master),
        })
    }

    /// Reads output; an empty result is its end.
    pub(crate) async fn read_stdout(&self, length: usize, exit: &ExitWatch) -> io::Result<Vec<u8>> {
        read(&self.stdout, length, exit).await
    }

    /// Reads errors; an empty result is their end.
    pub(crate) async fn read_stderr(&self, length: usize, exit: &ExitWatch) -> io::Result<Vec<u8>> {
        read(&self.stderr, length, exit).await
    }

    /// Writes all of `data`, or fails with `BrokenPipe` if nobody will read it.
    pub(crate) async fn write_stdin(&self, data: &[u8], exit: &ExitWatch) -> io::Result<()> {
        let _turn = self.stdin.turn.lock().await;
        let fd = self.stdin.get().ok_or(io::ErrorKind::BrokenPipe)?;
        if exit.status().is_some() {
            // A terminal would take it and keep it.
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        tokio::select! {
            result = write_all(&fd, data) => result,
            () = drained(exit) => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// Ends the input. A terminal has one line both ways, which stays open.
    pub(crate) fn close_stdin(&self) {
        self.stdin.close();
    }

    /// Sets the terminal's size; false if there is none.
    pub(crate) fn resize(&self, size: TerminalSize) -> io::Result<bool> {
        let Some(terminal) = &self.terminal else {
            return Ok(false);
        };
        set_size(terminal.get_ref(), size)?;
        Ok(true)
    }
}

/// Sets a terminal's size by its master end.
pub(crate) fn set_size(master: &OwnedFd, size: TerminalSize) -> io::Result<()> {
    let size = Winsize {
        ws_row: size.rows,
        ws_col: size.columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    Ok(tcsetwinsize(master, size)?)
}

fn non_blocking(fd: OwnedFd) -> io::Result<Fd> {
    rustix::io::ioctl_fionbio(&fd, true)?;
    Ok(Arc::new(sys::watch_fd(
        fd,
        Interest::READABLE | Interest::WRITABLE,
    )?))
}

async fn read(stream: &Stream, length: usize, exit: &ExitWatch) -> io::Result<Vec<u8>> {
    let _turn = stream.turn.lock().await;
    let Some(fd) = stream.get() else {
        return Ok(Vec::new());
    };
    let mut buffer = vec![0; length.min(MAX_READ_BYTES)];
    let read = read_some(&fd, &mut buffer, exit).await?;
    if read == 0 {
        stream.close();
    }
    buffer.truncate(read);
    Ok(buffer)
}

async fn read_some(fd: &Fd, buffer: &mut [u8], exit: &ExitWatch) -> io::Result<usize> {
    let drained = drained(exit);
    tokio::pin!(drained);
    loop {
        tokio::select! {
            biased;
            ready = fd.readable() => {
                if let Ok(result) = ready?.try_io(|fd| read_now(fd.get_ref(), buffer)) {
                    return result;
                }
            }
            () = &mut drained => {
                return match read_now(fd.get_ref(), buffer) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
                    result => result,
                };
            }
        }
    }
}

/// Reads once; a terminal whose other end is closed says so by an error.
fn read_now(fd: &OwnedFd, buffer: &mut [u8]) -> io::Result<usize> {
    match rustix::io::read(fd, buffer) {
        Err(rustix::io::Errno::IO) => Ok(0),
        result => Ok(result?),
    }
}

async fn write_all(fd: &Fd, mut data: &[u8]) -> io::Result<()> {
    while !data.is_empty() {
        let mut ready = fd.writable().await?;
        if let Ok(written) = ready.try_io(|fd| Ok(rustix::io::write(fd.get_ref(), data)?)) {
            data = data.get(written?..).unwrap_or_default();
        }
    }
    Ok(())
}

/// Ends when a process has ended long enough ago that its last output must have arrived.
fn drained(exit: &ExitWatch) -> impl Future<Output = ()> {
    let exit = exit.clone();
    async move {
        if let Ok(exit) = exit.exit().await {
            tokio::time::sleep_until(exit.at + DRAIN).await;
        }
    }
}
