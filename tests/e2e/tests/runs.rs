//! What must work: the encrypted image runs, its streams, signals and statistics are right.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use redoubt_e2e::Fixture;
use redoubt_e2e::requests::{any_program, shell};
use redoubt_lab::{PodRequest, SECRET};

/// The stages of a pod's start in their order.
const STAGES: [&str; 10] = [
    "launch-planned",
    "qemu-started",
    "kernel-verified",
    "agent-up",
    "initdata-verified",
    "evidence-accepted",
    "key-released",
    "layers-verified",
    "container-started",
    "exited",
];

#[test]
fn an_encrypted_image_runs_and_every_stage_is_on_the_trail() -> Result<()> {
    let fixture = Fixture::start()?;
    let outcome = fixture.run(&fixture.working())?;
    ensure!(
        outcome.status == 0,
        "status {}: {}{}",
        outcome.status,
        outcome.stderr,
        fixture.logs()
    );
    ensure!(
        outcome.stdout.contains("Hello, world!"),
        "stdout: {}",
        outcome.stdout
    );
    ensure!(
        outcome.stdout.contains(SECRET),
        "stdout: {}",
        outcome.stdout
    );
    let stages: Vec<&str> = outcome
        .trail
        .iter()
        .map(|line| line.stage.as_str())
        .collect();
    ensure!(stages == STAGES, "trail: {stages:?}");
    let times: Vec<u64> = outcome.trail.iter().map(|line| line.t_ms).collect();
    ensure!(times.is_sorted(), "times of the trail: {times:?}");
    let audit = fixture.lab.broker.audit_log();
    ensure!(!audit.is_empty(), "the broker wrote no audit log");
    fixture.expect_nothing_left()
}

#[test]
fn the_exit_status_of_the_workload_is_the_exit_status_of_ctr() -> Result<()> {
    let fixture = Fixture::start()?;
    let request = PodRequest {
        command: ["/srv/workload", "42"].map(str::to_owned).to_vec(),
        ..PodRequest::default()
    };
    let outcome = fixture.run_request(&fixture.working(), &request)?;
    ensure!(
        outcome.status == 42,
        "status {}: {}",
        outcome.status,
        outcome.stderr
    );
    ensure!(
        outcome.stdout.contains("arguments: 42"),
        "stdout: {}",
        outcome.stdout
    );
    fixture.expect_nothing_left()
}

#[test]
fn a_pod_boots_with_256_mib() -> Result<()> {
    let fixture = Fixture::start()?;
    let outcome = fixture.run(&fixture.working().hypervisor("default_memory", "256"))?;
    ensure!(
        outcome.status == 0,
        "status {}: {}",
        outcome.status,
        outcome.stderr
    );
    fixture.expect_nothing_left()
}

#[test]
fn two_and_four_vcpus_report_the_predicted_digest() -> Result<()> {
    let fixture = Fixture::start()?;
    let mut digests = Vec::new();
    for vcpus in ["2", "4"] {
        let options = fixture.working().hypervisor("default_vcpus", vcpus);
        let scenario = fixture.prepare(&options)?;
        // The broker compares the report with the digest that was predicted for this shape.
        let pod = fixture.start_pod(&scenario, &PodRequest::default())?;
        let outcome = pod.finish(redoubt_e2e::POD_LIMIT)?;
        ensure!(
            outcome.status == 0,
            "{vcpus} vCPUs: {}{}",
            outcome.stderr,
            fixture.logs()
        );
        digests.push(scenario.launch_digest.context("no digest")?);
    }
    ensure!(
        digests.first() != digests.last(),
        "the vCPU count does not change the digest"
    );
    fixture.expect_nothing_left()
}

#[test]
fn large_output_arrives_whole() -> Result<()> {
    let fixture = Fixture::start()?;
    let script = "dd if=/dev/zero bs=1024 count=2048 2>/dev/null; echo end; echo err >&2; exit 7";
    let outcome = fixture.run_request(&any_program(&fixture), &shell(script))?;
    ensure!(
        outcome.status == 7,
        "status {}: {}",
        outcome.status,
        outcome.stderr
    );
    ensure!(
        outcome.stdout.len() == 2048 * 1024 + 4,
        "{} bytes",
        outcome.stdout.len()
    );
    ensure!(outcome.stdout.ends_with("end\n"), "the end is missing");
    ensure!(outcome.stderr == "err\n", "stderr: {}", outcome.stderr);
    fixture.expect_nothing_left()
}

#[test]
fn exec_kill_pause_and_statistics_work_on_a_running_pod() -> Result<()> {
    let fixture = Fixture::start()?;
    let scenario = fixture.prepare(&any_program(&fixture))?;
    let mut pod = fixture.start_pod(&scenario, &shell("echo up; exec sleep 1000"))?;
    pod.wait_for_stage("container-started", Duration::from_secs(60))
        .with_context(|| fixture.logs())?;
    let id = pod.id.clone();
    let task = |arguments: &[&str]| fixture.task(arguments);
    let said = task(&["exec", "--exec-id", "one", &id, "/bin/echo", "from exec"])?;
    ensure!(
        said.success && said.stdout == "from exec\n",
        "exec: {said:?}"
    );
    let failed = task(&["exec", "--exec-id", "two", &id, "/bin/sh", "-c", "exit 3"])?;
    ensure!(failed.status == Some(3), "exec status: {failed:?}");
    let metrics = task(&["metrics", &id])?;
    ensure!(
        metrics.success && metrics.stdout.contains("memory"),
        "metrics: {metrics:?}"
    );
    let pids = task(&["ps", &id])?;
    ensure!(pids.success, "ps: {pids:?}");
    ensure!(task(&["pause", &id])?.success, "pause");
    ensure!(task(&["ls"])?.stdout.contains("PAUSED"), "not paused");
    ensure!(task(&["resume", &id])?.success, "resume");
    ensure!(task(&["kill", "--signal", "SIGKILL", &id])?.success, "kill");
    let outcome = pod.finish(Duration::from_secs(30))?;
    ensure!(
        outcome.status == 137,
        "status {}: {}",
        outcome.status,
        outcome.stderr
    );
    fixture.expect_nothing_left()
}

#[test]
fn standard_input_reaches_the_workload_and_ends() -> Result<()> {
    let fixture = Fixture::start()?;
    let scenario = fixture.prepare(&any_program(&fixture))?;
    let mut pod = fixture.start_pod(&scenario, &shell("exec sleep 1000"))?;
    pod.wait_for_stage("container-started", Duration::from_secs(60))
        .with_context(|| fixture.logs())?;
    let input = "line of input\n".repeat(4000);
    let arguments = ["exec", "--exec-id", "in", &pod.id, "/bin/sha256sum"];
    let said = fixture.task_with_input(&arguments, input.as_bytes())?;
    let expected = redoubt_e2e::sha256_hex(input.as_bytes());
    ensure!(
        said.stdout.starts_with(&expected),
        "stdin was changed: {said:?}"
    );
    ensure!(
        fixture
            .task(&["kill", "--signal", "SIGKILL", &pod.id])?
            .success,
        "kill"
    );
    pod.finish(Duration::from_secs(30))?;
    fixture.expect_nothing_left()
}

#[test]
fn a_terminal_has_the_size_that_was_asked_for() -> Result<()> {
    let fixture = Fixture::start()?;
    let mut request = shell("test -t 0 && test -t 1 && echo terminal");
    request.options.push("--tty".to_owned());
    let scenario = fixture.prepare(&any_program(&fixture))?;
    let outcome = fixture.run_on_terminal(&scenario, &request)?;
    ensure!(outcome.contains("terminal"), "no terminal: {outcome}");
    fixture.expect_nothing_left()
}
