//! The shim under each release of containerd that Debian ships.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use redoubt_e2e::Fixture;
use redoubt_e2e::requests::{any_program, shell};

/// Debian 12, Debian 13 and its next release.
const RELEASES: usize = 3;

#[test]
fn every_release_of_containerd_runs_pods_and_ends_them() -> Result<()> {
    let description = redoubt_e2e::description()?;
    ensure!(
        description.containerds.len() == RELEASES,
        "cargo xtask setup fetches {RELEASES} releases of containerd: {:?}",
        description.containerds
    );
    for folder in &description.containerds {
        let mut description = description.clone();
        description.binaries.containerd_dir = Some(folder.clone());
        let fixture = Fixture::start_from(description)?;
        a_pod_runs_takes_an_exec_and_is_killed(&fixture)
            .map_err(|error| error.context(format!("{}", folder.display())))?;
    }
    Ok(())
}

fn a_pod_runs_takes_an_exec_and_is_killed(fixture: &Fixture) -> Result<()> {
    let scenario = fixture.prepare(&any_program(fixture))?;
    let mut pod = fixture.start_pod(&scenario, &shell("echo up; exec sleep 1000"))?;
    pod.wait_for_stage("container-started", Duration::from_secs(60))
        .with_context(|| fixture.logs())?;
    let arguments = [
        "exec",
        "--exec-id",
        "one",
        &pod.id,
        "/bin/echo",
        "from exec",
    ];
    let said = fixture.task(&arguments)?;
    ensure!(said.stdout == "from exec\n", "exec: {said:?}");
    let said = fixture.task(&["kill", "--signal", "SIGKILL", &pod.id])?;
    ensure!(said.success, "kill: {said:?}");
    let outcome = pod.finish(Duration::from_secs(30))?;
    ensure!(
        outcome.status == 137,
        "{}{}",
        outcome.stderr,
        fixture.logs()
    );
    ensure!(outcome.stdout == "up\n", "stdout: {}", outcome.stdout);
    fixture.expect_nothing_left()
}
