//! `start`: leave a server behind and print its address.

use std::fs;
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::Result;

use super::{ADDRESS_FILE, CommandError, PID_FILE, bundle_of, write_file};
use crate::address;
use crate::bootstrap::{self, MAX_INPUT_BYTES, StartParameters};
use crate::cli::Flags;
use crate::oci::{self, ContainerKind};

/// The lowest OOM score adjustment of a shim, as containerd sets it for its own.
const MIN_OOM_SCORE_ADJ: i32 = -998;
/// The highest that the kernel takes.
const MAX_OOM_SCORE_ADJ: i32 = 1000;

/// Starts a server, or finds the one of the container's sandbox.
pub fn run(flags: &Flags) -> Result<()> {
    let parameters = bootstrap::interpret(&read_stdin()?, flags);
    let bundle = bundle_of(flags)?;
    let kind = oci::container_kind(&flags.id, &oci::parse_spec(&oci::read_config(&bundle)?)?)?;
    let group = kind.sandbox_id(&flags.id).to_owned();
    let dir = parameters
        .socket_dir
        .as_deref()
        .unwrap_or(address::SOCKET_DIR);
    let socket = address::socket_path(
        Path::new(dir),
        &parameters.containerd_address,
        &flags.namespace,
        &group,
    );
    let address = address::address_of(&socket);
    if let ContainerKind::Member(sandbox) = kind {
        if !address::is_served(&socket) {
            return Err(CommandError::NoServer {
                container: flags.id.clone(),
                sandbox,
            }
            .into());
        }
    } else {
        leave_server(flags, &parameters, &bundle, &socket)?;
    }
    write_file(&bundle.join(ADDRESS_FILE), &address)?;
    let reply =
        bootstrap::encode_reply(&address, parameters.reply).map_err(CommandError::Encode)?;
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(&reply)
        .and_then(|()| stdout.flush())
        .map_err(CommandError::Stdout)?;
    Ok(())
}

fn read_stdin() -> Result<Vec<u8>, CommandError> {
    let stdin = io::stdin();
    let mut input = Vec::new();
    if !stdin.is_terminal() {
        stdin
            .lock()
            .take(MAX_INPUT_BYTES)
            .read_to_end(&mut input)
            .map_err(CommandError::Stdin)?;
    }
    Ok(input)
}

/// Listens, and hands the listening socket to a server of its own process group. The
/// socket takes connections from the first moment.
fn leave_server(
    flags: &Flags,
    parameters: &StartParameters,
    bundle: &Path,
    socket: &PathBuf,
) -> Result<(), CommandError> {
    let listener = address::listen(socket).map_err(|source| CommandError::Listen {
        path: socket.clone(),
        source,
    })?;
    let result = spawn_server(flags, parameters, bundle, socket, listener)
        .map_err(CommandError::Spawn)
        .and_then(|child| {
            adjust_oom_score(child.id());
            write_file(&bundle.join(PID_FILE), &child.id().to_string())
        });
    if result.is_err() {
        // A socket without a server would make the next start wait for nothing.
        let _ = fs::remove_file(socket);
    }
    result
}

fn spawn_server(
    flags: &Flags,
    parameters: &StartParameters,
    bundle: &Path,
    socket: &Path,
    listener: UnixListener,
) -> io::Result<Child> {
    let mut server = Command::new(std::env::current_exe()?);
    server
        .current_dir(bundle)
        .args(["-namespace", &flags.namespace, "-id", &flags.id])
        .args(["-address", &parameters.containerd_address])
        .args(["-socket", &address::address_of(socket)])
        .stdin(Stdio::from(OwnedFd::from(listener)))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0);
    if parameters.debug {
        server.arg("-debug");
    }
    if let Some(address) = &parameters.ttrpc_address {
        server.env("TTRPC_ADDRESS", address);
    }
    server.spawn()
}

/// Makes the kernel prefer the shim to containerd when memory runs out. Best effort, as
/// it is for containerd's own shims.
fn adjust_oom_score(pid: u32) {
    let parent = rustix::process::getppid().map_or(1, rustix::process::Pid::as_raw_pid);
    let Ok(text) = fs::read_to_string(format!("/proc/{parent}/oom_score_adj")) else {
        return;
    };
    let Ok(score) = text.trim().parse::<i32>() else {
        return;
    };
    let score = score
        .saturating_add(1)
        .clamp(MIN_OOM_SCORE_ADJ, MAX_OOM_SCORE_ADJ);
    let _ = fs::write(format!("/proc/{pid}/oom_score_adj"), score.to_string());
}
