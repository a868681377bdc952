//! The host's end of the guest's vsock device: the kernel's, or a vhost-user daemon's.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::Instant;
use tokio_vsock::{VsockAddr, VsockStream};

use crate::cgroup::Cgroups;
use crate::error::SandboxError;
use crate::process::{ChildProcess, ChildSpec};
use crate::state::{Role, StateDir};
use crate::sys::{self, ChildNetwork};

/// The hybrid socket of the vhost-user daemon, in the state directory.
pub(crate) const HYBRID_SOCKET: &str = "vsock.sock";
/// The vhost-user control socket, in the state directory.
pub(crate) const CONTROL_SOCKET: &str = "vhost-vsock.sock";

/// The kernel's device.
const VHOST_VSOCK: &str = "/dev/vhost-vsock";

/// The guest's context id behind a daemon of its own; nothing else shares that daemon.
const DAEMON_GUEST_CID: u32 = 3;

/// How many random context ids are tried.
const CID_TRIES: u32 = 64;

/// How long the daemon may take to listen.
const DAEMON_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest answer of the hybrid handshake: `OK 4294967295\n`.
const MAX_HANDSHAKE: usize = 14;

/// How the host reaches ports of the guest.
#[derive(Clone, Debug)]
pub enum GuestPorts {
    /// Through the kernel, by context id.
    Vsock {
        /// The guest's context id.
        cid: u32,
    },
    /// Through a unix socket with a `CONNECT <port>` handshake.
    Hybrid {
        /// The socket's path.
        socket: PathBuf,
    },
}

/// A connection to a port of the guest.
#[derive(Debug)]
pub enum GuestStream {
    /// Through the kernel.
    Vsock(VsockStream),
    /// Through the daemon's unix socket.
    Hybrid(UnixStream),
}

impl GuestPorts {
    /// Connects to a port of the guest. Fails at once when nothing listens there yet.
    pub async fn connect(&self, port: u32) -> io::Result<GuestStream> {
        match self {
            Self::Vsock { cid } => VsockStream::connect(VsockAddr::new(*cid, port))
                .await
                .map(GuestStream::Vsock),
            Self::Hybrid { socket } => {
                let mut stream = UnixStream::connect(socket).await?;
                stream
                    .write_all(format!("CONNECT {port}\n").as_bytes())
                    .await?;
                accepted(&mut stream).await?;
                Ok(GuestStream::Hybrid(stream))
            }
        }
    }
}

/// Reads `OK <host port>\n`, byte by byte so that nothing of what follows is lost.
async fn accepted(stream: &mut UnixStream) -> io::Result<()> {
    let mut answer = Vec::with_capacity(MAX_HANDSHAKE);
    while answer.last() != Some(&b'\n') {
        if answer.len() == MAX_HANDSHAKE {
            return Err(io::Error::from(io::ErrorKind::InvalidData));
        }
        answer.push(stream.read_u8().await?);
    }
    let port = answer
        .strip_prefix(b"OK ")
        .and_then(|rest| rest.strip_suffix(b"\n"));
    if port.is_some_and(|port| !port.is_empty() && port.iter().all(u8::is_ascii_digit)) {
        Ok(())
    } else {
        Err(io::Error::from(io::ErrorKind::InvalidData))
    }
}

/// Opens the kernel's device with a context id that no other guest has.
pub(crate) fn open_vhost_vsock() -> Result<(OwnedFd, u32), SandboxError> {
    let failed = |source| SandboxError::Device {
        path: VHOST_VSOCK.into(),
        source,
    };
    let device = OpenOptions::new()
        .read(true)
        .write(true)
        .open(VHOST_VSOCK)
        .map_err(failed)?;
    for _ in 0..CID_TRIES {
        let cid = random_cid().map_err(failed)?;
        match sys::set_guest_cid(&device, cid) {
            Ok(()) => return Ok((File::into(device), cid)),
            Err(Errno::EADDRINUSE) => {}
            Err(error) => return Err(failed(error.into())),
        }
    }
    Err(SandboxError::NoFreeCid { tries: CID_TRIES })
}

/// A context id that can be a guest's: 0 to 2 and the highest number are taken.
fn random_cid() -> io::Result<u32> {
    let random = getrandom::u32().map_err(io::Error::other)?;
    Ok(random.clamp(3, u32::MAX - 1))
}

/// Starts the vhost-user daemon and waits until QEMU can connect to it.
pub(crate) async fn start_daemon(
    dir: &mut StateDir,
    program: &Path,
    cgroups: Cgroups,
) -> Result<ChildProcess, SandboxError> {
    dir.expect_process(Role::VsockDaemon, program)?;
    let control = dir.file(CONTROL_SOCKET);
    let mut vm = OsString::from(format!("guest-cid={DAEMON_GUEST_CID},socket="));
    vm.push(&control);
    vm.push(",uds-path=");
    vm.push(dir.file(HYBRID_SOCKET));
    let child = ChildProcess::spawn(ChildSpec {
        program: program.to_owned(),
        args: vec!["--vm".into(), vm],
        network: ChildNetwork::Inherited,
        fds: Vec::new(),
        cgroups,
    })
    .await?;
    dir.process_started(Role::VsockDaemon, child.identity())?;
    let deadline = Instant::now() + DAEMON_TIMEOUT;
    while !is_listening(&control) {
        if let Some(exit) = child.try_exit() {
            return Err(SandboxError::VsockDaemonExited {
                program: program.to_owned(),
                exit: exit.to_string(),
                stderr: child.stderr(),
            });
        }
        if Instant::now() >= deadline {
            let timeout_ms = u64::try_from(DAEMON_TIMEOUT.as_millis()).unwrap_or(u64::MAX);
            return Err(SandboxError::VsockDaemonSilent {
                program: program.to_owned(),
                timeout_ms,
            });
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(child)
}

/// True when a unix socket at `path` accepts connections. Connecting to find out would take
/// the daemon's only connection.
fn is_listening(path: &Path) -> bool {
    fs::read_to_string("/proc/net/unix").is_ok_and(|table| {
        path.to_str()
            .is_some_and(|path| lists_listener(&table, path))
    })
}

/// Looks for a listening socket in `/proc/net/unix`: `num refs protocol flags type state inode path`.
fn lists_listener(table: &str, path: &str) -> bool {
    /// `__SO_ACCEPTCON`
    const ACCEPTS: u32 = 1 << 16;
    table.lines().any(|line| {
        let mut fields = line.split_ascii_whitespace();
        let flags = fields
            .nth(3)
            .and_then(|flags| u32::from_str_radix(flags, 16).ok());
        flags.is_some_and(|flags| flags & ACCEPTS != 0) && fields.nth(3) == Some(path)
    })
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixListener;

    use super::*;

    async fn handshake(answer: &'static [u8]) -> io::Result<GuestStream> {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("vsock.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0_u8; 13];
            stream.read_exact(&mut request).await.unwrap();
            assert_eq!(&request, b"CONNECT 1024\n");
            stream.write_all(answer).await.unwrap();
        });
        let result = GuestPorts::Hybrid { socket }.connect(1024).await;
        server.await.unwrap();
        result
    }

    #[tokio::test]
    async fn the_handshake_leaves_the_first_message_in_the_stream() {
        let Ok(GuestStream::Hybrid(mut stream)) = handshake(b"OK 1073741824\nhello").await else {
            panic!("no connection")
        };
        let mut rest = String::new();
        stream.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "hello");
    }

    #[tokio::test]
    async fn other_answers_are_refused() {
        for answer in [
            &b""[..],
            b"NO\n",
            b"OK\n",
            b"OK \n",
            b"OK 1x\n",
            b"OK 1024",
            b"OK 123456789012345678901234567890\n",
        ] {
            assert!(handshake(answer).await.is_err(), "{answer:?}");
        }
    }

    #[tokio::test]
    async fn only_listening_sockets_count_as_ready() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        assert!(!is_listening(&path));
        let listener = UnixListener::bind(&path).unwrap();
        assert!(is_listening(&path));
        drop(listener);
        assert!(!is_listening(&path));
        assert!(!lists_listener("garbage\n\n0: 2 0 zz 1 1 1 /x", "/x"));
    }

    #[test]
    fn context_ids_avoid_the_reserved_ones() {
        for _ in 0..100 {
            let cid = random_cid().unwrap();
            assert!((3..u32::MAX).contains(&cid));
        }
    }
}
