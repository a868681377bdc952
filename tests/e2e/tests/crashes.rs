//! What happens when a part is killed: the caller hears of it and everything is cleaned up.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use redoubt_e2e::{Fixture, kill_process_of};
use redoubt_lab::{PodRequest, RunningPod};

fn sleeping_pod(fixture: &Fixture) -> Result<RunningPod> {
    let mut options = fixture.working();
    options.policy = options.policy.replace(
        "input.OCI.Process.Args[0] == \"/srv/workload\"",
        "count(input.OCI.Process.Args) > 0",
    );
    let scenario = fixture.prepare(&options)?;
    let request = PodRequest {
        command: ["/bin/sleep", "1000"].map(str::to_owned).to_vec(),
        ..PodRequest::default()
    };
    let mut pod = fixture.start_pod(&scenario, &request)?;
    pod.wait_for_stage("container-started", Duration::from_secs(60))
        .with_context(|| fixture.logs())?;
    Ok(pod)
}

#[test]
fn a_killed_qemu_ends_the_task_and_leaves_nothing() -> Result<()> {
    let fixture = Fixture::start()?;
    let pod = sleeping_pod(&fixture)?;
    kill_process_of("qemu-system-x86_64", &format!("sandbox-{}", pod.id))?;
    let outcome = pod.finish(Duration::from_secs(30))?;
    ensure!(
        outcome.status != 0,
        "the task ended as if nothing had happened"
    );
    fixture.expect_nothing_left()
}

#[test]
fn a_killed_shim_is_cleaned_up_by_delete() -> Result<()> {
    let fixture = Fixture::start()?;
    let pod = sleeping_pod(&fixture)?;
    kill_process_of("containerd-shim-kata-v2", &pod.id)?;
    // containerd notices the closed connection and calls the shim's `delete`.
    let outcome = pod.finish(Duration::from_secs(30))?;
    ensure!(
        outcome.status != 0,
        "the task ended as if nothing had happened"
    );
    fixture.expect_nothing_left()
}
