//! Undoing a sandbox whose shim is gone, from its state directory alone.

use std::path::Path;
use std::time::Duration;

use crate::cgroup;
use crate::error::SandboxError;
use crate::network;
use crate::process::processes_using;
use crate::state::{self, State, read_state};

/// How long a killed shim may take to be gone.
const OWNER_TIMEOUT: Duration = Duration::from_secs(1);

/// What a cleanup found to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CleanupReport {
    /// There was a state directory.
    pub found: bool,
    /// Processes that still ran and were killed.
    pub killed: Vec<i32>,
}

/// Kills what still runs of a sandbox, removes its taps and filters and its state directory.
///
/// Needs nothing but the directory: the shim may have been killed at any moment of the
/// sandbox's life. Finding nothing is a success.
///
/// `owner` is the process id of the shim whose sandbox is given up, if it is known. A sandbox
/// of the same id that another living shim runs, such as one of another containerd
/// namespace, is left alone and not reported.
pub async fn cleanup_from_disk(
    state_dir: &Path,
    owner: Option<u32>,
) -> Result<CleanupReport, SandboxError> {
    if !state_dir.exists() {
        return Ok(CleanupReport::default());
    }
    let mut report = CleanupReport {
        found: true,
        killed: Vec::new(),
    };
    // Without a state file the shim died between making the directory and writing down
    // what it was going to create: it had created nothing.
    if let Some(state) = read_state(state_dir)? {
        let dir = state_dir.to_owned();
        let processes = state.clone();
        let killed = tokio::task::spawn_blocking(move || {
            if belongs_to_another(&processes, owner) {
                return Ok(None);
            }
            kill_all(&processes, &dir).map(Some)
        })
        .await
        .map_err(|error| SandboxError::State {
            action: "kill the processes of",
            path: state_dir.to_owned(),
            source: error.into(),
        })??;
        let Some(killed) = killed else {
            return Ok(CleanupReport::default());
        };
        report.killed = killed;
        if let Some(netns) = &state.netns {
            network::disconnect(netns, &state.taps).await?;
        }
        cgroup::remove(&state.cgroups).await?;
    }
    state::remove_dir(state_dir)?;
    Ok(report)
}

/// True when a shim runs the sandbox that is not the one given up.
fn belongs_to_another(state: &State, given_up: Option<u32>) -> bool {
    let Some(owner) = state.owner.filter(|_| state.boot_id == state::boot_id()) else {
        return false;
    };
    // A shim that is being killed may create one thing more before it is gone.
    owner.wait_unless_own(OWNER_TIMEOUT);
    let given_up = given_up.and_then(|pid| i32::try_from(pid).ok());
    given_up != Some(owner.pid) && owner.is_alive()
}

fn kill_all(state: &State, dir: &Path) -> Result<Vec<i32>, SandboxError> {
    if state.boot_id != state::boot_id() {
        // The machine was started anew: nothing of that time runs.
        return Ok(Vec::new());
    }
    let mut killed = Vec::new();
    for record in state.processes.iter().rev() {
        let unrecorded = processes_using(&record.program, dir);
        for process in record.process.into_iter().chain(unrecorded) {
            if process.kill()? && !killed.contains(&process.pid) {
                killed.push(process.pid);
            }
        }
    }
    Ok(killed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::Cgroups;
    use crate::id::SandboxId;
    use crate::process::{ChildProcess, ChildSpec, ProcessRef};
    use crate::state::{Role, StateDir};
    use crate::sys::ChildNetwork;

    async fn sleeper() -> ChildProcess {
        ChildProcess::spawn(ChildSpec {
            program: "/bin/sleep".into(),
            args: vec!["30".into()],
            network: ChildNetwork::Inherited,
            fds: Vec::new(),
            cgroups: Cgroups::default(),
        })
        .await
        .unwrap()
    }

    /// A sandbox that `owner` runs, with one process.
    fn sandbox(root: &Path, owner: ProcessRef, process: ProcessRef) -> StateDir {
        let mut dir = StateDir::create(root, &SandboxId::new("pod-1").unwrap()).unwrap();
        dir.update(|state| state.owner = Some(owner)).unwrap();
        dir.expect_process(Role::Qemu, Path::new("/bin/sleep"))
            .unwrap();
        dir.process_started(Role::Qemu, process).unwrap();
        dir
    }

    #[tokio::test]
    async fn a_sandbox_that_another_shim_runs_is_left_alone() {
        let root = tempfile::tempdir().unwrap();
        let (owner, machine) = (sleeper().await, sleeper().await);
        let dir = sandbox(
            &root.path().join("sbs"),
            owner.identity(),
            machine.identity(),
        );
        for claimant in [None, Some(std::process::id())] {
            let report = cleanup_from_disk(dir.path(), claimant).await.unwrap();
            assert_eq!(report, CleanupReport::default());
            assert!(machine.identity().is_alive() && dir.path().is_dir());
        }
    }

    #[tokio::test]
    async fn a_sandbox_is_cleaned_up_when_its_shim_is_dead_or_given_up() {
        let root = tempfile::tempdir().unwrap();
        for give_up in [false, true] {
            let (owner, machine) = (sleeper().await, sleeper().await);
            let dir = sandbox(
                &root.path().join("sbs"),
                owner.identity(),
                machine.identity(),
            );
            let claimant = u32::try_from(owner.identity().pid).ok().filter(|_| give_up);
            if !give_up {
                owner.kill().await.unwrap();
            }
            let report = cleanup_from_disk(dir.path(), claimant).await.unwrap();
            assert_eq!(report.killed, [machine.identity().pid]);
            assert!(!dir.path().exists());
        }
    }
}
