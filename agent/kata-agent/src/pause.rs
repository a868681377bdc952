//! The process of a pod's sandbox container: it holds the namespaces and waits.
//!
//! It is the agent's own binary under another name, so that not a byte of it
//! comes from the host.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use redoubt_agent_api::oci;

use crate::error::{AgentError, Result};

/// The program's path in its own root file system, and its name.
const PROGRAM: &str = "/pause";
/// Folders in its root file system; only there something may be mounted.
const FOLDERS: [&str; 3] = ["proc", "sys", "dev"];
/// The user that owns nothing.
const NOBODY: u32 = 65_534;

/// Waits for the signal to end, when this process was started as the pause program.
pub(crate) fn run_if_asked() {
    if std::env::args_os()
        .next()
        .is_none_or(|name| name != PROGRAM)
    {
        return;
    }
    wait_for_the_end();
    std::process::exit(0);
}

/// Waits for the signal to end; takes the exit status of every orphan until then.
fn wait_for_the_end() {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGCHLD] {
        signals.add(signal);
    }
    let _ = signals.thread_block();
    while let Ok(Signal::SIGCHLD) = signals.wait() {
        // One signal may stand for many children.
        while let Ok(ended) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            if ended == WaitStatus::StillAlive {
                break;
            }
        }
    }
}

/// Makes the root file system: this binary and nothing else.
pub(crate) fn root_file_system(bundle: &Path) -> Result<PathBuf> {
    let root = bundle.join("rootfs");
    for folder in [""].iter().chain(&FOLDERS) {
        let path = root.join(folder);
        fs::create_dir_all(&path).map_err(AgentError::file("create", &path))?;
    }
    let program = root.join("pause");
    File::create(&program).map_err(AgentError::file("create", &program))?;
    mount(
        Some("/proc/self/exe"),
        &program,
        None::<&str>,
        MsFlags::MS_BIND,
        None::<&str>,
    )
    .map_err(|errno| AgentError::file("mount", &program)(errno.into()))?;
    Ok(root)
}

/// Undoes [`root_file_system`].
pub(crate) fn release(bundle: &Path) {
    let root = bundle.join("rootfs");
    let flags = MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW;
    let _ = umount2(&root.join("pause"), flags);
    let _ = fs::remove_dir_all(root);
}

/// The specification with this program in the place of whatever the host named.
///
/// No bind mount stays: it could put a file of the host in the program's place.
pub(crate) fn with_own_process(spec: &oci::Spec) -> oci::Spec {
    let mut spec = spec.clone();
    let mut process = oci::Process::new();
    process.Args = vec![PROGRAM.to_owned()];
    "/".clone_into(&mut process.Cwd);
    process.NoNewPrivileges = true;
    let mut user = oci::User::new();
    (user.UID, user.GID) = (NOBODY, NOBODY);
    process.User = Some(user).into();
    spec.Process = Some(process).into();
    spec.Root.mut_or_insert_default().Readonly = true;
    spec.Mounts.retain(|mount| {
        FOLDERS.iter().any(|folder| {
            mount
                .destination
                .trim_start_matches('/')
                .starts_with(folder)
        }) && mount.type_ != "bind"
            && !mount.destination.contains("..")
            && !mount
                .options
                .iter()
                .any(|option| option == "bind" || option == "rbind")
    });
    spec
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_the_host_runs_in_the_sandbox_container() {
        let mut spec = oci::Spec::new();
        let mut process = oci::Process::new();
        process.Args = vec!["/bin/evil".to_owned()];
        process.Env = vec!["LD_PRELOAD=/x".to_owned()];
        spec.Process = Some(process).into();
        for (destination, kind, option) in [
            ("/proc", "proc", "nosuid"),
            ("/pause", "bind", "rbind"),
            ("/dev/shm", "tmpfs", "rbind"),
            ("/dev/../pause", "tmpfs", "rw"),
            ("/", "tmpfs", "rw"),
        ] {
            spec.Mounts.push(oci::Mount {
                destination: destination.to_owned(),
                type_: kind.to_owned(),
                options: vec![option.to_owned()],
                ..oci::Mount::default()
            });
        }
        let spec = with_own_process(&spec);
        assert_eq!(spec.Process.Args, [PROGRAM]);
        assert!(spec.Process.Env.is_empty());
        assert_eq!(spec.Process.User.UID, NOBODY);
        let mounts: Vec<_> = spec.Mounts.iter().map(|mount| &mount.destination).collect();
        assert_eq!(mounts, ["/proc"]);
    }
}
