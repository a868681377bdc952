//! What must fail: with a stable code in one line, in time, leaving nothing behind.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use redoubt_e2e::{Fixture, tampering_qemu};
use redoubt_lab::{InitdataChoice, PodRequest};

/// The firmware refused kernel, initrd or command line.
const FIRMWARE_REFUSED: &str = "RDT-VMM-016";
const FILE_MISSING: &str = "RDT-PLAN-002";

/// Runs a pod whose QEMU gets another argument than the one that was measured.
fn expect_tampering_is_refused(edit: &str, code: &str) -> Result<()> {
    let fixture = Fixture::start()?;
    let qemu = tampering_qemu(fixture.lab.dir(), &fixture.lab.binaries.qemu, edit)?;
    let options = fixture.working().hypervisor("path", &quoted(&qemu));
    fixture.expect_failure(&options, code).map(drop)
}

fn quoted(path: &Path) -> String {
    format!("\"{}\"", path.display())
}

#[test]
fn another_command_line_than_measured_stops_in_the_firmware() -> Result<()> {
    expect_tampering_is_refused(
        r#"[ "${args[$i]}" = -append ] && args[$((i+1))]="${args[$((i+1))]} agent.debug_console""#,
        FIRMWARE_REFUSED,
    )
}

#[test]
fn another_kernel_than_measured_stops_in_the_firmware() -> Result<()> {
    expect_tampering_is_refused(
        r#"if [ "${args[$i]}" = -kernel ]; then cp "${args[$((i+1))]}" "$0.kernel"; printf x >> "$0.kernel"; args[$((i+1))]="$0.kernel"; fi"#,
        FIRMWARE_REFUSED,
    )
}

#[test]
fn another_initrd_than_measured_stops_in_the_firmware() -> Result<()> {
    expect_tampering_is_refused(
        r#"if [ "${args[$i]}" = -initrd ]; then cp "${args[$((i+1))]}" "$0.initrd"; printf x >> "$0.initrd"; args[$((i+1))]="$0.initrd"; fi"#,
        FIRMWARE_REFUSED,
    )
}

#[test]
fn swapped_initdata_stops_the_agent() -> Result<()> {
    // One bit of the compressed document differs from the one HOST_DATA stands for.
    let edit = r#"case "${args[$i]}" in *initdata.img*) f="${args[$i]#*file=}"; f="${f#*filename=}"; f="${f%%,*}"; printf '\xff' | dd of="$f" bs=1 seek=40 conv=notrunc status=none;; esac"#;
    expect_tampering_is_refused(edit, "RDT-VMM-020")
}

#[test]
fn a_launch_digest_unknown_to_the_broker_gets_no_key() -> Result<()> {
    let fixture = Fixture::start()?;
    let mut options = fixture.working();
    options.register = false;
    fixture.expect_failure(&options, "RDT-KBC-006")?;
    let audit = fixture.lab.broker.audit_log();
    ensure!(
        audit.contains("launch_digest"),
        "the audit log does not name the claim: {audit}"
    );
    Ok(())
}

#[test]
fn an_unreachable_broker_is_named() -> Result<()> {
    let fixture = Fixture::start()?;
    let mut options = fixture.working();
    options.broker_url = Some("https://10.88.0.1:9".to_owned());
    let outcome = fixture.expect_failure(&options, "RDT-KBC-004")?;
    ensure!(
        outcome.stderr.contains("10.88.0.1:9"),
        "the line does not name the broker"
    );
    Ok(())
}

#[test]
fn a_key_that_the_broker_does_not_have_is_named() -> Result<()> {
    let fixture = Fixture::start()?;
    fs::remove_file(&fixture.key_file)?;
    let outcome = fixture.expect_failure(&fixture.working(), "RDT-KBC-007")?;
    ensure!(
        outcome.stderr.contains("default/key/sample"),
        "the line does not name the key"
    );
    Ok(())
}

#[test]
fn an_image_that_the_policy_does_not_name_is_refused() -> Result<()> {
    let fixture = Fixture::start()?;
    let mut options = fixture.working();
    options.allowed_digests = Some(vec![format!("sha256:{}", "0".repeat(64))]);
    fixture.expect_failure(&options, "RDT-AGT-009").map(drop)
}

#[test]
fn one_flipped_byte_in_a_layer_is_refused() -> Result<()> {
    let fixture = Fixture::start()?;
    // containerd may hold the blob already; the guest fetches its own.
    fixture
        .lab
        .containerd
        .register_image(&fixture.lab.servers, &fixture.image)?;
    let blob = fixture.lab.registry.largest_blob()?;
    let mut bytes = fs::read(&blob)?;
    let middle = bytes.len() / 2;
    *bytes.get_mut(middle).context("an empty layer")? ^= 1;
    fs::write(&blob, bytes)?;
    let outcome = fixture.expect_failure(&fixture.working(), "RDT-IMG-014")?;
    ensure!(
        outcome.stderr.contains("layer"),
        "the line does not name the layer"
    );
    Ok(())
}

#[test]
fn exec_that_the_policy_forbids_is_refused_and_the_pod_lives_on() -> Result<()> {
    let fixture = Fixture::start()?;
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
    let said = fixture.task(&["exec", "--exec-id", "x", &pod.id, "/bin/sh"])?;
    ensure!(!said.success, "exec was allowed");
    ensure!(
        said.stderr.contains("[RDT-POL-001]"),
        "exec: {}",
        said.stderr
    );
    ensure!(
        said.stderr.trim().lines().count() == 1,
        "more than one line: {}",
        said.stderr
    );
    ensure!(
        fixture
            .task(&["kill", "--signal", "SIGKILL", &pod.id])?
            .success,
        "kill"
    );
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
fn a_confidential_guest_without_tee_or_simulation_never_starts() -> Result<()> {
    let fixture = Fixture::start()?;
    let mut options = fixture.working().hypervisor("snp_simulation", "\"\"");
    options.register = false;
    fixture.expect_failure(&options, "RDT-PLAN-010").map(drop)
}

#[test]
fn a_firmware_without_a_hash_section_is_refused_by_name() -> Result<()> {
    let fixture = Fixture::start()?;
    let plain = Path::new("/usr/share/seabios/bios-256k.bin");
    let mut options = fixture.working().hypervisor("firmware", &quoted(plain));
    options.register = false;
    let outcome = fixture.expect_failure(&options, "RDT-PLAN-007")?;
    ensure!(
        outcome.stderr.contains("bios-256k.bin"),
        "the line does not name the firmware"
    );
    Ok(())
}

#[test]
fn a_missing_kernel_initrd_or_qemu_is_named() -> Result<()> {
    let fixture = Fixture::start()?;
    for key in ["kernel", "initrd", "path"] {
        let mut options = fixture.working().hypervisor(key, "\"/nowhere/at-all\"");
        options.register = false;
        let outcome = fixture.expect_failure(&options, FILE_MISSING)?;
        ensure!(
            outcome.stderr.contains("/nowhere/at-all"),
            "{key}: the line does not name it"
        );
        ensure!(
            outcome.stderr.contains(key),
            "the line does not name the key {key}"
        );
    }
    Ok(())
}

#[test]
fn guest_memory_below_what_the_guest_needs_is_refused() -> Result<()> {
    let fixture = Fixture::start()?;
    let mut options = fixture.working().hypervisor("default_memory", "64");
    options.register = false;
    fixture.expect_failure(&options, "RDT-PLAN-020").map(drop)
}

#[test]
fn a_guest_without_initdata_denies_everything() -> Result<()> {
    let fixture = Fixture::start()?;
    let mut options = fixture.working();
    options.initdata = InitdataChoice::None;
    let outcome = fixture.expect_failure(&options, "RDT-POL-001")?;
    ensure!(
        outcome.stderr.contains("no initdata"),
        "the line does not say what is missing"
    );
    Ok(())
}
