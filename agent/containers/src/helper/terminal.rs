//! The terminal of a new container process, made inside the container by libcontainer.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::{Uid, fchown};

use super::protocol;
use crate::sys;

/// Waits at a socket for the terminal's master end; the socket's file goes with this value.
pub(super) struct ConsoleSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl ConsoleSocket {
    pub(super) fn bind(path: PathBuf) -> io::Result<Self> {
        Ok(Self {
            listener: UnixListener::bind(&path)?,
            path,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the master end, which was sent before libcontainer reported success, and gives the
    /// other end to the process's user, who otherwise could not reopen it by name.
    pub(super) fn take_master(&self, owner: Option<u32>) -> io::Result<OwnedFd> {
        self.listener.set_nonblocking(true)?;
        let (stream, _) = self.listener.accept()?;
        let master = protocol::receive(&stream)?
            .fds
            .pop()
            .ok_or_else(|| io::Error::other("no terminal came from the container"))?;
        if let Some(owner) = owner {
            fchown(
                sys::terminal_peer(&master)?,
                Some(Uid::from_raw(owner)),
                None,
            )?;
        }
        Ok(master)
    }
}

impl Drop for ConsoleSocket {
    fn drop(&mut self) {
        // It is in a folder that goes with the container at the latest.
        let _ = fs::remove_file(&self.path);
    }
}
