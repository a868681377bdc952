//! `redoubt explain`: two digests in, the difference out.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use insta::assert_snapshot;
use serde_json::Value;
use tempfile::TempDir;

const AMDSEV: &[u8] = include_bytes!("../../firmware/testdata/ovmf_AmdSev_suffix.bin");
const REPORT: &[u8] = include_bytes!("../../attestation/evidence/testdata/trustee-test-report.bin");
const POD: &str = "
kind: Pod
metadata:
  name: web
  annotations: {io.katacontainers.config.hypervisor.kernel_params: PARAMS}
spec:
  runtimeClassName: kata-qemu-snp
  containers: [{name: a, image: i, resources: {limits: {cpu: CPU}}}]
";

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        let mut kernel = vec![0; 0x400];
        kernel[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
        kernel[0x202..0x206].copy_from_slice(b"HdrS");
        folder.write("bzimage", &kernel);
        kernel[0] = 1;
        folder.write("bzimage.old", &kernel);
        folder.write("initrd", b"an initrd");
        folder.write("initrd.old", b"an old initrd");
        folder.write("amdsev.fd", AMDSEV);
        let mut firmware = AMDSEV.to_vec();
        firmware[0] ^= 1;
        folder.write("amdsev.old", &firmware);
        folder.configure("bzimage", "initrd", "amdsev.fd");
        folder.pod("1", "agent.log=info");
        folder
    }

    fn configure(&self, kernel: &str, initrd: &str, firmware: &str) {
        let text = format!(
            "[hypervisor.qemu]\nkernel = \"{}\"\ninitrd = \"{}\"\nfirmware = \"{}\"\n\
             confidential_guest = true\nenable_annotations = [\"kernel_params\", \"cc_init_data\"]\n",
            self.path(kernel).display(),
            self.path(initrd).display(),
            self.path(firmware).display()
        );
        self.write("configuration.toml", text.as_bytes());
    }

    fn pod(&self, cpu: &str, params: &str) {
        let text = POD.replace("CPU", cpu).replace("PARAMS", params);
        self.write("pod.yaml", text.as_bytes());
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).unwrap();
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_redoubt"));
        command
            .current_dir(self.0.path())
            .env_remove("KATA_CONF_FILE");
        command.args(args).output().unwrap()
    }

    /// The digest of the pod as it is now.
    fn digest(&self) -> String {
        let args = [
            "measure",
            "pod",
            "pod.yaml",
            "--config",
            "configuration.toml",
        ];
        let output = self.run(&[&args[..], &["--format", "bare"]].concat());
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn explain(&self, expected: &str, more: &[&str]) -> Output {
        let args = [
            "explain",
            "--expected",
            expected,
            "--config",
            "configuration.toml",
            "pod.yaml",
        ];
        self.run(&[&args[..], more].concat())
    }

    fn explained(&self, expected: &str, more: &[&str]) -> String {
        let output = self.explain(expected, more);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The sentence about the actual digest.
    fn sentence(&self, expected: &str, actual: &str) -> String {
        let text = self.explained(
            expected,
            &[
                "--actual",
                actual,
                "--candidate",
                "bzimage.old",
                "--candidate",
                "initrd.old",
                "--candidate",
                "amdsev.old",
            ],
        );
        let line = text.lines().find(|line| line.contains("The actual digest"));
        line.unwrap().trim().to_owned()
    }
}

#[test]
fn what_was_launched_instead_is_named() {
    let folder = Folder::new();
    let expected = folder.digest();
    let mut sentences = Vec::new();
    let mut launched = |change: &dyn Fn()| {
        change();
        let actual = folder.digest();
        folder.configure("bzimage", "initrd", "amdsev.fd");
        folder.pod("1", "agent.log=info");
        sentences.push(folder.sentence(&expected, &actual));
    };
    launched(&|| folder.pod("4", "agent.log=info"));
    launched(&|| folder.pod("1", "agent.log=debug"));
    launched(&|| folder.pod("1", "agent.log=info agent.debug_console"));
    launched(&|| folder.pod("2500m", "agent.log=debug"));
    launched(&|| folder.configure("bzimage.old", "initrd", "amdsev.fd"));
    launched(&|| folder.configure("bzimage", "initrd.old", "amdsev.fd"));
    launched(&|| folder.configure("bzimage", "initrd", "amdsev.old"));
    launched(&|| {});
    assert_snapshot!(sentences.join("\n"), @r#"
    The actual digest matches with vcpus=5.
    The actual digest matches with `agent.log=debug` instead of `agent.log=info`.
    The actual digest matches with `agent.debug_console` after `agent.log=info`.
    The actual digest matches with `agent.log=debug` instead of `agent.log=info` and with vcpus=3.
    The actual digest matches with kernel bzimage.old.
    The actual digest matches with initrd initrd.old.
    The actual digest matches with firmware amdsev.old.
    The actual digest is the expected one.
    "#);
}

#[test]
fn the_reference_value_may_be_the_wrong_one() {
    let folder = Folder::new();
    let actual = folder.digest();
    folder.pod("3", "agent.log=info");
    let expected = folder.digest();
    folder.pod("1", "agent.log=info");
    assert_snapshot!(folder.explained(&expected, &["--actual", &actual]), @r#"
    expected  0c1e111b6bbd7c936a76d264f451cd7c3b001ad5ecbda677b9fe6bd5de186b796dfdb575dc8530aafd43155c0dc7a3e2
    actual    4cc33107aa306fcc2b80f695ffa1682a1ad416d280a56c454b45f9a154bbe9a01828b15eaf62cbc087f1594cb9613cb3
    inputs    4cc33107aa306fcc2b80f695ffa1682a1ad416d280a56c454b45f9a154bbe9a01828b15eaf62cbc087f1594cb9613cb3

    Launch digest
      The expected digest matches with vcpus=4.
      The actual digest matches the inputs.
    "#);
    let json = folder.explained(&expected, &["--actual", &actual, "--json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["expected_differences"][0], "with vcpus=4");
    assert_eq!(json["actual_differences"].as_array().unwrap().len(), 0);
    assert_eq!(json["same"], false);
}

#[test]
fn what_nothing_explains_lists_what_was_tried() {
    let folder = Folder::new();
    let expected = folder.digest();
    folder.write("report.bin", REPORT);
    assert_snapshot!(folder.explained(&expected, &["--report", "report.bin"]), @r#"
    expected  4cc33107aa306fcc2b80f695ffa1682a1ad416d280a56c454b45f9a154bbe9a01828b15eaf62cbc087f1594cb9613cb3
    actual    a1f3930413247bb38cfc171579ea3c12d5fe4901f0c792f63fd75d98f1ef827c23500644e0e692e6be917f9050d3d38c
    inputs    4cc33107aa306fcc2b80f695ffa1682a1ad416d280a56c454b45f9a154bbe9a01828b15eaf62cbc087f1594cb9613cb3

    Launch digest
      The expected digest matches the inputs.
      The actual digest matches nothing that was tried.

    Tried
      1 to 64 vCPUs
      CPU models EPYC-v4, EPYC-Rome, EPYC-Milan, EPYC-Genoa, EPYC-Turin, and all others of the same signatures
      guest features 0x1, 0x21, 0x5, 0x25, 0x201, 0x221
      827 combinations of firmware, kernel, initrd and command line
      each parameter of the command line removed; each of these added or in place of another: agent.debug_console agent.debug_console_vport=1026 agent.log=debug agent.log=info agent.log=trace agent.log=warn agent.log=error agent.log_vport=1025 quiet debug systemd.show_status=false console=hvc0 console=ttyS0 earlyprintk=ttyS0 redoubt.attester=snp redoubt.attester=simulated-snp redoubt.attester=none
      candidates: none given (--candidate FILE)
      440640 digests in all

    HOST_DATA
      reported  0000000000000000000000000000000000000000000000000000000000000000
      It is that of the inputs.

    Guest policy
      reported  0x3001f
      inputs    0x30000
    "#);
}

#[test]
fn a_report_with_the_right_digest_and_other_initdata_is_told_apart() {
    let folder = Folder::new();
    let expected = folder.digest();
    let mut report = REPORT.to_vec();
    report[0x90..0xc0].copy_from_slice(&hex::decode(&expected).unwrap());
    report[0xc0..0xe0].fill(7);
    // Guest policy with the debug bit.
    report[0x08..0x10].copy_from_slice(&0xb0000_u64.to_le_bytes());
    folder.write("report.bin", &report);
    assert_snapshot!(folder.explained(&expected, &["--report", "report.bin"]), @r#"
    expected  4cc33107aa306fcc2b80f695ffa1682a1ad416d280a56c454b45f9a154bbe9a01828b15eaf62cbc087f1594cb9613cb3
    actual    4cc33107aa306fcc2b80f695ffa1682a1ad416d280a56c454b45f9a154bbe9a01828b15eaf62cbc087f1594cb9613cb3
    inputs    4cc33107aa306fcc2b80f695ffa1682a1ad416d280a56c454b45f9a154bbe9a01828b15eaf62cbc087f1594cb9613cb3

    Launch digest
      The actual digest is the expected one.
      The expected digest matches the inputs.

    HOST_DATA
      reported  0707070707070707070707070707070707070707070707070707070707070707
      inputs    0000000000000000000000000000000000000000000000000000000000000000
      The guest was launched with initdata, the inputs have none.

    Guest policy
      reported  0xb0000
      inputs    0x30000
      It lets the host read and change the guest's memory (debug bit).
    "#);
}

#[test]
fn the_parts_of_a_launch_may_stand_for_the_pod() {
    let folder = Folder::new();
    let args = |vcpus| {
        [
            "--firmware",
            "amdsev.fd",
            "--kernel",
            "bzimage",
            "--initrd",
            "initrd",
            "--append",
            "quiet",
            "--vcpus",
            vcpus,
        ]
    };
    let digest = |vcpus| {
        let output =
            folder.run(&[&["measure", "snp", "--format", "bare"][..], &args(vcpus)].concat());
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let (expected, actual) = (digest("2"), digest("7"));
    let more = ["explain", "--expected", &expected, "--actual", &actual];
    let output = folder.run(&[&more[..], &args("2")].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("The actual digest matches with vcpus=7."),
        "{text}"
    );
}

#[test]
fn what_cannot_be_searched_is_refused() {
    let folder = Folder::new();
    let expected = folder.digest();
    folder.write("short.bin", &REPORT[..1000]);
    let two = fs::read_to_string(folder.path("pod.yaml")).unwrap();
    folder.write("two.yaml", format!("{two}\n---\n{two}").as_bytes());
    let two = [
        "explain",
        "--expected",
        &expected,
        "--actual",
        &expected,
        "--config",
        "configuration.toml",
        "two.yaml",
    ];
    let refusals = [
        folder.explain(&expected, &["--report", "short.bin"]),
        folder.explain(
            &expected,
            &["--actual", &expected, "--candidate", "missing"],
        ),
        folder.run(&two),
        folder.explain("00", &["--actual", &expected]),
    ];
    let refusals: Vec<_> = refusals
        .into_iter()
        .map(|output| {
            assert!(output.stdout.is_empty());
            let text = String::from_utf8(output.stderr).unwrap();
            let line = text.lines().next().unwrap_or_default().to_owned();
            format!("{}: {line}", output.status.code().unwrap())
        })
        .collect();
    assert_snapshot!(refusals.join("\n"), @r#"
    5: [RDT-EVD-001] the SNP report is 1000 bytes long, expected 1184 (hint: give the raw report as /dev/sev-guest or configfs-tsm's outblob returns it)
    1: [RDT-CLI-001] cannot read "missing": No such file or directory (os error 2)
    1: [RDT-CLI-021] the manifest has several workloads (hint: choose one with --workload)
    2: error: invalid value '00' for '--expected <HEX>': not a launch digest: expected 96 hexadecimal digits
    "#);
}
