//! The agent's side of the helper process.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::error::ContainerError;
use crate::exit::ExitWatch;
use crate::helper::HELPER_NAME;
use crate::helper::protocol::{self, Operation, Packet, Reply, Request};
use crate::reaper::{Reaper, Spawned, open_pidfd};
use crate::sys;

/// The agent's own binary, even where its file was replaced or removed.
const OWN_BINARY: &str = "/proc/self/exe";

/// A process that the helper made and that is now this process's child.
#[derive(Debug)]
pub(crate) struct Launched {
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
    pub(crate) exit: ExitWatch,
    pub(crate) terminal: Option<OwnedFd>,
}

/// Runs one operation that makes a process.
pub(crate) async fn launch(
    reaper: &Reaper,
    request: &Request,
    fds: Vec<OwnedFd>,
    timeout: Duration,
) -> Result<Launched, ContainerError> {
    let mut call = Call::start(reaper, request, fds)?;
    let (reply, mut passed) = call.reply(request, timeout).await?;
    let Reply::Done { pid: Some(pid) } = reply else {
        return Err(ContainerError::HelperAnswer);
    };
    // The helper still is the process's parent and does not wait for it: the pid cannot be
    // given to another process before it is registered here.
    let pidfd = open_pidfd(pid).map_err(ContainerError::HelperConnection)?;
    let exit = reaper.watch(pid);
    call.finish().await?;
    Ok(Launched {
        pid,
        pidfd,
        exit,
        terminal: passed.pop(),
    })
}

/// Runs one operation that makes no process.
pub(crate) async fn run(
    reaper: &Reaper,
    request: &Request,
    timeout: Duration,
) -> Result<(), ContainerError> {
    let mut call = Call::start(reaper, request, Vec::new())?;
    call.reply(request, timeout).await?;
    call.finish().await
}

/// A running helper; dropped before its end, the helper is killed.
struct Call {
    socket: Option<AsyncFd<OwnedFd>>,
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
            .stderr(Stdio::null());
        let helper = reaper
            .spawn(&mut command)
            .map_err(ContainerError::HelperSpawn)?;
        Ok(Self {
            socket: Some(socket),
            helper,
        })
    }

    /// Waits for the answer.
    async fn reply(
        &mut self,
        request: &Request,
        timeout: Duration,
    ) -> Result<(Reply, Vec<OwnedFd>), ContainerError> {
        let socket = self.socket.as_ref().ok_or(ContainerError::HelperAnswer)?;
        let packet = tokio::select! {
            packet = receive(socket) => packet.map_err(ContainerError::HelperConnection)?,
            // The container's processes hold the socket too, so the helper's death does not
            // close it. Its last answer may have come at the same moment.
            status = self.helper.exit.wait() => {
                let status = status?;
                protocol::receive(socket).map_err(|_empty| ContainerError::HelperDied { status })?
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
            Some(done) => Ok((done, packet.fds)),
        }
    }

    /// Lets the helper go and waits for it, so that its children are ours afterwards.
    async fn finish(mut self) -> Result<(), ContainerError> {
        self.socket = None;
        self.helper.exit.wait().await?;
        Ok(())
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if self.helper.exit.status().is_none() {
            // It may have ended by itself.
            let _ = sys::pidfd_send_signal(&self.helper.pidfd, libc::SIGKILL);
        }
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
