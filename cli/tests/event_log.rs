//! Event logs as users of the command see them.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use insta::assert_snapshot;
use serde_json::Value;

const OVMF: &[u8] =
    include_bytes!("../../attestation/event-log/testdata/trustee-CCEL_data_ovmf.gz");
const CSV: &[u8] = include_bytes!("../../attestation/event-log/testdata/trustee-CCEL_data_csv.gz");
const RTMR0: &str = "8566f998798db09443b244c62de9a3041fb02e2e6936c4396d784bba2e90177329ec5aba3bb484404f2ab9cc90abe193";

fn unpacked(folder: &Path, packed: &[u8]) -> PathBuf {
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(packed)
        .read_to_end(&mut bytes)
        .unwrap();
    let path = folder.join("CCEL");
    fs::write(&path, bytes).unwrap();
    path
}

fn show(file: &Path, options: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_redoubt"))
        .args(["event-log", "show"])
        .arg(file)
        .args(options)
        .output()
        .unwrap()
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

#[test]
fn a_log_is_shown_with_labels_and_the_registers_it_leads_to() {
    let folder = tempfile::tempdir().unwrap();
    let output = show(&unpacked(folder.path(), OVMF), &[]);
    assert!(output.status.success());
    assert_snapshot!(text(output.stdout), @r"
    20 events in 2120 bytes

    Registers that the log leads to
      RTMR0  8566f998798db09443b244c62de9a3041fb02e2e6936c4396d784bba2e90177329ec5aba3bb484404f2ab9cc90abe193
      RTMR1  775b9f6bfe99f8a31396f0d0218e67ffa796d3b96ccf961cbb0deba48c79c00f082cda1a5567c1c16305f1fc210c13c6
      RTMR2  94eaf7a7bf398ed8d888c91057ae0261802e4f3df084213a76ca7f0b5055ac9d2241de43cd58d9e8b49c503bbf25f34a
      RTMR3  000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000

    Events
      RTMR0  0b8772e5b0b41b83…     TD HOB: the memory that the host gave
      RTMR0  344bc51c980ba621…     firmware volume with the configuration: 540672 bytes at 0xffc00000
      RTMR0  9dc3a1f80bcec915…  =  UEFI variable SecureBoot: not set
      RTMR0  6f2e3cbc14f9def8…  =  UEFI variable PK: empty
      RTMR0  d607c0efb41c0d75…  =  UEFI variable KEK: empty
      RTMR0  08a74f8963b337ac…  =  UEFI variable db: empty
      RTMR0  18cc6e01f0c6ea99…  =  UEFI variable dbx: empty
      RTMR0  394341b7182cd227…  =  separator
      RTMR0  8db40217f1584456…     ACPI table loader
      RTMR0  379c9de60d0dd686…     ACPI root pointer (RSDP)
      RTMR0  2213f7791b826d9e…     ACPI tables
      RTMR1  a2ccae1e7d6c668c…     kernel given by the host
      RTMR0  1dd6f7b457ad880d…  v  UEFI variable BootOrder: 0000
      RTMR0  23ada07f5261f12f…  v  UEFI variable Boot0000: UiApp
      RTMR1  77a0dab2312b4e1e…  =  Calling EFI Application from Boot Option
      RTMR0  394341b7182cd227…  =  separator
      RTMR2  4230f84885a6f3f3…     kernel command line
      RTMR2  b15af9286108d3d8…     initrd
      RTMR1  214b0bef13797560…  =  Exit Boot Services Invocation
      RTMR1  0a2e01c85deae718…  =  Exit Boot Services Returned with Success

    The digest covers
      =  what the log shows
      v  the variable's value
      !  something else, although it should cover what the log shows
         without a mark: something that is not in the log
    ");
}

#[test]
fn registers_of_a_report_are_compared() {
    let folder = tempfile::tempdir().unwrap();
    let log = unpacked(folder.path(), OVMF);
    let same = show(&log, &["--rtmr", &format!("0={RTMR0}"), "--json"]);
    assert!(same.status.success());
    let report: Value = serde_json::from_slice(&same.stdout).unwrap();
    assert_eq!(report["rtmrs"]["rtmr0"], RTMR0);
    assert_eq!(report["events"][11]["label"], "kernel given by the host");
    assert_eq!(report["events"][11]["rtmr"], "RTMR1");
    assert_eq!(report["events"][11]["digest_covers"], "elsewhere");
    assert_eq!(report["events"][0]["digests"][0]["algorithm"], "sha384");
    let zeros = "00".repeat(48);
    let other = show(&log, &["--rtmr", &format!("1={zeros}")]);
    assert_eq!(other.status.code(), Some(5));
    assert_snapshot!(text(other.stderr).replace(&zeros, "ZEROS"), @"[RDT-LOG-015] RTMR1 was reported as ZEROS, but the event log leads to 775b9f6bfe99f8a31396f0d0218e67ffa796d3b96ccf961cbb0deba48c79c00f082cda1a5567c1c16305f1fc210c13c6 (hint: the log was changed, or it is the log of another guest or boot)");
    for wrong in ["4=00", "0", "0=zz", &format!("5={zeros}")] {
        assert_eq!(show(&log, &["--rtmr", wrong]).status.code(), Some(2));
    }
}

#[test]
fn a_log_without_sha384_is_shown_without_registers() {
    let folder = tempfile::tempdir().unwrap();
    let log = unpacked(folder.path(), CSV);
    let output = text(show(&log, &[]).stdout);
    assert!(output.contains("none: event log, offset 0x41"), "{output}");
    let compared = show(&log, &["--rtmr", &format!("0={RTMR0}")]);
    assert!(text(compared.stderr).starts_with("[RDT-LOG-012]"));
}

#[test]
fn something_else_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x");
    fs::write(&file, [0; 100]).unwrap();
    let output = show(&file, &[]);
    assert_eq!(output.status.code(), Some(5));
    assert!(text(output.stderr).contains("RDT-LOG-003"));
}
