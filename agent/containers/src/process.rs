//! One process of a container, as the agent knows it.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::ContainerError;
use crate::exit::{ExitStatus, ExitWatch};
use crate::io::ProcessIo;
use crate::launch::Launched;
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
    /// has no handler for. Who stops a container expects it to end, so such a
    /// process gets SIGKILL.
    pub(crate) fn effective_init_signal(&self, signal: i32) -> i32 {
        if signal != libc::SIGTERM {
            return signal;
        }
        match fs::read_to_string(format!("/proc/{}/status", self.pid)) {
            Ok(status) if !catches(&status, signal) => libc::SIGKILL,
            _ => signal,
        }
    }
}

/// Whether a `/proc/<pid>/status` text shows that the process notices a signal: it has a
/// handler, or it blocks the signal, as programs do that wait for signals one by one.
fn catches(status: &str, signal: i32) -> bool {
    ["SigCgt:", "SigBlk:"]
        .iter()
        .any(|mask| holds(status, mask, signal))
}

fn holds(status: &str, name: &str, signal: i32) -> bool {
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    match (mask, u32::try_from(signal - 1)) {
        (Some(mask), Ok(bit)) => mask.checked_shr(bit).is_some_and(|rest| rest & 1 == 1),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handlers_are_read_from_the_status_file() {
        let with = "Name:\tx\nSigIgn:\t0000000000000000\nSigCgt:\t0000000000004000\n";
        let without = "Name:\tx\nSigIgn:\t0000000000004000\nSigCgt:\t0000000000000001\n";
        assert!(catches(with, libc::SIGTERM));
        assert!(!catches(without, libc::SIGTERM));
        assert!(catches(without, libc::SIGHUP));
        assert!(catches("SigCgt:\t8000000000000000\n", 64));
        let waits = "SigBlk:\t0000000000004000\nSigCgt:\t0000000000000000\n";
        assert!(catches(waits, libc::SIGTERM));
        assert!(!catches(waits, libc::SIGINT));
    }

    #[test]
    fn broken_status_texts_name_no_handler() {
        for text in ["", "SigCgt:", "SigCgt:\tzz", "SigCgt:\tfffffffffffffffff"] {
            assert!(!catches(text, libc::SIGTERM), "{text:?}");
        }
        assert!(!catches("SigCgt:\tffffffffffffffff", 0));
        assert!(!catches("SigCgt:\tffffffffffffffff", 65));
    }
}
