//! One process of a container, as the agent knows it.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::ContainerError;
use crate::exit::{ExitStatus, ExitWatch};
use crate::io::ProcessIo;
use crate::launch::Launched;
use crate::signal_mask::notices;
use crate::sys;

/// A process with its streams and its end.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(crate) io: ProcessIo,
    pub(crate) exit: ExitWatch,
    pidfd: OwnedFd,
    status_taken: AtomicBool,
}

impl Process {
    pub(crate) fn new(launched: Launched, io: ProcessIo) -> Self {
        let Launched { pid, pidfd, exit } = launched;
        Self {
            pid,
            io,
            exit,
            pidfd,
            status_taken: AtomicBool::new(false),
        }
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.exit.status().is_some()
    }

    pub(crate) async fn wait(&self) -> Result<ExitStatus, ContainerError> {
        let status = self.exit.wait().await?;
        self.status_taken.store(true, Ordering::Relaxed);
        Ok(status)
    }

    /// Whether somebody has been told how the process ended.
    pub(crate) fn status_was_taken(&self) -> bool {
        self.status_taken.load(Ordering::Relaxed)
    }

    /// Sends a signal; the process may have ended (`ESRCH`).
    pub(crate) fn signal(&self, signal: i32) -> io::Result<()> {
        sys::pidfd_send_signal(&self.pidfd, signal)
    }

    /// What to send to a container's first process so that it has an effect.
    ///
    /// The first process of a pid namespace does not die of a SIGTERM that it
    /// neither handles nor waits for. Who stops a container expects it to end, so such a
    /// process gets SIGKILL.
    pub(crate) fn effective_init_signal(&self, signal: i32) -> i32 {
        if signal != libc::SIGTERM {
            return signal;
        }
        if notices(self.pid, signal) {
            signal
        } else {
            libc::SIGKILL
        }
    }
}
