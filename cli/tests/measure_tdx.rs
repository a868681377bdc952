//! `redoubt measure tdx`: published values, forms of output, and what it refuses.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use insta::assert_snapshot;
use redoubt_verifier::ReferenceValues;
use serde_json::Value;
use sha2::{Digest, Sha256, Sha384};
use tempfile::TempDir;

const MEASURED_BOOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../measured-boot");
const EVENT_LOGS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../attestation/event-log/testdata"
);
const BY_SECTION: &str = "7ce4cec5729d95652108c1dfe381a3ccb6a6a9061920f0479a3e4c7c806cf51d2438958def083084880f2bf4dd2e14eb";

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    /// A compressed file of some test data.
    fn unpacked(&self, packed: &Path, name: &str) -> PathBuf {
        self.write(name, &unpack(packed))
    }

    fn firmware(&self) -> PathBuf {
        let packed = "launch-digest/testdata/OVMF-ubuntu-2025.02-3ubuntu2.fd.gz";
        self.unpacked(&Path::new(MEASURED_BOOT).join(packed), "OVMF.fd")
    }

    fn tables(&self, name: &str) -> PathBuf {
        let packed = format!("tdx-measurement/testdata/{name}-acpi_tables.bin.gz");
        self.unpacked(&Path::new(MEASURED_BOOT).join(packed), "tables")
    }

    /// A program for the firmware that is also a Linux kernel, as far as the headers go.
    fn kernel(&self) -> PathBuf {
        let packed = "tdx-measurement/testdata/authenticode-vectors.json.gz";
        let vectors = unpack(&Path::new(MEASURED_BOOT).join(packed));
        let vectors: Value = serde_json::from_slice(&vectors).unwrap();
        let image = vectors["cases"][0]["image_hex"].as_str().unwrap();
        let mut image = hex::decode(image).unwrap();
        image[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
        image[0x202..0x208].copy_from_slice(b"HdrS\x0f\x02");
        image[0x211] = 1;
        image[0x22c..0x230].copy_from_slice(&0x7fff_ffff_u32.to_le_bytes());
        self.write("vmlinuz", &image)
    }

    fn fails(&self, command: &mut Command) -> String {
        let output = command.output().unwrap();
        assert!(!output.status.success());
        let text = String::from_utf8(output.stderr).unwrap();
        let code = output.status.code().unwrap();
        let folder = self.0.path().to_str().unwrap();
        format!("{code}: {}", text.replace(folder, "DIR"))
    }
}

fn unpack(packed: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(fs::File::open(packed).unwrap())
        .read_to_end(&mut bytes)
        .unwrap();
    bytes
}

fn measure(firmware: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_redoubt"));
    command.args(["measure", "tdx", "--firmware"]).arg(firmware);
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

fn json(command: &mut Command) -> Value {
    serde_json::from_str(&succeeds(command)).unwrap()
}

fn sha256_of(path: &Path) -> String {
    hex::encode(Sha256::digest(fs::read(path).unwrap()))
}

#[test]
fn published_values_come_out_of_the_command() {
    let folder = Folder::new();
    let firmware = folder.firmware();
    for (name, memory_mib, vcpus) in [
        ("canonical-defaults", "2048", "4"),
        ("q35-with-hpet", "4096", "8"),
        ("runtime-capture", "16384", "8"),
    ] {
        let expected = format!("{MEASURED_BOOT}/tdx-measurement/testdata/{name}-expected.json");
        let expected: Value = serde_json::from_slice(&fs::read(expected).unwrap()).unwrap();
        let mut command = measure(&firmware);
        command.args(["--bare", "--memory", memory_mib, "--vcpus", vcpus]);
        command.arg("--acpi-tables").arg(folder.tables(name));
        let text = succeeds(&mut command);
        let lines: Vec<&str> = text.lines().collect();
        let zeros = "00".repeat(48);
        let (mrtd, rtmr0) = (&expected["mrtd"], &expected["rtmr0"]);
        assert_eq!(
            lines,
            [
                mrtd.as_str().unwrap(),
                rtmr0.as_str().unwrap(),
                "-",
                "-",
                &zeros
            ],
            "{name}"
        );
    }
    let older = succeeds(measure(&firmware).args(["--qemu", "8.2.2", "--bare"]));
    assert_eq!(older.lines().next(), Some(BY_SECTION));
    let named = succeeds(measure(&firmware).args(["--page-order", "by-section", "--bare"]));
    assert_eq!(named, older);
}

fn whole(folder: &Folder) -> Command {
    let mut command = measure(&folder.firmware());
    command.arg("--kernel").arg(folder.kernel());
    command
        .arg("--initrd")
        .arg(folder.write("initrd", b"an initrd"));
    command.args(["--append", "console=hvc0 quiet", "--memory", "2048"]);
    command
        .args(["--acpi-tables"])
        .arg(folder.tables("canonical-defaults"));
    let document = b"algorithm = \"sha384\"\nversion = \"0.1.0\"\n\n[data]\n";
    command
        .arg("--initdata")
        .arg(folder.write("initdata.toml", document));
    command
}

#[test]
fn people_see_registers_and_the_events_behind_them() {
    let folder = Folder::new();
    assert_snapshot!(succeeds(&mut whole(&folder)), @r"
    MRTD        7357a10d2e2724dffe68813e3cc4cfcde6814d749f2fb62e3953e54f6e0b50a219786afe2cd478f684b52c61837e1114
    RTMR0       e1cf95c7fedaa78087b3eb237148869f804642b7939d59c8825db269ffadf190d4a7fd4f44d9b10ba7ff44c12dd564f5
    RTMR1       c491c75f7cf71291f8b5694fe5f7e996895d05b6a5e9badbe4c927e4456cf76e77914b064bc3d76c96d5810f4304e4bc
    RTMR2       75a51552d36ff78328aa0553ff9fc0add87d0be1a921ae922505184ca39b5238884f48b88f4fce16081b36de27a5b05e
    RTMR3       000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000
    MRCONFIGID  fbc7001483d5457110a2e37e6d1b44845466383778c598aeedb64ab213f64eacf3eabaac16b9ecd8eaefefbe66c0604c

    Events
      RTMR0  0e35f1b315ba6c91…  TD HOB: the memory that the host gave
      RTMR0  344bc51c980ba621…  firmware volume with the configuration (CFV)
      RTMR0  9dc3a1f80bcec915…  UEFI variable SecureBoot: not set
      RTMR0  6f2e3cbc14f9def8…  UEFI variable PK: empty
      RTMR0  d607c0efb41c0d75…  UEFI variable KEK: empty
      RTMR0  08a74f8963b337ac…  UEFI variable db: empty
      RTMR0  18cc6e01f0c6ea99…  UEFI variable dbx: empty
      RTMR0  394341b7182cd227…  separator
      RTMR0  5a90c1030f1e8a83…  ACPI table loader
      RTMR0  2441521fc5d1c735…  ACPI root pointer (RSDP)
      RTMR0  43294dd0bd554ef1…  ACPI tables
      RTMR0  1dd6f7b457ad880d…  UEFI variable BootOrder: 0000
      RTMR0  23ada07f5261f12f…  UEFI variable Boot0000: UiApp
      RTMR1  f51fc9c038ea25f6…  kernel given by the host
      RTMR1  77a0dab2312b4e1e…  Calling EFI Application from Boot Option
      RTMR1  394341b7182cd227…  separator
      RTMR1  214b0bef13797560…  Exit Boot Services Invocation
      RTMR1  0a2e01c85deae718…  Exit Boot Services Returned with Success
      RTMR2  ddf66a62f3b5d6d9…  kernel command line
      RTMR2  0f629801d967c6be…  initrd

    Made from
      firmware        9e807cb2cd4313406a3aa4becc0836671a5c64ca7bdc08a45e15260184b446bf
      its version     2025.02-3ubuntu2
      kernel          bd1772d94819ba6e0550c0328782bb6008f37c2e75a08e9ba61da32f2df26a81
      initrd          d52742203e8e42f16f5bbe48a6e8aa94d9876c5abc0185f12c7f7b9ff94c814d
      command line    console=hvc0 quiet
      memory in MiB   2048
      ACPI tables     193142901a780b4db7c1639b120f43e4a49dcb5c9085851068ba812f6a017024
      initdata        b48d6b94867db18669143188b4e9fd531978e1d01e7398671081a40ceb1dad0f
      QEMU            10.1
      pages           page by page
      kernel header   filled in by QEMU
    ");
}

#[test]
fn programs_see_the_hash_of_every_input() {
    let folder = Folder::new();
    let file = |name: &str| sha256_of(&folder.0.path().join(name));
    let value = json(whole(&folder).arg("--json"));
    let inputs = &value[0]["inputs"];
    for (member, name) in [
        ("firmware_sha256", "OVMF.fd"),
        ("kernel_sha256", "vmlinuz"),
        ("initrd_sha256", "initrd"),
        ("initdata_sha256", "initdata.toml"),
    ] {
        assert_eq!(inputs[member], file(name), "{member}");
    }
    assert_eq!(inputs["acpi_sha256"]["tables"], file("tables"));
    assert_eq!(inputs["cmdline"], "console=hvc0 quiet");
    assert_eq!(inputs["memory_mib"], 2048);
    assert_eq!(inputs["firmware_version"], "2025.02-3ubuntu2");
    assert_eq!(inputs["kernel_header"], "patched");
    assert_eq!(inputs["page_order"], "by-page");
    assert_eq!(value, json(whole(&folder).args(["--format", "json"])));
    // The registers follow from the events.
    for register in ["rtmr0", "rtmr1", "rtmr2", "rtmr3"] {
        let events = value[0]["events"].as_array().unwrap();
        let extended = events
            .iter()
            .filter(|event| event["rtmr"] == register.to_uppercase())
            .fold([0; 48], |value: [u8; 48], event| {
                let digest = hex::decode(event["sha384"].as_str().unwrap()).unwrap();
                Sha384::new_with_prefix(value)
                    .chain_update(digest)
                    .finalize()
                    .into()
            });
        assert_eq!(value[0][register], hex::encode(extended), "{register}");
    }
}

#[test]
fn reference_values_are_read_by_the_verifier_and_named_for_trustee() {
    let folder = Folder::new();
    let measured = json(whole(&folder).arg("--json"));
    let printed = succeeds(whole(&folder).args(["--format", "redoubt"]));
    let values = ReferenceValues::parse(printed.as_bytes(), "printed").unwrap();
    let value = &values.tdx[0];
    let member = |name: &str| measured[0][name].as_str().unwrap().to_owned();
    assert_eq!(hex::encode(value.mrtd), member("mrtd"));
    for (index, register) in ["rtmr0", "rtmr1", "rtmr2"].into_iter().enumerate() {
        assert_eq!(hex::encode(value.rtmrs[index].unwrap()), member(register));
    }
    // What runs in the guest extends the last register.
    assert_eq!(value.rtmrs[3], None);
    let id = value.mr_config_id.unwrap();
    assert_eq!(hex::encode(id), member("mr_config_id"));
    let message = json(whole(&folder).args(["--format", "rvps"]));
    assert_eq!(message["version"], "0.1.0");
    assert_eq!(message["type"], "sample");
    let payload = STANDARD
        .decode(message["payload"].as_str().unwrap())
        .unwrap();
    let payload: Value = serde_json::from_slice(&payload).unwrap();
    let names: Vec<_> = payload.as_object().unwrap().keys().collect();
    assert_eq!(
        names,
        [
            "mr_td",
            "rtmr_1",
            "rtmr_2",
            "tdvfkernel",
            "tdvfkernelparams"
        ]
    );
    assert_eq!(payload["mr_td"][0], member("mrtd"));
    assert_eq!(payload["rtmr_2"][0], member("rtmr2"));
}

#[test]
fn initdata_gives_the_id_that_the_host_must_pass() {
    let folder = Folder::new();
    let initdata = Path::new(MEASURED_BOOT).join("initdata/testdata");
    let expected = fs::read(initdata.join("expected.json")).unwrap();
    let expected: Value = serde_json::from_slice(&expected).unwrap();
    let files = expected["files"].as_array().unwrap();
    let mut checked = 0;
    for file in files {
        let path = initdata.join(file["file"].as_str().unwrap());
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        checked += 1;
        let text = fs::read_to_string(&path).unwrap();
        let algorithm = ["sha256", "sha384", "sha512"]
            .into_iter()
            .find(|name| {
                text.lines()
                    .any(|line| line.starts_with("algorithm") && line.contains(name))
            })
            .unwrap();
        let mut command = measure(&folder.firmware());
        command.arg("--json").arg("--initdata").arg(&path);
        assert_eq!(
            json(&mut command)[0]["mr_config_id"],
            file[algorithm]["tdx_mrconfigid_48"]
        );
    }
    assert_eq!(checked, 3);
}

#[test]
fn the_log_of_a_guest_gives_rtmr0_for_firmware_that_measures_more() {
    let folder = Folder::new();
    let packed = Path::new(EVENT_LOGS).join("attestation-rs-tdx_ccel_live.bin.gz");
    let log = folder.unpacked(&packed, "CCEL");
    let measured = |memory: &str| {
        let mut command = measure(&folder.firmware());
        command
            .args(["--memory", memory, "--json", "--event-log"])
            .arg(&log);
        command
    };
    let value = json(&mut measured("2048"));
    assert_eq!(value[0]["inputs"]["event_log_sha256"], sha256_of(&log));
    let report = fs::read(format!("{EVENT_LOGS}/attestation-rs-tdx_tdreport_live.bin")).unwrap();
    assert_eq!(value[0]["rtmr0"], hex::encode(&report[720..768]));
    assert_snapshot!(folder.fails(&mut measured("4096")), @r#"4: {"code":"RDT-TDX-016","message":"\"DIR/CCEL\": event log was written by another guest: \"TD HOB: the memory that the host gave\" has the digest 0e35f1b315ba6c912cf791e5c79dd9d3a2b8704516aa27d4e5aa78fb09ede04aef2bbd02ac7a8734c48562b9c26ba35d instead of 02a008e63d55a77823c04a5513a5810d4e592dc41bf2596267c09eae5d4b4e3b329ae614973fb192297d8833d37a08fd","hint":"take the log from a guest with this firmware and this much memory"}"#);
}

#[test]
fn what_cannot_be_predicted_is_said() {
    let folder = Folder::new();
    let reasons = |command: &mut Command| {
        let value = json(command.arg("--json"));
        let reasons = value[0]["not_predicted"].as_array().unwrap().clone();
        let lines: Vec<String> = reasons
            .iter()
            .map(|reason| format!("{}: {}", reason["register"], reason["reason"]))
            .collect();
        lines.join("\n")
    };
    let firmware = folder.firmware();
    assert_snapshot!(reasons(&mut measure(&firmware)), @r#"
    "RTMR0": "it depends on the guest's memory: give --memory"
    "RTMR1": "it depends on the kernel: give --kernel"
    "RTMR2": "it depends on the kernel: give --kernel"
    "#);
    assert_snapshot!(reasons(measure(&firmware).args(["--memory", "2048"])), @r#"
    "RTMR0": "it depends on QEMU's ACPI tables: give --acpi-tables, or the --event-log of a guest of the same shape"
    "RTMR1": "it depends on the kernel: give --kernel"
    "RTMR2": "it depends on the kernel: give --kernel"
    "#);
    let initrd = folder.write("initrd", b"an initrd");
    let mut without_memory = measure(&firmware);
    without_memory
        .arg("--kernel")
        .arg(folder.kernel())
        .arg("--initrd")
        .arg(initrd);
    assert_snapshot!(reasons(&mut without_memory), @r#"
    "RTMR0": "it depends on the guest's memory: give --memory"
    "RTMR1": "QEMU writes the initrd's place into the kernel, which depends on --memory"
    "RTMR2": "QEMU writes the initrd's place into the kernel, which depends on --memory"
    "#);
}

#[test]
fn wrong_files_are_named_with_offset_and_field() {
    let folder = Folder::new();
    let firmware = folder.firmware();
    let refused = |command: &mut Command| folder.fails(command);
    let patched = |name: &str, from: &Path, at: usize, with: &[u8]| {
        let mut bytes = fs::read(from).unwrap();
        bytes[at..at + with.len()].copy_from_slice(with);
        folder.write(name, &bytes)
    };
    let image = fs::read(&firmware).unwrap();
    let metadata = image
        .windows(4)
        .rposition(|bytes| bytes == b"TDVF")
        .unwrap();

    let other = folder.write("other.fd", &image[image.len() - 4096..]);
    assert_snapshot!(refused(&mut measure(&other)), @r#"4: [RDT-FW-027] "DIR/other.fd": the firmware's TDX metadata cannot be used: TDX metadata section at offset 0x650: 0x37c000 bytes of data at 0x84000 lie outside the file of 0x1000 bytes (hint: check that the file is a complete OVMF image)"#);
    let cut = folder.write("cut.fd", &image[..image.len() - 100]);
    assert_snapshot!(refused(&mut measure(&cut)), @r#"4: [RDT-FW-003] "DIR/cut.fd": firmware size of 4194204 bytes is not a multiple of the page size (hint: check that the file is a complete OVMF image)"#);
    let lying = patched("lying.fd", &firmware, metadata + 12, &[0xff; 4]);
    assert_snapshot!(refused(&mut measure(&lying)), @r#"4: [RDT-FW-021] "DIR/lying.fd": TDX metadata at offset 0x3ff644: length 208 does not fit 4294967295 sections, of which there may be 1 to 64"#);
    let outside = patched("outside.fd", &firmware, metadata + 16, &[0xff; 4]);
    assert_snapshot!(refused(&mut measure(&outside)), @r#"4: [RDT-FW-027] "DIR/outside.fd": the firmware's TDX metadata cannot be used: TDX metadata section at offset 0x3ff650: 0x37c000 bytes of data at 0xffffffff lie outside the file of 0x400000 bytes (hint: check that the file is a complete OVMF image)"#);

    let kernel = folder.kernel();
    let with_kernel = |kernel: &Path| {
        let mut command = measure(&firmware);
        command.arg("--kernel").arg(kernel);
        command
    };
    let no_program = patched("no-program", &kernel, 0, b"ZM");
    assert_snapshot!(refused(&mut with_kernel(&no_program)), @r#"4: [RDT-TDX-011] "DIR/no-program": kernel is no PE image: DOS signature at offset 0x0 is wrong (hint: the firmware boots kernels with an EFI stub (CONFIG_EFI_STUB) only)"#);
    let no_kernel = patched("no-kernel", &kernel, 0x202, b"hdrs");
    assert_snapshot!(refused(&mut with_kernel(&no_kernel)), @r#"4: [RDT-TDX-013] "DIR/no-kernel": kernel is no Linux kernel for x86: magic of the setup header at offset 0x202 is wrong"#);
    assert_snapshot!(refused(with_kernel(&kernel).args(["--append", "a\tb"])), @"4: [RDT-TDX-015] command line, offset 1: only printable ASCII is passed on unchanged");
    assert_snapshot!(refused(with_kernel(&kernel).args(["--append", &"x".repeat(2048)])), @"4: [RDT-DIG-018] option --append cannot be used: kernel command line of 2048 bytes is longer than the 2047 that the kernel keeps");

    let tables = folder.tables("canonical-defaults");
    let with_tables = |tables: &Path| {
        let mut command = measure(&firmware);
        command
            .args(["--memory", "2048", "--acpi-tables"])
            .arg(tables);
        command
    };
    let cyclic = patched("cyclic", &tables, 68, &[0; 4]);
    assert_snapshot!(refused(&mut with_tables(&cyclic)), @r#"4: [RDT-TDX-008] "DIR/cyclic": ACPI tables, offset 0x40: length 0 of table DSDT does not fit"#);
    assert_snapshot!(refused(with_tables(&tables).args(["--vcpus", "8"])), @r#"4: [RDT-TDX-017] "DIR/tables": ACPI tables list 4 vCPUs, not 8 (hint: QEMU makes other tables for each number of vCPUs)"#);
    assert_snapshot!(refused(with_tables(&tables).args(["--vcpus", "0"])), @"4: [RDT-DIG-001] 0 vCPUs are not possible: 1 to 1024 are");
    assert_snapshot!(refused(with_tables(&tables).args(["--vcpus", "10000"])), @"4: [RDT-DIG-001] 10000 vCPUs are not possible: 1 to 1024 are");
    assert_snapshot!(refused(measure(&firmware).args(["--qemu", "ten"])), @r#"
    2: error: invalid value 'ten' for '--qemu <VERSION>': QEMU version "ten" is not a number such as 10.1

    For more information, try '--help'.
    "#);
    let mut no_log = measure(&firmware);
    no_log
        .args(["--memory", "2048", "--event-log"])
        .arg(&tables);
    assert_snapshot!(refused(&mut no_log), @r#"5: [RDT-LOG-003] "DIR/tables": event log does not start with the record "Spec ID Event03" of a crypto-agile log (hint: in a guest, the log is /sys/firmware/acpi/tables/data/CCEL; the file /sys/firmware/acpi/tables/CCEL only says where it lies in memory)"#);
}

#[test]
fn a_kernel_that_qemu_has_filled_in_measures_the_same() {
    let folder = Folder::new();
    let rtmr1 = |command: &mut Command| json(command.arg("--json"))[0]["rtmr1"].clone();
    let by_qemu = rtmr1(&mut whole(&folder));
    let mut filled = fs::read(folder.kernel()).unwrap();
    filled[0x210] = 0xb0;
    filled[0x211] = 0x81;
    filled[0x224..0x228].copy_from_slice(&0xfe00_u32.to_le_bytes());
    filled[0x228..0x22c].copy_from_slice(&0x2_0000_u32.to_le_bytes());
    // The highest page below 2 GiB that leaves 160 KiB for ACPI tables.
    filled[0x218..0x21c].copy_from_slice(&0x7ffd_7000_u32.to_le_bytes());
    filled[0x21c..0x220].copy_from_slice(&9_u32.to_le_bytes());
    let original = |kernel: &Path| {
        let mut command = measure(&folder.firmware());
        command
            .args(["--kernel-header", "original", "--kernel"])
            .arg(kernel);
        rtmr1(&mut command)
    };
    assert_ne!(original(&folder.kernel()), by_qemu);
    assert_eq!(original(&folder.write("filled", &filled)), by_qemu);
}
