//! Child processes that die with the shim, and processes found again by number.

use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{io, thread};

use command_fds::{CommandFdExt, FdMapping};
use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, PidfdFlags, Signal};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::cgroup::Cgroups;
use crate::error::SandboxError;
use crate::sandbox::VmExit;
use crate::sys::{ChildNetwork, prepare_child};

/// How much of a child's standard error is kept, in bytes.
const STDERR_KEPT: usize = 4096;

/// How much of it an error message quotes, in characters.
const STDERR_QUOTED: usize = 320;

/// How long a killed process may take to be gone.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);

/// A process, told apart from a later one with the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessRef {
    /// Process id.
    pub(crate) pid: i32,
    /// When it started, in clock ticks since boot (`/proc/<pid>/stat`, field 22).
    pub(crate) start_time: u64,
}

impl ProcessRef {
    /// The process with this number as it is now.
    pub(crate) fn of(pid: i32) -> io::Result<Self> {
        let stat = fs::read(format!("/proc/{pid}/stat"))?;
        let start_time = start_time_of(&stat).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self { pid, start_time })
    }

    /// A descriptor of this very process; `None` when it is gone, even if its number lives on.
    fn open(self) -> Option<OwnedFd> {
        let pid = Pid::from_raw(self.pid)?;
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok()?;
        // The number cannot change hands any more while the descriptor is open and the
        // process unreaped; a start time read now is the one of the descriptor's process.
        (Self::of(self.pid).ok()? == self).then_some(pidfd)
    }

    /// True while the process exists and runs.
    pub(crate) fn is_alive(self) -> bool {
        self.open()
            .is_some_and(|pidfd| !wait_pidfd(&pidfd, Duration::ZERO))
    }

    /// Waits for the end of the process, unless it is this one.
    pub(crate) fn wait_unless_own(self, timeout: Duration) {
        if u32::try_from(self.pid) != Ok(std::process::id())
            && let Some(pidfd) = self.open()
        {
            wait_pidfd(&pidfd, timeout);
        }
    }

    /// Kills the process and waits until it is gone; true when there was something to kill.
    pub(crate) fn kill(self) -> Result<bool, SandboxError> {
        let Some(pidfd) = self.open() else {
            return Ok(false);
        };
        let _ = rustix::process::pidfd_send_signal(&pidfd, Signal::KILL);
        if wait_pidfd(&pidfd, KILL_TIMEOUT) {
            Ok(true)
        } else {
            Err(SandboxError::Unkillable { pid: self.pid })
        }
    }
}

/// Field 22 of `/proc/<pid>/stat`; the name in field 2 may hold spaces and parentheses.
fn start_time_of(stat: &[u8]) -> Option<u64> {
    let after_name = stat
        .iter()
        .rposition(|byte| *byte == b')')?
        .checked_add(2)?;
    let text = std::str::from_utf8(stat.get(after_name..)?).ok()?;
    text.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// The processes started from `program` with an argument that names a file below `dir`.
///
/// Finds a child that was started but not yet written down when its parent was killed.
pub(crate) fn processes_using(program: &Path, dir: &Path) -> Vec<ProcessRef> {
    let mut prefix = dir.as_os_str().as_encoded_bytes().to_vec();
    prefix.push(b'/');
    let Ok(program) = program.canonicalize() else {
        return Vec::new();
    };
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == program))
        .filter(|pid| {
            fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|cmdline| {
                cmdline
                    .windows(prefix.len())
                    .any(|window| window == prefix.as_slice())
            })
        })
        .filter_map(|pid| ProcessRef::of(pid).ok())
        .collect()
}

/// Waits for the end of a process; false when it still runs after `timeout`.
fn wait_pidfd(pidfd: &OwnedFd, timeout: Duration) -> bool {
    let deadline = Instant::now() + timeout;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
        match poll(&mut fds, Some(left)) {
            Ok(0) if left.is_zero() => return false,
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => return true,
            Err(_) => return false,
        }
    }
}

fn poll(fds: &mut [PollFd<'_>], timeout: Option<Duration>) -> rustix::io::Result<usize> {
    let timeout = timeout
        .map(rustix::event::Timespec::try_from)
        .and_then(Result::ok);
    rustix::event::poll(fds, timeout.as_ref())
}

/// What to start.
#[derive(Debug)]
pub(crate) struct ChildSpec {
    /// The executable.
    pub(crate) program: PathBuf,
    /// Its arguments.
    pub(crate) args: Vec<OsString>,
    /// Its network namespace.
    pub(crate) network: ChildNetwork,
    /// Descriptors to inherit and their numbers in the child.
    pub(crate) fds: Vec<(RawFd, OwnedFd)>,
    /// Its control groups.
    pub(crate) cgroups: Cgroups,
}

/// A running child process.
#[derive(Debug)]
pub(crate) struct ChildProcess {
    identity: ProcessRef,
    exit: watch::Receiver<Option<VmExit>>,
    stderr: Arc<Mutex<Vec<u8>>>,
}

impl ChildProcess {
    /// Starts a child on a thread of its own.
    ///
    /// The kernel sends the parent-death signal when the *thread* that forked ends, so the
    /// thread stays until the child is gone: it is what reads its standard error and reaps it.
    pub(crate) async fn spawn(spec: ChildSpec) -> Result<Self, SandboxError> {
        let program = spec.program.clone();
        let failed = |source| SandboxError::Spawn {
            program: program.clone(),
            source,
        };
        let cgroups = spec.cgroups.clone();
        let (started_tx, started) = tokio::sync::oneshot::channel();
        let (exit_tx, exit) = watch::channel(None);
        let stderr = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&stderr);
        thread::Builder::new()
            .name("child-keeper".to_owned())
            .spawn(move || match start(spec) {
                Ok((child, identity)) => {
                    let unwanted = started_tx.send(Ok(identity)).is_err();
                    let exit = keep(child, identity, unwanted, &kept);
                    exit_tx.send_replace(Some(exit));
                }
                Err(error) => {
                    let _ = started_tx.send(Err(error));
                }
            })
            .map_err(failed)?;
        let identity = started
            .await
            .map_err(|_| failed(io::Error::other("the starting thread ended")))?
            .map_err(failed)?;
        let child = Self {
            identity,
            exit,
            stderr,
        };
        // A child that has ended already is in no group, and its end tells more.
        let joined = cgroups.add(identity.pid);
        if child.try_exit().is_none() {
            cgroups.judge(joined)?;
        }
        Ok(child)
    }

    /// Which process this is.
    pub(crate) fn identity(&self) -> ProcessRef {
        self.identity
    }

    /// Tells how the child ended, once it has.
    pub(crate) fn exit(&self) -> watch::Receiver<Option<VmExit>> {
        self.exit.clone()
    }

    /// How the child ended; `None` while it runs.
    pub(crate) fn try_exit(&self) -> Option<VmExit> {
        self.exit.borrow().clone()
    }

    /// Waits for the end of the child.
    pub(crate) async fn wait(&self) -> VmExit {
        wait_exit(self.exit.clone()).await
    }

    /// The end of the child's standard error, on one line.
    pub(crate) fn stderr(&self) -> String {
        let bytes = self.stderr.lock().unwrap_or_else(PoisonError::into_inner);
        let line = one_line(&bytes);
        let excess = line.chars().count().saturating_sub(STDERR_QUOTED);
        line.chars().skip(excess).collect()
    }

    /// The first line of the child's standard error that speaks of an error.
    pub(crate) fn first_error(&self) -> String {
        let bytes = self.stderr.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&bytes);
        let line = text
            .lines()
            .find(|line| line.contains("error"))
            .unwrap_or_default();
        one_line(
            line.chars()
                .take(STDERR_QUOTED)
                .collect::<String>()
                .as_bytes(),
        )
    }

    /// Kills the child and waits until it is reaped.
    pub(crate) async fn kill(&self) -> Result<(), SandboxError> {
        self.send_kill();
        match tokio::time::timeout(KILL_TIMEOUT, self.wait()).await {
            Ok(_) => Ok(()),
            Err(_) => Err(SandboxError::Unkillable {
                pid: self.identity.pid,
            }),
        }
    }

    fn send_kill(&self) {
        if self.try_exit().is_none()
            && let Some(pidfd) = self.identity.open()
        {
            let _ = rustix::process::pidfd_send_signal(&pidfd, Signal::KILL);
        }
    }
}

impl Drop for ChildProcess {
    fn drop(&mut self) {
        self.send_kill();
    }
}

/// Waits until the watched process has ended.
pub(crate) async fn wait_exit(mut exit: watch::Receiver<Option<VmExit>>) -> VmExit {
    match exit.wait_for(Option::is_some).await {
        Ok(value) => value.clone().unwrap_or_default(),
        // The keeper sends before it ends; without it nothing more can be known.
        Err(_) => VmExit::default(),
    }
}

/// Standard error as one bounded line; empty becomes a remark.
fn one_line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let line = redoubt_errors::flatten(text.trim());
    if line.is_empty() {
        "nothing on standard error".to_owned()
    } else {
        line
    }
}

fn start(spec: ChildSpec) -> io::Result<(Child, ProcessRef)> {
    let mut command = Command::new(&spec.program);
    command
        .args(&spec.args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0);
    let mappings = spec
        .fds
        .into_iter()
        .map(|(child_fd, parent_fd)| FdMapping {
            parent_fd,
            child_fd,
        })
        .collect();
    // Before the mappings, which may give the numbers of its descriptors to others.
    prepare_child(&mut command, spec.network, spec.cgroups.entrances());
    command.fd_mappings(mappings).map_err(io::Error::other)?;
    let child = command.spawn()?;
    let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
    let identity = ProcessRef::of(pid)?;
    Ok((child, identity))
}

/// Collects the child's standard error until it ends, then reaps it.
fn keep(mut child: Child, identity: ProcessRef, unwanted: bool, kept: &Mutex<Vec<u8>>) -> VmExit {
    if unwanted {
        let _ = child.kill();
    }
    if let Some(mut stderr) = child.stderr.take() {
        let pidfd = identity.open();
        let mut running = true;
        let mut open = true;
        while open {
            let mut fds = vec![PollFd::new(&stderr, PollFlags::IN)];
            if let (Some(pidfd), true) = (&pidfd, running) {
                fds.push(PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN));
            }
            // After the end nothing new comes, unless a grandchild holds the pipe.
            let timeout = if running {
                None
            } else {
                Some(Duration::from_millis(20))
            };
            match poll(&mut fds, timeout) {
                Ok(0) => open = false,
                Ok(_) => {
                    let readable = !fds.first().is_some_and(|fd| fd.revents().is_empty());
                    let ended = fds.get(1).is_some_and(|fd| !fd.revents().is_empty());
                    drop(fds);
                    running &= !ended;
                    if readable {
                        open = read_some(&mut stderr, kept);
                    }
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => open = false,
            }
        }
    }
    match child.wait() {
        Ok(status) => VmExit {
            code: status.code(),
            signal: status.signal(),
        },
        // Somebody else reaped it, as a shim's SIGCHLD handler may do.
        Err(_) => VmExit::default(),
    }
}

/// Keeps the last bytes of what comes; false at the end.
fn read_some(stderr: &mut impl Read, kept: &Mutex<Vec<u8>>) -> bool {
    let mut buffer = [0_u8; 1024];
    match stderr.read(&mut buffer) {
        Ok(0) => false,
        Ok(count) => {
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.extend_from_slice(buffer.get(..count).unwrap_or_default());
            let excess = kept.len().saturating_sub(STDERR_KEPT);
            kept.drain(..excess);
            true
        }
        Err(error) => error.kind() == io::ErrorKind::Interrupted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(script: &str) -> ChildSpec {
        ChildSpec {
            program: "/bin/sh".into(),
            args: vec!["-c".into(), script.into()],
            network: ChildNetwork::Inherited,
            fds: Vec::new(),
            cgroups: Cgroups::default(),
        }
    }

    #[test]
    fn start_time_survives_hostile_process_names() {
        let fields = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20";
        assert_eq!(
            start_time_of(format!("7 (a b) c) {fields}").as_bytes()),
            Some(4711)
        );
        assert_eq!(start_time_of(b"7 (a)"), None);
        assert_eq!(start_time_of(b""), None);
    }

    #[tokio::test]
    async fn exit_status_and_bounded_stderr_are_kept() {
        let script = "i=0; while [ $i -lt 2000 ]; do echo line-$i >&2; i=$((i+1)); done; exit 3";
        let child = ChildProcess::spawn(spec(script)).await.unwrap();
        assert_eq!(
            child.wait().await,
            VmExit {
                code: Some(3),
                signal: None
            }
        );
        assert!(child.stderr().ends_with("line-1999"));
        assert!(child.stderr().len() <= STDERR_QUOTED);
    }

    #[tokio::test]
    async fn a_grandchild_that_keeps_the_pipe_does_not_hide_the_exit() {
        let child = ChildProcess::spawn(spec("sleep 30 & exit 4"))
            .await
            .unwrap();
        let exit = tokio::time::timeout(Duration::from_secs(5), child.wait())
            .await
            .unwrap();
        assert_eq!(exit.code, Some(4));
    }

    #[tokio::test]
    async fn a_missing_program_is_named() {
        let mut missing = spec("");
        missing.program = "/nonexistent/qemu".into();
        let error = ChildProcess::spawn(missing).await.unwrap_err();
        let text = redoubt_errors::OneLine(&error).to_string();
        insta::assert_snapshot!(text, @"[RDT-VMM-005] cannot start /nonexistent/qemu: No such file or directory (os error 2) (hint: check the path in configuration.toml)");
    }

    #[tokio::test]
    async fn a_dropped_child_is_killed() {
        let child = ChildProcess::spawn(spec("sleep 30")).await.unwrap();
        let (identity, exit) = (child.identity(), child.exit());
        assert!(identity.is_alive());
        drop(child);
        assert_eq!(wait_exit(exit).await.signal, Some(9));
        assert!(!identity.is_alive());
    }

    #[tokio::test]
    async fn a_reused_process_number_is_left_alone() {
        let child = ChildProcess::spawn(spec("sleep 30")).await.unwrap();
        let other = ProcessRef {
            start_time: child.identity().start_time + 1,
            ..child.identity()
        };
        assert!(!other.kill().unwrap());
        assert!(child.identity().is_alive());
        assert!(child.identity().kill().unwrap());
        assert_eq!(child.wait().await.signal, Some(9));
    }

    #[tokio::test]
    async fn a_process_is_found_by_a_path_it_was_given() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x");
        let mut with_path = spec("kill -STOP $$");
        with_path.args.push(file.into());
        let child = ChildProcess::spawn(with_path).await.unwrap();
        assert_eq!(
            processes_using(Path::new("/bin/sh"), dir.path()),
            vec![child.identity()]
        );
        assert!(processes_using(Path::new("/bin/ls"), dir.path()).is_empty());
    }

    #[tokio::test]
    async fn a_fresh_network_namespace_holds_only_loopback() {
        let mut fresh = spec("cat /proc/net/dev >&2");
        fresh.network = ChildNetwork::Fresh;
        let child = ChildProcess::spawn(fresh).await.unwrap();
        assert_eq!(child.wait().await.code, Some(0));
        let interfaces = child.stderr();
        assert!(interfaces.contains("lo:"), "{interfaces}");
        assert!(!interfaces.contains("eth0"), "{interfaces}");
    }
}
