//! `delete`: clean up, from what is on disk alone, after a server that is gone.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::time::SystemTime;

use anyhow::Result;
use containerd_shim_protos::api::DeleteResponse;
use protobuf::Message;
use redoubt_sandbox::{DEFAULT_STATE_ROOT, SandboxId, cleanup_from_disk};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::mount::UnmountFlags;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::{ADDRESS_FILE, CommandError, PID_FILE, bundle_of};
use crate::address;
use crate::cli::Flags;
use crate::events::timestamp;

/// Status of a task whose shim is gone: as if killed by SIGKILL.
const KILLED: u32 = 128 + 9;

/// How long a killed server may take to be gone.
const SERVER_END: Timespec = Timespec {
    tv_sec: 2,
    tv_nsec: 0,
};

/// Cleans up and prints the response for containerd.
///
/// Every step is tried, whatever became of the others; the first failure is reported.
pub async fn run(flags: &Flags) -> Result<()> {
    let bundle = bundle_of(flags)?;
    kill_server(&bundle, &flags.id);
    let cleaned = clean_up(&bundle, &flags.id).await;
    unmount_rootfs(&bundle);
    remove_socket(&bundle);
    cleaned?;
    let response = DeleteResponse {
        exit_status: KILLED,
        exited_at: Some(timestamp(SystemTime::now())).into(),
        ..DeleteResponse::default()
    };
    let bytes = response.write_to_bytes().map_err(CommandError::Encode)?;
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(&bytes)
        .and_then(|()| stdout.flush())
        .map_err(CommandError::Stdout)?;
    Ok(())
}

/// Removes the sandbox of this id. A member of a pod has none and leaves the pod's alone.
async fn clean_up(bundle: &Path, id: &str) -> Result<()> {
    let id = SandboxId::new(id)?;
    let server = read_small(&bundle.join(PID_FILE)).and_then(|text| text.trim().parse().ok());
    let dir = Path::new(DEFAULT_STATE_ROOT).join(id.as_str());
    let report = cleanup_from_disk(&dir, server).await?;
    if report.found {
        report_to_stderr(&format!("removed sandbox {id}, killed {:?}", report.killed));
    }
    Ok(())
}

/// Kills a server that still runs: containerd comes here only after giving it up.
fn kill_server(bundle: &Path, id: &str) {
    let Some(pid) = read_small(&bundle.join(PID_FILE)).and_then(|text| text.trim().parse().ok())
    else {
        return;
    };
    let Some(pid) = Pid::from_raw(pid) else {
        return;
    };
    // Opened before the look at the process: from here on the number stands for this one.
    let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else {
        return;
    };
    if !is_server(pid, id) {
        return;
    }
    if let Err(error) = pidfd_send_signal(&process, Signal::KILL) {
        report_to_stderr(&format!("cannot kill the shim: {error}"));
    }
    // Until it is gone it creates things and takes connections.
    let mut gone = [PollFd::new(&process, PollFlags::IN)];
    let _ = poll(&mut gone, Some(&SERVER_END));
}

/// True if the process runs this program for the same container, so that a process id
/// that was given to another meanwhile is left alone.
fn is_server(pid: Pid, id: &str) -> bool {
    let dir = format!("/proc/{}", pid.as_raw_pid());
    let Ok(line) = fs::read(format!("{dir}/cmdline")) else {
        return false;
    };
    let mut words = line
        .split(|byte| *byte == 0)
        .skip_while(|word| *word != b"-id");
    let same_id = words.nth(1) == Some(id.as_bytes());
    let name = |link: String| {
        fs::read_link(link)
            .ok()
            .and_then(|path| path.file_name().map(ToOwned::to_owned))
    };
    same_id && name(format!("{dir}/exe")) == name("/proc/self/exe".to_owned())
}

fn unmount_rootfs(bundle: &Path) {
    let rootfs = bundle.join("rootfs");
    // Several layers may be mounted on top of each other; EINVAL says that none is left.
    for _ in 0..16 {
        if rustix::mount::unmount(&rootfs, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW).is_err() {
            return;
        }
    }
}

fn remove_socket(bundle: &Path) {
    let Some(text) = read_small(&bundle.join(ADDRESS_FILE)) else {
        return;
    };
    let Some(path) = address::path_of(&text) else {
        return;
    };
    // The address of a pod's member is the pod's, which may be served still.
    if !address::is_served(path) {
        let _ = fs::remove_file(path);
    }
}

fn read_small(path: &Path) -> Option<String> {
    let bytes = crate::oci::read_bounded(path, 4096).ok()?;
    String::from_utf8(bytes).ok()
}

/// containerd logs what `delete` writes to standard error.
fn report_to_stderr(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}
