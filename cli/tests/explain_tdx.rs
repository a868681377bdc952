//! `redoubt explain` for MRTD and RTMR2 of TDX guests.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::fs;
use std::io::Read;
use std::process::{Command, Output};

use insta::assert_snapshot;
use redoubt_event_log::Rtmr;
use redoubt_firmware::Firmware;
use redoubt_tdx_measurement::{PageOrder, mrtd, replay, rtmr2_events};
use serde_json::Value;
use sha2::{Digest, Sha384};
use tempfile::TempDir;

const TDVF: &[u8] =
    include_bytes!("../../measured-boot/launch-digest/testdata/OVMF-ubuntu-2025.02-3ubuntu2.fd.gz");
const AMDSEV: &[u8] = include_bytes!("../../firmware/testdata/ovmf_AmdSev_suffix.bin");
const QUOTE: &[u8] = include_bytes!("../../attestation/evidence/testdata/tdx/tdx_quote_4.dat");
const REPORT: &[u8] = include_bytes!("../../attestation/evidence/testdata/trustee-test-report.bin");
const SNP_EVIDENCE: &[u8] =
    include_bytes!("../../attestation/evidence/testdata/trustee-e2e-snp-evidence.json");

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        let mut firmware = Vec::new();
        let mut unpacked = flate2::read::GzDecoder::new(TDVF);
        unpacked.read_to_end(&mut firmware).unwrap();
        folder.write("tdvf.fd", &firmware);
        folder.write("amdsev.fd", AMDSEV);
        folder.write("vmlinuz", b"a kernel");
        folder.write("initrd", b"an initrd");
        folder.write("initrd.old", b"an old initrd");
        folder.write("quote.dat", QUOTE);
        folder
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.0.path().join(name), bytes).unwrap();
    }

    fn mrtd(&self, order: PageOrder) -> String {
        let bytes = fs::read(self.0.path().join("tdvf.fd")).unwrap();
        hex::encode(mrtd(&Firmware::parse(&bytes).unwrap(), order).unwrap())
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_redoubt"));
        command.current_dir(self.0.path());
        command.arg("explain").args(args).output().unwrap()
    }

    fn explained(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }
}

fn rtmr2(cmdline: &str, initrd: &[u8]) -> String {
    let sha384 = Some(Sha384::digest(initrd).into());
    hex::encode(replay(&rtmr2_events(cmdline, sha384).unwrap()).get(Rtmr::Rtmr2))
}

#[test]
fn the_page_order_of_an_older_qemu_is_named() {
    let folder = Folder::new();
    let expected = folder.mrtd(PageOrder::ByPage);
    let actual = folder.mrtd(PageOrder::BySection);
    let args = ["--register", "mrtd", "--firmware", "tdvf.fd"];
    let digests = ["--expected", &expected, "--actual", &actual];
    assert_snapshot!(folder.explained(&[&args[..], &digests].concat()), @"
    expected  7357a10d2e2724dffe68813e3cc4cfcde6814d749f2fb62e3953e54f6e0b50a219786afe2cd478f684b52c61837e1114
    actual    7ce4cec5729d95652108c1dfe381a3ccb6a6a9061920f0479a3e4c7c806cf51d2438958def083084880f2bf4dd2e14eb
    inputs    7357a10d2e2724dffe68813e3cc4cfcde6814d749f2fb62e3953e54f6e0b50a219786afe2cd478f684b52c61837e1114

    MRTD
      The expected digest matches the inputs.
      The actual digest matches with pages measured section by section (QEMU 8).
    ");
    // The same the other way round, by the version of QEMU.
    let older = [&args[..], &digests, &["--qemu", "8.2.2", "--json"]].concat();
    let json: Value = serde_json::from_str(&folder.explained(&older)).unwrap();
    assert_eq!(json["computed"], actual);
    assert_eq!(
        json["expected_differences"],
        serde_json::json!(["with pages measured one by one (QEMU 9 and later)"])
    );
    assert_eq!(json["actual_differences"], serde_json::json!([]));
}

#[test]
fn a_command_line_and_an_initrd_are_found_in_rtmr2() {
    let folder = Folder::new();
    let expected = rtmr2("console=ttyS0 quiet", b"an initrd");
    let sentence = |actual: &str| {
        let text = folder.explained(&[
            "--register",
            "rtmr2",
            "--firmware",
            "tdvf.fd",
            "--kernel",
            "vmlinuz",
            "--initrd",
            "initrd",
            "--append",
            "console=ttyS0 quiet",
            "--candidate",
            "initrd.old",
            "--parameter",
            "own=1",
            "--expected",
            &expected,
            "--actual",
            actual,
        ]);
        let line = text.lines().find(|line| line.contains("The actual digest"));
        line.unwrap().trim().to_owned()
    };
    let sentences = [
        sentence(&rtmr2("console=ttyS0", b"an initrd")),
        sentence(&rtmr2("console=ttyS0 quiet", b"an old initrd")),
        sentence(&rtmr2("console=ttyS0 quiet own=1", b"an initrd")),
        sentence(&"07".repeat(48)),
    ];
    assert_snapshot!(sentences.join("\n"), @"
    The actual digest matches without `quiet`.
    The actual digest matches with initrd initrd.old.
    The actual digest matches with `own=1` after `quiet`.
    The actual digest matches nothing that was tried.
    ");
}

#[test]
fn a_quote_tells_its_register_initdata_and_attributes() {
    let folder = Folder::new();
    let expected = folder.mrtd(PageOrder::ByPage);
    let initdata = "version = \"0.1.0\"\nalgorithm = \"sha384\"\n[data]\n\"a\" = \"b\"\n";
    folder.write("initdata.toml", initdata.as_bytes());
    let text = folder.explained(&[
        "--register",
        "mrtd",
        "--firmware",
        "tdvf.fd",
        "--initdata",
        "initdata.toml",
        "--expected",
        &expected,
        "--report",
        "quote.dat",
    ]);
    assert_snapshot!(text, @"
    expected  7357a10d2e2724dffe68813e3cc4cfcde6814d749f2fb62e3953e54f6e0b50a219786afe2cd478f684b52c61837e1114
    actual    705ee9381b8633a9fbe532b52345e8433343d2868959f57889d84ca377c395b689cac1599ccea1b7d420483a9ce5f031
    inputs    7357a10d2e2724dffe68813e3cc4cfcde6814d749f2fb62e3953e54f6e0b50a219786afe2cd478f684b52c61837e1114

    MRTD
      The expected digest matches the inputs.
      The actual digest matches nothing that was tried.

    Tried
      pages measured one by one (QEMU 9 and later) and section by section (QEMU 8)
      candidates: none given (--candidate FILE)
      2 digests in all

    MRCONFIGID
      reported  000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000
      inputs    98ea83226df49545f35c31768261d5abe01fa7d3172c1a59391fc7ce3fe6cd32db9dd09854bb32985801d8adfb279343
      The guest was launched without initdata: see that containerd passes the annotation (pod_annotations).

    TD attributes
      reported  0x10000001
      It lets the host read and change the guest's memory (debug bit).
    ");
}

#[test]
fn what_cannot_be_searched_is_refused() {
    let folder = Folder::new();
    folder.write("report.bin", REPORT);
    folder.write("evidence.json", SNP_EVIDENCE);
    folder.write("short.dat", &QUOTE[..100]);
    let value = "07".repeat(48);
    let digests = ["--expected", &value, "--actual", &value];
    let reported = |file| ["--expected", &value, "--report", file];
    let with = |digests: [&str; 4], args: &[&str]| folder.run(&[&digests[..], args].concat());
    let mrtd = ["--register", "mrtd", "--firmware", "tdvf.fd"];
    let refusals = [
        with(digests, &["--register", "mrtd"]),
        with(digests, &["--register", "rtmr2", "--firmware", "tdvf.fd"]),
        with(digests, &["--register", "mrtd", "--firmware", "amdsev.fd"]),
        with(digests, &[&mrtd[..], &["--qemu", "new"]].concat()),
        with(reported("evidence.json"), &mrtd),
        with(reported("report.bin"), &mrtd),
        with(reported("short.dat"), &mrtd),
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
    1: [RDT-CLI-022] this register is explained from the parts of a launch: --firmware is missing (hint: give --firmware, and for RTMR2 --kernel, --initrd and --append)
    1: [RDT-CLI-022] this register is explained from the parts of a launch: --kernel is missing (hint: give --firmware, and for RTMR2 --kernel, --initrd and --append)
    4: [RDT-FW-027] the firmware's TDX metadata cannot be used: TDX metadata section at offset 0x640: 0x37c000 bytes of data at 0x84000 lie outside the file of 0x1000 bytes (hint: check that the file is a complete OVMF image)
    2: error: invalid value 'new' for '--qemu <VERSION>': QEMU version "new" is not a number such as 10.1
    1: [RDT-CLI-023] file "evidence.json" is no evidence of TDX
    5: [RDT-EVD-022] the quote has version 2; TDX quotes have version 4 or 5
    5: [RDT-EVD-021] the TDX quote ends inside its TD report
    "#);
}
