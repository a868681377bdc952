//! The terminal of a new container process.
//!
//! libcontainer makes it inside the container and sends its master end to a
//! socket. The process then waits until the agent has given the other end to
//! the process's user and set the size: a process could not be told from
//! outside that its terminal was not ready yet.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Uid, fchown};
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::Interest;
use tokio::net::UnixListener;

use crate::helper::protocol;
use crate::io::{TerminalSize, set_size};
use crate::sys;

/// What the terminal shall be like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TerminalSettings {
    /// The user who gets it, if the id can be told.
    pub(crate) owner: Option<u32>,
    /// Its first size.
    pub(crate) size: Option<TerminalSize>,
}

/// Waits at a socket for the master end; the socket's file goes with this value.
#[derive(Debug)]
pub(crate) struct ConsoleSocket {
    listener: UnixListener,
    path: PathBuf,
    ready: OwnedFd,
}

impl ConsoleSocket {
    /// Also returns what the new process waits at: one byte there means that the terminal is
    /// ready, the end that it will not be.
    pub(crate) fn bind(path: PathBuf) -> io::Result<(Self, OwnedFd)> {
        let (wait, ready) = pipe_with(PipeFlags::CLOEXEC)?;
        let listener = UnixListener::bind(&path)?;
        Ok((
            Self {
                listener,
                path,
                ready,
            },
            wait,
        ))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the master end, prepares the terminal and lets the process go on.
    pub(crate) async fn take_master(&self, settings: TerminalSettings) -> io::Result<OwnedFd> {
        let (stream, _) = self.listener.accept().await?;
        let packet = stream
            .async_io(Interest::READABLE, || protocol::receive(&stream))
            .await?;
        let master = packet
            .fds
            .into_iter()
            .next()
            .ok_or_else(|| io::Error::other("no terminal came from the container"))?;
        if let Some(owner) = settings.owner {
            fchown(
                sys::terminal_peer(&master)?,
                Some(Uid::from_raw(owner)),
                None,
            )?;
        }
        if let Some(size) = settings.size {
            set_size(&master, size)?;
        }
        rustix::io::write(&self.ready, &[1])?;
        Ok(master)
    }
}

impl Drop for ConsoleSocket {
    fn drop(&mut self) {
        // It may never have been there.
        let _ = fs::remove_file(&self.path);
    }
}
