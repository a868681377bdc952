//! Collects the exit statuses of all child processes, those inherited from others included.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::process::Command;
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, PidfdFlags, WaitOptions, pidfd_open, wait};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::error::ContainerError;
use crate::exit::{Exit, ExitStatus, ExitWatch};
use crate::lock;

type Owners = HashMap<i32, watch::Sender<Option<Exit>>>;

/// The one place of the process that waits for children.
///
/// PID 1 (or a child subreaper) inherits every orphan, so it must wait for any
/// child; and whoever waits for any child takes statuses from everybody else.
/// So all children are started with [`Reaper::spawn`], which knows their pid
/// before their status can be collected. `std` and `tokio` children must not
/// be waited for by other means once a reaper runs.
///
/// Only one reaper may run in a process.
#[derive(Clone, Debug)]
pub struct Reaper {
    owners: Arc<Mutex<Owners>>,
}

/// A child process started by [`Reaper::spawn`].
#[derive(Debug)]
pub struct Spawned {
    /// The process id, valid until the exit status is there.
    pub pid: i32,
    /// Refers to this process for ever, even after the pid was given to another one.
    pub pidfd: OwnedFd,
    /// The end of the process.
    pub exit: ExitWatch,
}

impl Reaper {
    /// Starts to collect exit statuses on the current tokio runtime, for as long as it runs.
    pub fn start() -> Result<Self, ContainerError> {
        let mut child_signals = signal(SignalKind::child()).map_err(ContainerError::Reaper)?;
        let reaper = Self {
            owners: Arc::default(),
        };
        let task = reaper.clone();
        tokio::spawn(async move {
            // A child may have ended before the signal's handler was there.
            task.collect();
            while child_signals.recv().await.is_some() {
                task.collect();
            }
        });
        Ok(reaper)
    }

    /// Lets this process inherit orphans of its descendants. PID 1 does without.
    pub fn become_subreaper() -> Result<(), ContainerError> {
        nix::sys::prctl::set_child_subreaper(true)
            .map_err(|errno| ContainerError::Reaper(errno.into()))
    }

    /// Starts a program whose exit status this reaper delivers.
    pub fn spawn(&self, command: &mut Command) -> io::Result<Spawned> {
        // The table stays locked until the pid is in it: the child cannot be collected before.
        let mut owners = lock(&self.owners);
        let child = command.spawn()?;
        let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
        // The child cannot have been collected, so the pid still means this process.
        let pidfd = open_pidfd(pid)?;
        Ok(Spawned {
            pid,
            pidfd,
            exit: insert(&mut owners, pid),
        })
    }

    /// Delivers the status of a process that is about to become a child of this one.
    ///
    /// The caller keeps the process from becoming a child (and so from being
    /// collected) until this returns.
    pub(crate) fn watch(&self, pid: i32) -> ExitWatch {
        insert(&mut lock(&self.owners), pid)
    }

    /// Collects all ended children; statuses that nobody asked for are dropped.
    fn collect(&self) {
        let mut owners = lock(&self.owners);
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => {
                    let Some(status) = ExitStatus::from_wait(status) else {
                        continue;
                    };
                    if let Some(owner) = owners.remove(&pid.as_raw_nonzero().get()) {
                        let exit = Exit {
                            status,
                            at: tokio::time::Instant::now(),
                        };
                        // The owner may have lost interest.
                        let _ = owner.send(Some(exit));
                    }
                }
                Err(rustix::io::Errno::INTR) => {}
                Ok(None) | Err(_) => return,
            }
        }
    }
}

fn insert(owners: &mut Owners, pid: i32) -> ExitWatch {
    let (sender, watch) = ExitWatch::new();
    owners.insert(pid, sender);
    watch
}

pub(crate) fn open_pidfd(pid: i32) -> io::Result<OwnedFd> {
    let pid = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}
