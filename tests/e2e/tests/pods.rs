//! Pods of several containers, as a container runtime interface makes them.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use redoubt_e2e::Fixture;
use redoubt_e2e::requests::{any_program, shell};
use redoubt_lab::PodRequest;

const CONTAINER_TYPE: &str = "io.kubernetes.cri.container-type";
const SANDBOX_ID: &str = "io.kubernetes.cri.sandbox-id";

fn annotated(mut request: PodRequest, annotations: &[(&str, &str)]) -> PodRequest {
    for (key, value) in annotations {
        request.options.push("--annotation".to_owned());
        request.options.push(format!("{key}={value}"));
    }
    request
}

#[test]
fn containers_of_one_pod_share_a_guest_its_host_name_and_its_queues() -> Result<()> {
    let fixture = Fixture::start()?;
    let scenario = fixture.prepare(&any_program(&fixture))?;
    let sandbox = annotated(PodRequest::default(), &[(CONTAINER_TYPE, "sandbox")]);
    let mut pod = fixture.start_pod(&scenario, &sandbox)?;
    pod.wait_for_stage("container-started", Duration::from_secs(60))
        .with_context(|| fixture.logs())?;
    let member = [(CONTAINER_TYPE, "container"), (SANDBOX_ID, &pod.id)];
    let script = "for kind in ipc uts net; do readlink /proc/self/ns/$kind; done; echo $$";
    let mut seen = Vec::new();
    for _ in 0..2 {
        let request = annotated(shell(script), &member);
        let outcome = fixture
            .start_pod(&scenario, &request)?
            .finish(redoubt_e2e::POD_LIMIT)?;
        ensure!(outcome.status == 0, "{}{}", outcome.stderr, fixture.logs());
        seen.push(outcome.stdout);
    }
    ensure!(seen.first() == seen.last(), "{seen:?}");
    // Its processes are its own: the shell is the first of them.
    ensure!(
        seen.iter()
            .all(|said| said.lines().count() == 4 && said.ends_with("\n1\n")),
        "{seen:?}"
    );
    let said = fixture.task(&["kill", "--signal", "SIGTERM", &pod.id])?;
    ensure!(said.success, "kill: {said:?}");
    let outcome = pod.finish(Duration::from_secs(30))?;
    ensure!(
        outcome.status == 0,
        "status {}: {}{}",
        outcome.status,
        outcome.stderr,
        fixture.logs()
    );
    fixture.expect_nothing_left()
}
