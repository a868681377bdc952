//! The process of a pod's sandbox container: it holds the namespaces and waits.
//!
//! It is the agent's own binary under another name, so that not a byte of it
//! comes from the host.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{SigSet, Signal};
use redoubt_agent_api::oci;

use crate::error::{AgentError, Result};

/// The image reference by which the shim asks for the pause container.
pub(crate) const REFERENCE: &str = "pause";
/// The program's path in its own root file system, and its name.
const PROGRAM: &str = "/pause";

/// Waits for the signal to end, when this process was started as the pause program.
pub(crate) fn run_if_asked() {
    if std::env::args_os()
        .next()
        .is_none_or(|name| name != PROGRAM)
    {
        return;
    }
    let mut end = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        end.add(signal);
    }
    let _ = end.thread_block();
    let _ = end.wait();
    std::process::exit(0);
}

/// Makes the root file system: this binary and nothing else.
pub(crate) fn root_file_system(bundle: &Path) -> Result<PathBuf> {
    let root = bundle.join("rootfs");
    for folder in ["", "proc", "sys", "dev", "etc"] {
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
    let _ = umount2(&bundle.join("rootfs/pause"), MntFlags::MNT_DETACH);
}

/// The specification with this program in the place of whatever the host named.
pub(crate) fn with_own_process(spec: &oci::Spec) -> oci::Spec {
    let mut spec = spec.clone();
    let mut process = oci::Process::new();
    process.Args = vec![PROGRAM.to_owned()];
    process.Cwd = "/".to_owned();
    process.NoNewPrivileges = true;
    process.User = Some(oci::User::new()).into();
    spec.Process = Some(process).into();
    spec.Root.mut_or_insert_default().Readonly = true;
    spec
}
