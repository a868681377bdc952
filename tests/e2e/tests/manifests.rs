//! Pods of a Kubernetes manifest: the digest that was predicted is the one that is reported.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use redoubt_e2e::Fixture;
use redoubt_e2e::requests::{any_program, shell};
use redoubt_lab::{PodRequest, Scenario, ScenarioOptions};
use serde_json::{Value, json};

const CRI: &str = "io.kubernetes.cri";

/// CPU limit of a pod, the quota that the kubelet makes of it, and the vCPUs of its guest.
const SIZES: [(&str, u32, u32); 3] = [
    ("600m", 60_000, 1),
    ("1600m", 160_000, 2),
    ("3600m", 360_000, 4),
];

#[test]
fn pods_of_1_2_and_4_vcpus_report_the_digest_predicted_from_their_manifest() -> Result<()> {
    let fixture = Fixture::start()?;
    let mut digests = Vec::new();
    for (cpu, quota, vcpus) in SIZES {
        let options = ScenarioOptions {
            register: false,
            ..any_program(&fixture)
        };
        let scenario = fixture.prepare(&options)?;
        let predicted = predict(&fixture, &scenario, cpu)?;
        ensure!(predicted["inputs"]["vcpus"] == vcpus, "{predicted}");
        let before = reported_digests(&fixture)?.len();
        let seen = run_pod(&fixture, &scenario, quota)?;
        ensure!(seen.trim() == vcpus.to_string(), "processors: {seen}");
        // What the broker read in the report of this guest, and of no other.
        let reported = reported_digests(&fixture)?.split_off(before);
        let expected = predicted["launch_digest"].clone();
        ensure!(
            !reported.is_empty() && reported.iter().all(|digest| *digest == expected),
            "predicted {expected}, reported {reported:?}"
        );
        digests.push(expected);
    }
    digests.dedup();
    ensure!(digests.len() == SIZES.len(), "{digests:?}");
    fixture.expect_nothing_left()
}

/// The launch digests of all reports that the broker has seen.
fn reported_digests(fixture: &Fixture) -> Result<Vec<Value>> {
    let mut digests = Vec::new();
    for line in fixture.lab.broker.audit_log().lines() {
        let record: Value = serde_json::from_str(line)?;
        digests.extend(record.get("launch_digest").cloned());
    }
    digests.retain(|digest| !digest.is_null());
    Ok(digests)
}

/// Measures a manifest with the pod and tells the broker.
fn predict(fixture: &Fixture, scenario: &Scenario, cpu: &str) -> Result<Value> {
    let annotations: serde_json::Map<String, Value> = scenario
        .annotations
        .iter()
        .map(|(name, value)| (name.clone(), json!(value)))
        .collect();
    let limits = json!({"limits": {"cpu": cpu, "memory": "512Mi"}});
    let pod = json!({
        "kind": "Pod",
        "metadata": {"name": "web", "annotations": annotations},
        "spec": {
            "runtimeClassName": "kata-qemu-snp",
            "containers": [{"name": "web", "image": scenario.image, "resources": limits}],
        },
    });
    let manifest = scenario.dir.join("pod.yaml");
    fs::write(&manifest, pod.to_string())?;
    let output = Command::new(&fixture.lab.binaries.redoubt)
        .args(["measure", "pod", "--format", "redoubt", "--config"])
        .args([&scenario.configuration, &manifest])
        .output()?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let name = scenario.dir.file_name().context("no name")?;
    let name = name.to_str().context("no text")?;
    fixture
        .lab
        .broker
        .put_reference_values(name, &output.stdout)?;
    let values: Value = serde_json::from_slice(&output.stdout)?;
    Ok(values["values"][0].clone())
}

/// Runs sandbox and container as kubelet and containerd do; the container counts processors.
fn run_pod(fixture: &Fixture, scenario: &Scenario, quota: u32) -> Result<String> {
    let sandbox = [
        ("container-type", "sandbox".to_owned()),
        ("sandbox-cpu-period", "100000".to_owned()),
        ("sandbox-cpu-quota", quota.to_string()),
        ("sandbox-cpu-shares", "1024".to_owned()),
        ("sandbox-memory", (512 << 20).to_string()),
    ];
    let mut pod = fixture.start_pod(scenario, &annotated(PodRequest::default(), &sandbox))?;
    pod.wait_for_stage("container-started", Duration::from_secs(90))
        .with_context(|| fixture.logs())?;
    let member = [
        ("container-type", "container".to_owned()),
        ("sandbox-id", pod.id.clone()),
    ];
    let count = shell("grep -c ^processor /proc/cpuinfo");
    let outcome = fixture
        .start_pod(scenario, &annotated(count, &member))?
        .finish(redoubt_e2e::POD_LIMIT)?;
    ensure!(outcome.status == 0, "{}{}", outcome.stderr, fixture.logs());
    let said = fixture.task(&["kill", "--signal", "SIGTERM", &pod.id])?;
    ensure!(said.success, "kill: {said:?}");
    pod.finish(Duration::from_secs(30))?;
    Ok(outcome.stdout)
}

fn annotated(mut request: PodRequest, annotations: &[(&str, String)]) -> PodRequest {
    for (name, value) in annotations {
        request.options.push("--annotation".to_owned());
        request.options.push(format!("{CRI}.{name}={value}"));
    }
    request
}
