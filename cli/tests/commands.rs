//! The command as its users call it: output, exit codes, errors.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use insta::assert_snapshot;
use serde_json::Value;
use tempfile::TempDir;

const AMDSEV: &[u8] = include_bytes!("../../firmware/testdata/ovmf_AmdSev_suffix.bin");
const GENERIC: &[u8] = include_bytes!("../../firmware/testdata/ovmf_OvmfX64_suffix.bin");
/// Published digest of the AmdSev image with these 20-byte files, this command line, one EPYC-v4.
const PUBLISHED: &str = "2ceaacc214a340e7e0ffce260e365b4f154a338def9d1dc39e84262d08e400fa2e0af4924211062acaa0c3b2fa391e87";
const PUBLISHED_CMDLINE: &str = "console=ttyS0 root=/dev/vda1 ro";

/// A folder with the files of a launch.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.write("amdsev.fd", AMDSEV);
        folder.write("generic.fd", GENERIC);
        folder.write("k", b"fake-kernel-image-v1");
        folder.write("i", b"fake-initrd-image-v1");
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        fs::write(self.path(name), bytes).unwrap();
        self.path(name)
    }

    /// A configuration of a simulated guest whose kernel has a bzImage's header.
    fn configuration(&self) -> PathBuf {
        let mut kernel = vec![0; 0x400];
        kernel[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
        kernel[0x202..0x206].copy_from_slice(b"HdrS");
        self.write("bzimage", &kernel);
        let text = format!(
            "[hypervisor.qemu]\nkernel = \"{}\"\ninitrd = \"{}\"\nfirmware = \"{}\"\n\
             confidential_guest = true\nsnp_simulation = \"/sim\"\naccelerator = \"tcg\"\n\
             enable_annotations = [\"cc_init_data\", \"kernel_params\", \"default_vcpus\"]\n",
            self.path("bzimage").display(),
            self.path("i").display(),
            self.path("amdsev.fd").display()
        );
        self.write("configuration.toml", text.as_bytes())
    }
}

fn redoubt() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_redoubt"));
    command.env_remove("KATA_CONF_FILE");
    command
}

fn succeeds(command: &mut Command) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

/// Exit code and standard error.
fn fails(command: &mut Command, folder: &Folder) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    assert!(!status.success());
    assert!(stdout.is_empty(), "{}", String::from_utf8_lossy(&stdout));
    let text = String::from_utf8(stderr).unwrap();
    let text = text.replace(&folder.0.path().display().to_string(), "DIR");
    format!("{}: {text}", status.code().unwrap())
}

fn measure_snp(folder: &Folder, firmware: &str) -> Command {
    let mut command = redoubt();
    command
        .args(["measure", "snp", "--firmware"])
        .arg(folder.path(firmware));
    command
        .arg("--kernel")
        .arg(folder.path("k"))
        .arg("--initrd")
        .arg(folder.path("i"));
    command.args(["--append", PUBLISHED_CMDLINE, "--kernel-format", "any"]);
    command
}

fn measure_sandbox(configuration: &Path) -> Command {
    let mut command = redoubt();
    command
        .args(["measure", "sandbox", "--config"])
        .arg(configuration);
    command
}

#[test]
fn measure_snp_prints_the_published_digest() {
    let folder = Folder::new();
    let bare = succeeds(measure_snp(&folder, "amdsev.fd").args(["--format", "bare"]));
    assert_eq!(bare, format!("{PUBLISHED}\n"));
    assert_snapshot!(succeeds(&mut measure_snp(&folder, "amdsev.fd")), @r#"
    vCPUs  launch digest
        1  2ceaacc214a340e7e0ffce260e365b4f154a338def9d1dc39e84262d08e400fa2e0af4924211062acaa0c3b2fa391e87

    Made from
      HOST_DATA       any
      firmware        8f765dfabc127fc0a938a0744a3103ec15864d7d794eb4c398aa976b6d6ab16c
      kernel          9ff366e31289f4e0311a5ea45aa2dd5d1fb8697c3a22b70c076205726fc52a7e
      initrd          aa07b53c374496b2b155cced6c6bc8871255213f4ba61ab15f6de890d6d3ced4
      command line    console=ttyS0 root=/dev/vda1 ro
      CPU model       EPYC-v4
      guest features  0x1
      monitor         qemu
    "#);
}

#[test]
fn measure_snp_gives_a_range_of_shapes_at_once() {
    let folder = Folder::new();
    let json = succeeds(measure_snp(&folder, "amdsev.fd").args(["--vcpus", "1..4", "--json"]));
    let rows: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(rows.as_array().unwrap().len(), 4);
    assert_eq!(rows[0]["launch_digest"], PUBLISHED);
    assert_eq!(
        rows[3]["launch_digest"],
        "d924dfd6f94c6f0034c62c763d2883732f961dac3d555007521759972fc0e1f9b59acfc8b1b6e98aff02b421ecdc63b7"
    );
}

#[test]
fn a_model_may_be_given_by_family_model_and_stepping() {
    let folder = Folder::new();
    let named = succeeds(measure_snp(&folder, "amdsev.fd").args([
        "--cpu-model",
        "EPYC-Milan",
        "--format",
        "bare",
    ]));
    let numbered = succeeds(measure_snp(&folder, "amdsev.fd").args([
        "--cpu-family",
        "25,1,1",
        "--format",
        "bare",
    ]));
    assert_eq!(named, numbered);
}

#[test]
fn bad_input_ends_in_one_line_and_a_code_of_its_own() {
    let folder = Folder::new();
    assert_snapshot!(fails(&mut measure_snp(&folder, "generic.fd"), &folder), @r#"4: [RDT-DIG-006] file "DIR/generic.fd" cannot be used: firmware has no kernel-hash section in its SEV metadata, so kernel, initrd and command line cannot be measured (hint: use an AmdSev build of OVMF (package ovmf-amdsev))"#);
    assert_snapshot!(fails(&mut measure_snp(&folder, "k"), &folder), @r#"4: [RDT-FW-001] firmware "DIR/k" cannot be used: firmware of 20 bytes is smaller than one page (hint: check that the file is a complete OVMF image)"#);
    assert_snapshot!(fails(&mut measure_snp(&folder, "none"), &folder), @r#"1: [RDT-CLI-001] cannot read "DIR/none": No such file or directory (os error 2)"#);
    assert_snapshot!(
        fails(measure_snp(&folder, "amdsev.fd").args(["--cpu-model", "EPYC-Roma"]), &folder), @r#"4: [RDT-DIG-002] unknown CPU model "EPYC-Roma" (hint: did you mean EPYC-Rome?)"#);
    assert_snapshot!(
        fails(&mut measure_sandbox(&folder.path("none.toml")), &folder), @r#"3: [RDT-CFG-002] cannot read "DIR/none.toml", named by ConfigPath or --config: No such file or directory (os error 2)"#);
    for vcpus in ["0", "10000", "1..10000", "0..4"] {
        let text = fails(
            measure_snp(&folder, "amdsev.fd").args(["--vcpus", vcpus]),
            &folder,
        );
        assert!(text.starts_with("4: [RDT-DIG-001]"), "{text}");
    }
}

#[test]
fn errors_are_json_for_programs() {
    let folder = Folder::new();
    let text = fails(measure_snp(&folder, "generic.fd").arg("--json"), &folder);
    let error: Value = serde_json::from_str(text.strip_prefix("4: ").unwrap()).unwrap();
    assert_eq!(error["code"], "RDT-DIG-006");
    assert!(error["hint"].as_str().unwrap().contains("ovmf-amdsev"));
}

#[test]
fn a_sandbox_measures_what_its_parts_measure() {
    let folder = Folder::new();
    let configuration = folder.configuration();
    let annotation = "io.katacontainers.config.hypervisor.default_vcpus=2";
    let json =
        succeeds(measure_sandbox(&configuration).args(["--annotation", annotation, "--json"]));
    let rows: Value = serde_json::from_str(&json).unwrap();
    let row = &rows[0];
    assert_eq!(row["inputs"]["vcpus"], 2);
    let mut parts = redoubt();
    parts.args([
        "measure",
        "snp",
        "--format",
        "bare",
        "--vcpus",
        "2",
        "--firmware",
    ]);
    parts
        .arg(folder.path("amdsev.fd"))
        .arg("--kernel")
        .arg(folder.path("bzimage"));
    parts.arg("--initrd").arg(folder.path("i")).arg("--append");
    parts.arg(row["inputs"]["cmdline"].as_str().unwrap());
    assert_eq!(
        succeeds(&mut parts).trim(),
        row["launch_digest"].as_str().unwrap()
    );
}

#[test]
fn the_key_broker_imports_the_reference_values_of_a_sandbox() {
    let folder = Folder::new();
    let configuration = folder.configuration();
    let policy = folder.write("p.rego", b"package agent_policy\n");
    let document = folder.path("initdata.toml");
    let mut build = redoubt();
    build
        .args(["initdata", "build", "--file"])
        .arg(format!("policy.rego={}", policy.display()));
    let digests: Value = serde_json::from_str(&succeeds(
        build.arg("--output").arg(&document).arg("--json"),
    ))
    .unwrap();
    let mut measure = measure_sandbox(&configuration);
    let json = succeeds(
        measure
            .arg("--initdata")
            .arg(&document)
            .args(["--format", "redoubt"]),
    );
    let values = redoubt_kbs_server::parse_reference_values(json.as_bytes(), "x").unwrap();
    assert_eq!(values.len(), 1);
    let host_data = hex::encode(values[0].host_data.unwrap());
    assert_eq!(host_data, digests["host_data"]);
    let bare = succeeds(
        measure_sandbox(&configuration)
            .arg("--initdata")
            .arg(&document)
            .args(["--format", "bare"]),
    );
    assert_eq!(bare.trim(), hex::encode(values[0].launch_digest));
}

#[test]
fn an_oci_specification_brings_annotations_and_limits() {
    let folder = Folder::new();
    let configuration = folder.configuration();
    let spec = folder.write(
        "config.json",
        br#"{"linux":{"resources":{"cpu":{"quota":200000,"period":100000}}}}"#,
    );
    let json = succeeds(
        measure_sandbox(&configuration)
            .arg("--oci-spec")
            .arg(spec)
            .arg("--json"),
    );
    let rows: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(rows[0]["inputs"]["vcpus"], 3);
}

#[test]
fn a_plain_sandbox_has_nothing_to_measure() {
    let folder = Folder::new();
    let configuration = folder.configuration();
    let text = fs::read_to_string(&configuration).unwrap();
    let text = text.replace("confidential_guest = true\nsnp_simulation = \"/sim\"\n", "");
    fs::write(&configuration, text).unwrap();
    assert_snapshot!(fails(&mut measure_sandbox(&configuration), &folder), @"1: [RDT-CLI-007] the sandbox is not confidential, so that nothing of it is measured (hint: set confidential_guest = true in [hypervisor.qemu])");
}

#[test]
fn a_plan_is_explained_with_the_same_digest() {
    let folder = Folder::new();
    let configuration = folder.configuration();
    let digest = succeeds(measure_sandbox(&configuration).args(["--format", "bare"]));
    let text = succeeds(redoubt().args(["plan", "--config"]).arg(&configuration));
    assert!(
        text.contains(&format!("launch digest {}", digest.trim())),
        "{text}"
    );
    assert!(text.contains("default_memory"), "{text}");
}

#[test]
fn initdata_keeps_its_digest_through_all_forms() {
    let folder = Folder::new();
    let policy = folder.write("p.rego", b"package agent_policy\ndefault allow := false\n");
    let form = |format: &str| {
        let mut build = redoubt();
        build.args([
            "initdata",
            "build",
            "--algorithm",
            "sha384",
            "--format",
            format,
            "--file",
        ]);
        build.arg(format!("policy.rego={}", policy.display()));
        let bytes = build.output().unwrap().stdout;
        let file = folder.write(format, &bytes);
        succeeds(redoubt().args(["initdata", "digest"]).arg(file))
    };
    let digests = form("toml");
    assert_snapshot!(digests, @r#"
    sha384           a730b817e3ed00abc6cfa979f8e98c1087914cba9530bd965b87e66eaa9745225d81d8080f30e0dfdd15f3180f21a118
    SNP HOST_DATA    a730b817e3ed00abc6cfa979f8e98c1087914cba9530bd965b87e66eaa974522
    TDX MRCONFIGID   a730b817e3ed00abc6cfa979f8e98c1087914cba9530bd965b87e66eaa9745225d81d8080f30e0dfdd15f3180f21a118
    "#);
    assert_eq!(form("annotation"), digests);
    assert_eq!(form("disk"), digests);
    assert_snapshot!(succeeds(redoubt().args(["initdata", "inspect"]).arg(folder.path("disk"))), @r#"
    sha384           a730b817e3ed00abc6cfa979f8e98c1087914cba9530bd965b87e66eaa9745225d81d8080f30e0dfdd15f3180f21a118
    SNP HOST_DATA    a730b817e3ed00abc6cfa979f8e98c1087914cba9530bd965b87e66eaa974522
    TDX MRCONFIGID   a730b817e3ed00abc6cfa979f8e98c1087914cba9530bd965b87e66eaa9745225d81d8080f30e0dfdd15f3180f21a118
    document         115 bytes
    annotation       164 of the 262144 bytes that Kubernetes allows

    --- policy.rego
    package agent_policy
    default allow := false
    "#);
    assert_snapshot!(fails(redoubt().args(["initdata", "inspect"]).arg(folder.path("amdsev.fd")), &folder), @r#"1: [RDT-CLI-008] file "DIR/amdsev.fd" is no initdata: neither a document nor an annotation nor a disk image"#);
}

#[test]
fn firmware_inspect_shows_tables_and_what_is_missing() {
    let folder = Folder::new();
    let text = succeeds(
        redoubt()
            .args(["firmware", "inspect"])
            .arg(folder.path("generic.fd")),
    );
    assert_snapshot!(text, @r#"
    kind        generic
    size        4096 bytes
    sha256      b4c021e085fb83ceffe6571a3d357b4a98773c83c474e47f76c876708fe316da
    SNP digest  b91e6fec73d2bcc57ad5fd400a426ce02731c22ea92bc894ce675e7c9921a822977d6cf025b85f8ef4f264bff8839d20

    Footer table
      0xfb8  00f771de-1a7e-4fcb-890e-68c77e2fb44e  SEV-ES reset block, 4 bytes
      0xf9e  4c2eb361-7d9b-4cc3-8081-127c90d3d294  SEV secret, 8 bytes
      0xf84  7255371f-3a3b-4b04-927b-1da6efa8d454  SEV kernel-hash table, 8 bytes
      0xf6e  dc886566-984a-4798-a75e-5585a7bf67cc  SEV metadata, 4 bytes
      0xf58  e47a6535-984a-4798-865e-4685a7bf8ec2  TDX metadata, 4 bytes

    SEV metadata
      0x00800000      36 KiB    memory
      0x0080a000      12 KiB    memory
      0x0080d000       4 KiB    secrets page
      0x0080e000       4 KiB    CPUID page
      0x0080f000       4 KiB    SVSM calling area
      0x00810000      64 KiB    memory

    TDX metadata
      0xffc84000    3568 KiB    boot firmware volume (BFV), contents in MRTD
      0xffc00000     528 KiB    configuration firmware volume (CFV)
      0x00811000      60 KiB    temporary memory
      0x0080b000       8 KiB    temporary memory
      0x00809000       8 KiB    hand-off block (TD HOB)
      0x00800000      24 KiB    temporary memory

    What it can do
      NO   kernel-hashes   under SEV the host may boot any kernel, and the launch digest stays the same
      yes  sev-snp         starts as an SEV-SNP guest
      yes  multiple-vcpus  application processors start under SEV-ES and SEV-SNP
      NO   sev-secret      a secret cannot be injected at launch: the guest has to attest for it
      yes  svsm            runs above a secure VM service module
      yes  tdx             starts as a TDX guest and measures what it boots into RTMRs
    "#);
}

#[test]
fn config_show_names_the_source_of_every_value() {
    let folder = Folder::new();
    let configuration = folder.configuration();
    let text = succeeds(
        redoubt()
            .args(["config", "show", "--config"])
            .arg(&configuration),
    );
    let line = |key: &str| {
        let line = text
            .lines()
            .find(|line| line.starts_with(key))
            .unwrap()
            .to_owned();
        line.replace(&folder.0.path().display().to_string(), "DIR")
    };
    assert_snapshot!(line("hypervisor.qemu.confidential_guest"), @"hypervisor.qemu.confidential_guest = true  (DIR/configuration.toml)");
    assert_snapshot!(line("hypervisor.qemu.default_memory"), @"hypervisor.qemu.default_memory = 2048  (default)");
}

#[test]
fn config_reference_is_the_one_in_the_documentation() {
    let printed = succeeds(redoubt().args(["config", "reference"]));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    let documented = fs::read_to_string(path).unwrap();
    assert_eq!(
        printed, documented,
        "write it anew with `redoubt config reference`"
    );
}

#[test]
fn a_simulated_host_and_a_broker_that_trusts_it_are_made_once() {
    let folder = Folder::new();
    let sim = folder.path("sim");
    let made = succeeds(
        redoubt()
            .args(["simulator", "init"])
            .arg(&sim)
            .arg("--json"),
    );
    let made: Value = serde_json::from_str(&made).unwrap();
    let anchor = made["trust_anchor"].as_str().unwrap();
    let again = fails(redoubt().args(["simulator", "init"]).arg(&sim), &folder);
    assert!(again.starts_with("5: [RDT-SIM-"), "{again}");

    for storage in ["embedded", "files"] {
        let dir = folder.path(storage);
        let init = || {
            let mut init = redoubt();
            init.args(["kbs", "init"]).arg(&dir);
            init.args(["--listen", "10.1.2.3:8080", "--anchor", anchor]);
            init.args(["--storage", storage]);
            init
        };
        succeeds(&mut init());
        for name in ["config.toml", "tls-cert.pem", "admin-key.pem"] {
            assert!(dir.join(name).exists(), "{name}");
        }
        for name in ["policy.rego", "resources", "reference-values"] {
            assert_eq!(dir.join(name).exists(), storage == "files", "{name}");
        }
        let config = fs::read_to_string(dir.join("config.toml")).unwrap();
        assert!(config.contains("listen = \"10.1.2.3:8080\""), "{config}");
        let again = fails(&mut init(), &folder);
        assert!(again.starts_with("6: [RDT-KBS-"), "{again}");
    }
}

#[test]
fn an_image_that_does_not_exist_is_named() {
    let folder = Folder::new();
    let key = folder.write("key", &[7; 32]);
    let mut encrypt = redoubt();
    encrypt
        .args(["image", "encrypt"])
        .arg(format!("oci:{}", folder.path("none").display()));
    encrypt.arg(format!("oci:{}", folder.path("out").display()));
    encrypt
        .arg("--key")
        .arg(format!("kbs:///default/key/app={}", key.display()));
    let text = fails(&mut encrypt, &folder);
    assert!(text.starts_with("20: [RDT-IMG-"), "{text}");
    assert!(text.contains("DIR/none"), "{text}");
}
