//! How a process ended, and waiting for it.

use std::fmt;

use rustix::process::WaitStatus;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::error::ContainerError;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// It called `exit` with this status (0 to 255).
    Exited(i32),
    /// This signal ended it.
    Signaled(i32),
}

impl ExitStatus {
    /// One number as shells and container engines report it: the exit status, or 128 plus the
    /// signal's number.
    pub fn code(self) -> i32 {
        match self {
            Self::Exited(status) => status,
            Self::Signaled(signal) => signal.saturating_add(128),
        }
    }

    /// Reads a final wait status; stops and continues are not final.
    pub(crate) fn from_wait(status: WaitStatus) -> Option<Self> {
        status
            .exit_status()
            .map(Self::Exited)
            .or_else(|| status.terminating_signal().map(Self::Signaled))
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(status) => write!(f, "exit status {status}"),
            Self::Signaled(signal) => write!(f, "signal {signal}"),
        }
    }
}

/// An exit status with the moment at which it was collected.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exit {
    pub(crate) status: ExitStatus,
    pub(crate) at: Instant,
}

/// Waits for the end of one process; any number of clones may wait, before and after the end.
#[derive(Clone, Debug)]
pub struct ExitWatch(watch::Receiver<Option<Exit>>);

impl ExitWatch {
    pub(crate) fn new() -> (watch::Sender<Option<Exit>>, Self) {
        let (sender, receiver) = watch::channel(None);
        (sender, Self(receiver))
    }

    /// Waits until the process has ended.
    pub async fn wait(&self) -> Result<ExitStatus, ContainerError> {
        Ok(self.exit().await?.status)
    }

    /// The status, if the process has ended already.
    pub fn status(&self) -> Option<ExitStatus> {
        self.now().map(|exit| exit.status)
    }

    pub(crate) fn now(&self) -> Option<Exit> {
        *self.0.borrow()
    }

    pub(crate) async fn exit(&self) -> Result<Exit, ContainerError> {
        let mut receiver = self.0.clone();
        let exit = *receiver
            .wait_for(Option::is_some)
            .await
            .map_err(|_closed| ContainerError::ReaperStopped)?;
        exit.ok_or(ContainerError::ReaperStopped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_a_shell() {
        assert_eq!(ExitStatus::Exited(3).code(), 3);
        assert_eq!(ExitStatus::Signaled(9).code(), 137);
        assert_eq!(ExitStatus::Signaled(15).code(), 143);
        assert_eq!(ExitStatus::Signaled(34).code(), 162);
    }
}
