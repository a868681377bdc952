//! `redoubt verify tdx` and `redoubt verify evidence` on real quotes and evidence, as users call them.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use insta::assert_snapshot;
use serde_json::{Value, json};

/// What a command printed, and how it ended.
struct Outcome {
    code: i32,
    text: String,
    error: String,
}

fn attestation() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../attestation")
}

/// Runs the command; an argument that begins with `@` is a file below `attestation`.
fn redoubt(arguments: &[&str]) -> Outcome {
    let mut command = Command::new(env!("CARGO_BIN_EXE_redoubt"));
    for argument in arguments {
        match argument.strip_prefix('@') {
            Some(name) => command.arg(attestation().join(name)),
            None => command.arg(argument),
        };
    }
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let folder = attestation().display().to_string();
    Outcome {
        code: output.status.code().unwrap(),
        text: text(output.stdout),
        error: text(output.stderr).replace(&folder, "DATA"),
    }
}

const COLLATERAL: &str = "@tdx-verifier/testdata/tdx_quote_collateral.json";
const QUOTE: &str = "@evidence/testdata/tdx/dcap-qvl-tdx_quote.dat";
const AT: [&str; 2] = ["--at", "2025-07-01T00:00:00Z"];

fn tdx(more: &[&str]) -> Outcome {
    let own = [
        "verify",
        "tdx",
        "--quote",
        QUOTE,
        "--collateral",
        COLLATERAL,
    ];
    redoubt(&[&own, AT.as_slice(), more].concat())
}

/// What a quote says of itself, by its name in `report show`.
fn shown(name: &str) -> String {
    let shown = redoubt(&["report", "show", QUOTE, "--json"]);
    let shown: Value = serde_json::from_str(&shown.text).unwrap();
    match shown["fields"][name].as_str().unwrap() {
        "zero" => "00".repeat(48),
        value => value.to_owned(),
    }
}

/// The options that expect what the quote says.
fn all() -> Vec<String> {
    let mut options = Vec::new();
    for (option, prefix, field) in [
        ("--mrtd", "", "mrtd"),
        ("--rtmr", "0=", "rtmr0"),
        ("--rtmr", "1=", "rtmr1"),
        ("--rtmr", "2=", "rtmr2"),
        ("--mrconfigid", "", "mrconfigid"),
        ("--report-data", "", "report_data"),
    ] {
        options.push(option.to_owned());
        options.push(format!("{prefix}{}", shown(field)));
    }
    options
}

fn text(options: &[String]) -> Vec<&str> {
    options.iter().map(String::as_str).collect()
}

#[test]
fn a_real_quote_with_all_its_values_is_verified() {
    let outcome = tdx(&text(&all()));
    assert_eq!(outcome.code, 0, "{}{}", outcome.text, outcome.error);
    assert_snapshot!(outcome.text, @r"
    verified
      passed       collateral validity   all current, expected current at 2025-07-01T00:00:00Z [given time]
      passed       revocation            on no list, expected not revoked [revocation lists]
      passed       FMSPC                 b0c06f000000 [collateral]
      passed       quote signature       valid, expected signed under the root by a quoting enclave that Intel's documents know [built-in Intel root]
      passed       TCB status            UpToDate [verification rules]
      not checked  TCB advisories        none (none is rejected)
      not checked  TCB evaluation        17 (no minimum given)
      passed       platform flags        dynamic, cached keys, SMT, expected any [verification rules]
      not checked  platform id           07828474603e7019dc930775ffe8cdd2 (no value given)
      passed       debug policy          off [verification rules]
      passed       migration policy      not allowed [verification rules]
      passed       SEPT_VE_DISABLE       set [verification rules]
      passed       TD attributes         0x10000000, expected no reserved bit [verification rules]
      passed       service TD            none [verification rules]
      not checked  MRSEAM                5b38e33a6487958b72c3c12a938eaa5e3fd4510c51aeeab58c7d5ecee41d7c436489d6c8e4f92f160b7cad34207b00c1 (no value given)
      not checked  XFAM                  e702060000000000 (no value given)
      passed       MRTD                  91eb2b44d141d4ece09f0c75c2c53d247a3c68edd7fafe8a3520c942a604a407de03ae6dc5f87f27428b2538873118b7 [command line]
      passed       RTMR0                 44c0197b39157fdd7a4dcc44767f9d6b0bb3977c7a8e347b8492f827fe9d9e5c48aca29b220b80b6a540cf994b9bc9c0 [command line]
      passed       RTMR1                 0084452c01668329d4bc06acdf58a7205c26743304509973949e5619bf81a6a7aea8c323c173019b3093d54e579e9378 [command line]
      passed       RTMR2                 d833feef2cd945148aa38ead2c53e9b7f138190aaaebfc551dccd829fc207aa3ba80b70870d7330733642e01d48c3132 [command line]
      not checked  RTMR3                 000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000 (no value given)
      passed       MRCONFIGID            000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000 [command line]
      not checked  MROWNER               000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000 (no value given)
      not checked  MROWNERCONFIG         000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000 (no value given)
      passed       report data           9a9d48e7f6799642d3d1b34e1e5e1742d4bb02dd6ddd551862c1211d35c304f9eca3efdbb481601c163cf52493d6e44aed55d51ec39b7e518fadb92c2b523f20 [command line]
      not checked  event log             no log given (a log that leads to the quote's RTMRs)
    not proven:
      - which machine it is: no platform id was expected
      - what the guest measured since its start: no RTMR3 was expected
      - what was measured into the RTMRs: no event log was given
      - that the workload, its image and its policy are free of faults
      - that the guest is available: a host can always stop it
    ");
}

#[test]
fn without_values_it_is_partially_verified() {
    let outcome = tdx(&[]);
    assert_eq!(outcome.code, 10, "{}", outcome.error);
    assert!(outcome.text.starts_with("partially verified\n"));
    assert!(outcome.text.contains("  - what firmware runs in the guest"));
}

#[test]
fn without_collateral_nothing_is_verified() {
    let outcome = redoubt(&["verify", "tdx", "--quote", QUOTE]);
    assert_eq!(outcome.code, 20);
    assert!(
        outcome.text.contains("no collateral given"),
        "{}",
        outcome.text
    );
}

#[test]
fn each_wrong_expectation_is_told_by_name() {
    let digest = "01".repeat(48);
    let register = |number: u8| format!("{number}={digest}");
    let registers: Vec<String> = (0..4).map(register).collect();
    for (arguments, claim) in [
        (["--mrtd", &digest], "mrtd"),
        (["--rtmr", &registers[0]], "rtmr0"),
        (["--rtmr", &registers[1]], "rtmr1"),
        (["--rtmr", &registers[2]], "rtmr2"),
        (["--rtmr", &registers[3]], "rtmr3"),
        (["--mrconfigid", &digest], "mr_config_id"),
        (["--mrowner", &digest], "mr_owner"),
        (["--mrownerconfig", &digest], "mr_owner_config"),
        (["--mrseam", &digest], "mr_seam"),
        (["--xfam", "0100000000000000"], "xfam"),
        (["--report-data", "01"], "report_data"),
        (["--platform-id", &digest[..32]], "platform_id"),
        (["--tcb-status", "OutOfDate"], "tcb_status"),
        (["--min-tcb-evaluation", "18"], "tcb_evaluation"),
        (["--require", "platform-no-smt"], "platform_flags"),
        (["--require", "platform-no-cached-keys"], "platform_flags"),
        (["--require", "platform-not-dynamic"], "platform_flags"),
    ] {
        let outcome = tdx(&[arguments.as_slice(), &["--json"]].concat());
        assert_eq!(outcome.code, 20, "{claim}: {}", outcome.error);
        let verdict: Value = serde_json::from_str(&outcome.text).unwrap();
        let failed = verdict["claims"].as_array().unwrap().iter();
        let failed: Vec<&Value> = failed
            .filter(|claim| claim["status"] == "failed")
            .map(|claim| &claim["name"])
            .collect();
        assert_eq!(failed, [claim], "{arguments:?}");
    }
    let late = [
        "verify",
        "tdx",
        "--quote",
        QUOTE,
        "--collateral",
        COLLATERAL,
    ];
    let late = redoubt(&[&late, ["--at", "2026-01-01T00:00:00Z"].as_slice()].concat());
    assert_eq!(late.code, 20);
    assert!(late.text.contains("the TCB information is current from"));
}

#[test]
fn an_event_log_is_replayed() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("ccel");
    let packed = attestation().join("event-log/testdata/attestation-rs-tdx_ccel_live2.dat.gz");
    let packed = std::fs::File::open(packed).unwrap();
    let mut decoder = flate2::read::GzDecoder::new(packed);
    std::io::copy(&mut decoder, &mut std::fs::File::create(&log).unwrap()).unwrap();
    let log = log.display().to_string();
    let own = |quote| redoubt(&["verify", "tdx", "--quote", quote, "--event-log", &log]);
    let live = own("@evidence/testdata/tdx/attestation-rs-tdx_quote_live.dat");
    assert!(live.text.contains("records lead to them"), "{}", live.text);
    let other = own(QUOTE);
    assert_eq!(other.code, 20);
    assert!(other.text.contains("records lead elsewhere in RTMR0"));
}

#[test]
fn evidence_of_either_tee_is_judged_as_a_broker_receives_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("evidence.json");
    let quote = std::fs::read(attestation().join(&QUOTE[1..])).unwrap();
    let tdx = json!({ "quote": STANDARD.encode(quote), "cc_eventlog": null });
    let path = file.display().to_string();
    let own = ["verify", "evidence", &path, "--collateral", COLLATERAL];
    for document in [
        tdx.clone(),
        json!({ "tee-evidence": { "primary_evidence": tdx, "additional_evidence": "" } }),
    ] {
        std::fs::write(&file, document.to_string()).unwrap();
        let outcome = redoubt(&[&own, AT.as_slice()].concat());
        assert_eq!(outcome.code, 10, "{}{}", outcome.text, outcome.error);
        let outcome = redoubt(&[&own[..], &AT, &text(&all())].concat());
        assert_eq!(outcome.code, 0, "{}{}", outcome.text, outcome.error);
    }
    let snp = "@verifier/testdata/trustee-e2e-snp-evidence.json";
    let snp = |at| redoubt(&["verify", "evidence", snp, "--at", at]);
    let outcome = snp("2026-06-01T00:00:00Z");
    assert_eq!(outcome.code, 10, "{}{}", outcome.text, outcome.error);
    assert_eq!(snp("2020-01-01T00:00:00Z").code, 20);
}

#[test]
fn unusable_input_has_an_exit_code_of_its_own() {
    let run = |arguments: &[&str]| {
        let outcome = redoubt(arguments);
        assert!(outcome.text.is_empty());
        format!("{}: {}", outcome.code, outcome.error)
    };
    let sgx = "@evidence/testdata/tdx/dcap-qvl-sgx_quote.dat";
    assert_snapshot!(run(&["verify", "tdx", "--quote", sgx]), @"30: [RDT-EVD-022] the quote has version 3; TDX quotes have version 4 or 5");
    assert_snapshot!(run(&["verify", "tdx", "--quote", QUOTE, "--collateral", QUOTE]), @"30: [RDT-VER-102] the TDX collateral is neither a bundle nor the JSON of a quote's collateral: expected value at line 1 column 1");
    let bundle = "@tdx-verifier/testdata/README.md";
    assert_snapshot!(run(&["verify", "tdx", "--quote", QUOTE, "--collateral", bundle]), @"30: [RDT-VER-102] the TDX collateral is neither a bundle nor the JSON of a quote's collateral: expected value at line 1 column 1");
    assert_snapshot!(run(&["verify", "tdx", "--quote", QUOTE, "--collateral", COLLATERAL, "--anchor", QUOTE]), @"30: [RDT-VER-106] the root is not one X.509 certificate in DER or PEM: unexpected ASN.1 DER tag: expected SEQUENCE, got OCTET STRING");
    assert_snapshot!(run(&["verify", "evidence", QUOTE]), @"30: [RDT-EVD-010] the evidence is not the JSON of an SNP report: expected value at line 1 column 1");
    let evidence = "@kbs-protocol/testdata/runtime-data-binding.json";
    assert_snapshot!(run(&["verify", "evidence", evidence]), @"30: [RDT-EVD-013] the evidence JSON holds neither `report` nor `attestation_report`");
    for wrong in [
        ["--mrtd", "00"],
        ["--rtmr", "4=00"],
        ["--tcb-status", "Fine"],
    ] {
        let usage = redoubt(&[["verify", "tdx", "--quote", QUOTE].as_slice(), &wrong].concat());
        assert_eq!(usage.code, 2, "{wrong:?}");
    }
}
