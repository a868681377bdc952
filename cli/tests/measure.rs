//! `redoubt measure` with other monitors, generations and forms of output.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use insta::assert_snapshot;
use serde_json::Value;
use tempfile::TempDir;

const TESTDATA: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../measured-boot/launch-digest/testdata"
);
const AMDSEV: &str = "ovmf_AmdSev_suffix.bin";

fn testdata(name: &str) -> PathBuf {
    Path::new(TESTDATA).join(name)
}

/// `redoubt measure` of the published image and files that stand in for kernel and initrd.
fn measure(tee: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_redoubt"));
    command.args(["measure", tee, "--firmware"]);
    command.arg(testdata(AMDSEV));
    command
}

fn with_kernel(mut command: Command) -> Command {
    command.args(["--kernel-format", "any", "--kernel"]);
    command.arg(testdata("k.bin"));
    command.arg("--initrd").arg(testdata("i.bin"));
    command
}

fn succeeds(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout).unwrap()
}

fn fails(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8(output.stderr).unwrap();
    text.replace(TESTDATA, "DATA")
}

fn vectors() -> Vec<Value> {
    let text = fs::read(testdata("sev-snp-measure-vectors.json")).unwrap();
    let vectors: Value = serde_json::from_slice(&text).unwrap();
    vectors["vectors"].as_array().unwrap().clone()
}

/// The arguments of a row, as `sev-snp-measure` and this command both need them.
fn command_of(row: &Value, empty: &Path) -> Command {
    let tee = match row["mode"].as_str().unwrap() {
        "seves" => "sev-es",
        other => other,
    };
    let mut command = Command::new(env!("CARGO_BIN_EXE_redoubt"));
    command.args(["measure", tee, "--bare", "--firmware"]);
    command.arg(testdata(row["ovmf"].as_str().unwrap()));
    let file = |name: &Value| match name.as_str().unwrap() {
        "null" => empty.to_owned(),
        name => testdata(name),
    };
    if !row["kernel"].is_null() {
        command.args(["--kernel-format", "any", "--kernel"]);
        command.arg(file(&row["kernel"]));
    }
    if !row["initrd"].is_null() {
        command.arg("--initrd").arg(file(&row["initrd"]));
    }
    if let Some(cmdline) = row["cmdline"].as_str() {
        command.args(["--append", cmdline]);
    }
    if tee != "sev" {
        command.args(["--vcpus", &row["vcpus"].to_string()]);
        if let Some(model) = row["vcpu_type"].as_str() {
            command.args(["--cpu-model", model]);
        }
    }
    if tee == "snp" {
        let vmm = row["vmm"].as_str().unwrap().to_lowercase();
        command.args(["--guest-features", &row["guest_features"].to_string()]);
        command.args(["--vmm", &vmm]);
    }
    command
}

#[test]
fn every_published_row_comes_out_of_the_command() {
    let dir = TempDir::new().unwrap();
    let empty = dir.path().join("empty");
    fs::write(&empty, b"").unwrap();
    let mut checked = 0;
    for row in vectors().iter().filter(|row| row["mode"] != "snp:svsm") {
        let mut command = command_of(row, &empty);
        match row["expected_hex"].as_str() {
            Some(expected) => assert_eq!(succeeds(&mut command).trim(), expected, "{row}"),
            None => assert!(fails(&mut command).contains("cannot be measured"), "{row}"),
        }
        checked += 1;
    }
    assert_eq!(checked, 54);
}

#[test]
fn a_service_module_is_measured_below_its_firmware() {
    let dir = TempDir::new().unwrap();
    let unpacked = |name: &str| {
        let mut bytes = Vec::new();
        let packed = fs::File::open(testdata(&format!("{name}.gz"))).unwrap();
        flate2::read::GzDecoder::new(packed)
            .read_to_end(&mut bytes)
            .unwrap();
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let (firmware, module) = (unpacked("svsm_ovmf.fd"), unpacked("svsm.bin"));
    let vars = dir.path().join("vars.fd");
    fs::write(&vars, vec![0; 540_672]).unwrap();
    let svsm = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_redoubt"));
        command.args(["measure", "snp", "--bare", "--firmware"]);
        command.arg(&firmware).arg("--svsm").arg(&module);
        command
    };
    let by_file = succeeds(
        svsm()
            .args(["--range", "vcpus=1..8", "--vars-file"])
            .arg(&vars),
    );
    let lines: Vec<_> = by_file.lines().collect();
    for row in vectors().iter().filter(|row| row["mode"] == "snp:svsm") {
        let vcpus = row["vcpus"].as_u64().unwrap();
        let digest = row["expected_hex"].as_str().unwrap();
        assert_eq!(
            lines.get(usize::try_from(vcpus).unwrap() - 1),
            Some(&digest)
        );
        let by_size =
            succeeds(svsm().args(["--vars-size", "540672", "--vcpus", &vcpus.to_string()]));
        assert_eq!(by_size.trim(), digest);
    }
    let text = fails(svsm().args(["--vars-size", "0xfffff000"]));
    assert!(text.starts_with("[RDT-DIG-014]"), "{text}");
}

#[test]
fn a_range_is_all_its_shapes() {
    for tee in ["snp", "sev-es"] {
        let range = succeeds(with_kernel(measure(tee)).args(["--bare", "--range", "vcpus=1..64"]));
        let digests: Vec<_> = range.lines().collect();
        assert_eq!(digests.len(), 64);
        for vcpus in [1, 2, 17, 64] {
            let args = ["--bare", "--vcpus", &vcpus.to_string()];
            let one = succeeds(with_kernel(measure(tee)).args(args));
            assert_eq!(one.trim(), digests[vcpus - 1], "{tee} {vcpus}");
        }
    }
}

#[test]
fn programs_get_the_hash_of_every_input() {
    let args = ["--json", "--append", "quiet", "--guest-policy", "0x30000"];
    let json = succeeds(with_kernel(measure("snp")).args(args));
    let rows: Value = serde_json::from_str(&json).unwrap();
    assert_snapshot!(serde_json::to_string_pretty(&rows[0]["inputs"]).unwrap(), @r#"
    {
      "cmdline": "quiet",
      "cmdline_sha256": "c801d8e83dec6220b30fe179a8aabec923c8977255530ecc7dc23b95a6959bbc",
      "cpu_model": "EPYC-v4",
      "firmware_sha256": "8f765dfabc127fc0a938a0744a3103ec15864d7d794eb4c398aa976b6d6ab16c",
      "guest_features": "0x1",
      "guest_policy": "0x30000",
      "initrd_sha256": "aa07b53c374496b2b155cced6c6bc8871255213f4ba61ab15f6de890d6d3ced4",
      "kernel_sha256": "9ff366e31289f4e0311a5ea45aa2dd5d1fb8697c3a22b70c076205726fc52a7e",
      "vcpus": 1,
      "vmm": "qemu"
    }
    "#);
}

#[test]
fn trustee_imports_the_reference_values() {
    let args = ["--format", "rvps", "--range", "vcpus=1..2"];
    let json = succeeds(with_kernel(measure("snp")).args(args));
    let message: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(message["version"], "0.1.0");
    assert_eq!(message["type"], "sample");
    let payload = STANDARD
        .decode(message["payload"].as_str().unwrap())
        .unwrap();
    let payload: Value = serde_json::from_slice(&payload).unwrap();
    let bare = succeeds(with_kernel(measure("snp")).args(["--bare", "--vcpus", "1..2"]));
    let digests: Vec<_> = bare.lines().collect();
    assert_eq!(
        payload,
        serde_json::json!({ "snp_launch_measurement": digests })
    );
}

#[test]
fn a_generation_that_reports_nothing_has_no_reference_values() {
    let refused = |format| fails(measure("sev").args(["--format", format]));
    assert_snapshot!(refused("rvps"), @"[RDT-CLI-012] a sev guest reports nothing, so that there are no reference values for it");
    assert_eq!(refused("redoubt"), refused("rvps"));
}

#[test]
fn a_command_line_may_come_from_a_file() {
    let dir = TempDir::new().unwrap();
    let file = |bytes: &[u8]| {
        let path = dir.path().join("cmdline");
        fs::write(&path, bytes).unwrap();
        let mut command = with_kernel(measure("snp"));
        command.arg("--bare").arg("--append-file").arg(path);
        command
    };
    let refused =
        |bytes: &[u8]| fails(&mut file(bytes)).replace(&dir.path().display().to_string(), "DIR");
    let given = succeeds(with_kernel(measure("snp")).args(["--bare", "--append", "quiet"]));
    assert_eq!(succeeds(&mut file(b"quiet\n")), given);
    assert_eq!(succeeds(&mut file(b"quiet")), given);
    assert_snapshot!(refused(b"quiet\0x"), @r#"[RDT-DIG-017] file "DIR/cmdline" cannot be used: kernel command line has a NUL at offset 5"#);
    assert_snapshot!(refused(&[b'x'; 2049]), @r#"[RDT-DIG-018] file "DIR/cmdline" cannot be used: kernel command line of 2049 bytes is longer than the 2047 that the kernel keeps"#);
    assert_snapshot!(refused(&[0xff]), @r#"[RDT-CLI-004] file "DIR/cmdline" is not text"#);
    let long = "x".repeat(2048);
    assert_snapshot!(fails(with_kernel(measure("snp")).args(["--append", &long])), @"[RDT-DIG-018] option --append cannot be used: kernel command line of 2048 bytes is longer than the 2047 that the kernel keeps");
}

#[test]
fn wrong_kernels_and_policies_are_named() {
    let mut kernel = measure("snp");
    kernel.arg("--kernel").arg(testdata("k.bin"));
    assert_snapshot!(fails(&mut kernel), @r#"[RDT-DIG-019] file "DATA/k.bin" cannot be used: not a bzImage: boot flag at offset 0x1fe is wrong"#);
    assert_snapshot!(fails(measure("snp").args(["--guest-policy", "0"])), @"[RDT-DIG-016] guest policy 0x0 is not possible: bit 17 must be set and bits 26 to 63 clear");
    assert_snapshot!(fails(measure("snp").args(["--cpu-model", "host"])), @r#"[RDT-DIG-002] unknown CPU model "host" (hint: its signature is that of the host's CPU: give family, model and stepping)"#);
    let mut module = measure("snp");
    module
        .args(["--vars-size", "0", "--svsm"])
        .arg(testdata(AMDSEV));
    assert_snapshot!(fails(&mut module), @r#"[RDT-DIG-011] file "DATA/ovmf_AmdSev_suffix.bin" cannot be used: image is no secure VM service module: its footer table has no SVSM entry"#);
    assert_snapshot!(fails(measure("sev-es").args(["--vcpus", "10000"])), @"[RDT-DIG-001] 10000 vCPUs are not possible: 1 to 1024 are");
}
