//! Undoing a sandbox whose shim is gone, from its state directory alone.

use std::path::Path;
use std::time::Duration;

use crate::error::SandboxError;
use crate::network;
use crate::process::processes_using;
use crate::state::{self, State, read_state};

/// How long a killed shim may take to be gone. One that lives is cleaned up after all the same:
/// whoever asks for the cleanup has given it up.
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
pub async fn cleanup_from_disk(state_dir: &Path) -> Result<CleanupReport, SandboxError> {
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
        report.killed = tokio::task::spawn_blocking(move || kill_all(&processes, &dir))
            .await
            .map_err(|error| SandboxError::State {
                action: "kill the processes of",
                path: state_dir.to_owned(),
                source: error.into(),
            })??;
        if let Some(netns) = &state.netns {
            network::disconnect(netns, &state.taps).await?;
        }
    }
    state::remove_dir(state_dir)?;
    Ok(report)
}

fn kill_all(state: &State, dir: &Path) -> Result<Vec<i32>, SandboxError> {
    if state.boot_id != state::boot_id() {
        // The machine was started anew: nothing of that time runs.
        return Ok(Vec::new());
    }
    if let Some(owner) = state.owner {
        // A shim that is being killed may create one thing more before it is gone.
        owner.wait_unless_own(OWNER_TIMEOUT);
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
