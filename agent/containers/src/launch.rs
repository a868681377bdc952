//! The agent's side of the helper process.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::Instant;

use crate::error::ContainerError;
use crate::exit::ExitWatch;
use crate::helper::HELPER_NAME;
use crate::helper::protocol::{self, Operation, Packet, Reply, Request};
use crate::reaper::{Reaper, Spawned, open_pidfd};
use crate::sys;

/// The agent's own binary, even where its file was replaced or removed.
const OWN_BINARY: &str = "/proc/self/exe";
/// How long a killed helper may take to end.
const DEATH: Duration = Duration::from_secs(10);

/// A process that the helper made and that is now this process's child.
#[derive(Debug)]
pub(crate) struct Launched {
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
    pub(crate) exit: ExitWatch,
}

/// Runs one operation that makes a process.
pub(crate) async fn launch(
    reaper: &Reaper,
    request: &Request,
    fds: Vec<OwnedFd>,
    timeout: Duration,
) -> Result<Launched, ContainerError> {
    let call = Call::start(reaper, request, fds)?;
    let adopt = |pid: Option<i32>| {
        let pid = pid.ok_or(ContainerError::HelperAnswer)?;
        // The helper still is the process's parent and does not wait for it: the pid cannot be
        // given to another process before it is registered here.
        let pidfd = open_pidfd(pid).map_err(ContainerError::HelperConnection)?;
        Ok(Launched {
            pid,
            pidfd,
            exit: reaper.watch(pid),
        })
    };
    call.finish(request, timeout, adopt).await
}

/// Runs one operation that makes no process.
pub(crate) async fn run(
    reaper: &Reaper,
    request: &Request,
    timeout: Duration,
) -> Result<(), ContainerError> {
    let call = Call::start(reaper, request, Vec::new())?;
    call.finish(request, timeout, |_no_pid| Ok(())).await
}

/// A running helper.
struct Call {
    socket: AsyncFd<OwnedFd>,
    helper: Spawned,
}

impl Call {
    fn start(
        reaper: &Reaper,
        request: &Request,
        fds: Vec<OwnedFd>,
    ) -> Result<Self, ContainerError> {
        let (ours, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .map_err(|errno| ContainerError::HelperConnection(errno.into()))?;
        // An empty socket buffer takes the whole request, so this cannot block.
        protocol::send(&ours, request, &fds).map_err(ContainerError::HelperConnection)?;
        drop(fds);
        rustix::io::ioctl_fionbio(&ours, true)
            .map_err(|errno| ContainerError::HelperConnection(errno.into()))?;
        let socket =
            sys::watch_fd(ours, Interest::READABLE).map_err(ContainerError::HelperConnection)?;
        let mut command = Command::new(OWN_BINARY);
        command
            .arg0(HELPER_NAME)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Its forks stay in its group until they have a control group of their own.
            .process_group(0);
        let helper = reaper
            .spawn(&mut command)
            .map_err(ContainerError::HelperSpawn)?;
        Ok(Self { socket, helper })
    }

    /// Takes the answer, lets the helper go and waits for its end, after which its children are
    /// this process's. After a failure nothing of the helper runs any more.
    async fn finish<T>(
        self,
        request: &Request,
        timeout: Duration,
        adopt: impl FnOnce(Option<i32>) -> Result<T, ContainerError>,
    ) -> Result<T, ContainerError> {
        let adopted = self.reply(request, timeout).await.and_then(adopt);
        let Self { socket, helper } = self;
        if adopted.is_err() {
            kill_group(&helper).await;
        }
        drop(socket);
        helper.exit.wait().await?;
        adopted
    }

    /// Waits for the answer.
    async fn reply(
        &self,
        request: &Request,
        timeout: Duration,
    ) -> Result<Option<i32>, ContainerError> {
        let packet = tokio::select! {
            packet = receive(&self.socket) => packet.map_err(ContainerError::HelperConnection)?,
            // The container's processes hold the socket too, so the helper's death does not
            // close it. Its last answer may have come at the same moment.
            status = self.helper.exit.wait() => {
                let status = status?;
                protocol::receive(&self.socket)
                    .map_err(|_empty| ContainerError::HelperDied { status })?
            }
            () = tokio::time::sleep(timeout) => {
                return Err(ContainerError::HelperTimeout { seconds: timeout.as_secs() });
            }
        };
        match packet.parse::<Reply>() {
            None => Err(ContainerError::HelperAnswer),
            Some(Reply::Failed { message }) => Err(ContainerError::Runtime {
                operation: operation_name(&request.operation),
                message: protocol::one_line(&message),
            }),
            Some(Reply::Done { pid }) => Ok(pid),
        }
    }
}

/// Kills the helper with its forks and waits until none is left. A fork that has begun a session
/// of its own has joined the container's control group before, and is found there.
async fn kill_group(helper: &Spawned) {
    let Some(group) = Pid::from_raw(helper.pid) else {
        return;
    };
    let deadline = Instant::now() + DEATH;
    // They may have ended by themselves.
    let _ = kill_process_group(group, Signal::KILL);
    while test_kill_process_group(group).is_ok() && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn receive(socket: &AsyncFd<OwnedFd>) -> io::Result<Packet> {
    loop {
        let mut ready = socket.readable().await?;
        if let Ok(packet) = ready.try_io(protocol::receive) {
            return packet;
        }
    }
}

fn operation_name(operation: &Operation) -> &'static str {
    match operation {
        Operation::Create { .. } => "create",
        Operation::Start {} => "start",
        Operation::Exec { .. } => "exec in",
    }
}
