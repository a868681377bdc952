//! `redoubt verify` and `redoubt report` on real reports, as users call them.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::path::PathBuf;
use std::process::Command;

use insta::assert_snapshot;
use serde_json::Value;

/// What a command printed, and how it ended.
struct Outcome {
    code: i32,
    text: String,
    error: String,
}

fn testdata(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    folder.join("../attestation/verifier/testdata").join(name)
}

/// Runs the command; an argument that begins with `@` is a file of the test data.
fn redoubt(arguments: &[&str]) -> Outcome {
    let mut command = Command::new(env!("CARGO_BIN_EXE_redoubt"));
    for argument in arguments {
        match argument.strip_prefix('@') {
            Some(name) => command.arg(testdata(name)),
            None => command.arg(argument),
        };
    }
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let folder = testdata("").display().to_string();
    Outcome {
        code: output.status.code().unwrap(),
        text: text(output.stdout),
        error: text(output.stderr).replace(&folder, "DATA/"),
    }
}

const GENOA: [&str; 6] = [
    "verify",
    "snp",
    "--report",
    "@attestation-rs-live-report-v5-genoa.bin",
    "--vek",
    "@attestation-rs-live-vcek-genoa.der",
];
const GENOA_DIGEST: &str = "d9912ba396ce409c2947841d93a5076b6839b898c22b4aae05edb3b2b058a99927f8cf9a4f8617ee695deb14795496c8";
const HELLO: &str = "68656c6c6f2d6174746573746174696f6e";
const ZERO: &str = "0000000000000000000000000000000000000000000000000000000000000000";

fn genoa(more: &[&str]) -> Outcome {
    let at = ["--at", "2026-06-01T12:00:00Z"];
    redoubt(&[&GENOA, at.as_slice(), more].concat())
}

/// Everything that a real guest reported, as its owner would expect it.
fn all_of_genoa() -> Vec<&'static str> {
    vec![
        "--launch-digest",
        GENOA_DIGEST,
        "--report-data",
        HELLO,
        "--host-data",
        ZERO,
    ]
}

#[test]
fn a_real_report_with_all_its_values_is_verified() {
    let outcome = genoa(&all_of_genoa());
    assert_eq!(outcome.code, 0, "{}{}", outcome.text, outcome.error);
    assert_snapshot!(outcome.text, @r#"
    verified
      passed       report version        5, expected 3 or 5 [verification rules]
      passed       signing key           a VCEK certificate [AMD 56860]
      passed       certificate chain     SEV-VCEK < SEV-Genoa < ARK-Genoa, expected a chain to ARK-Milan, ARK-Genoa, ARK-Turin [built-in AMD root]
      passed       certificate validity  all valid, expected valid at 2026-06-01T12:00:00Z [given time]
      not checked  revocation            no list given (not revoked)
      passed       product               report Genoa, certificate "Genoa", expected Genoa [built-in AMD root]
      passed       certificate TCB       bootloader 10, tee 0, snp 27, microcode 27 [AMD 56860]
      passed       hardware id           b5f9a4c8280e63c97d288db6648577dc2b848884aa682d7a227ba40e50deb2b0d112b599d87aaccda78d06f4254b1e81c4d953ef3c699db39d4e06013e9fa4ce [AMD 56860]
      passed       signature             valid, expected by the VCEK, ECDSA P-384 with SHA-384 [AMD 56860]
      not checked  reported TCB          bootloader 10, tee 0, snp 27, microcode 27 (no minimum given)
      not checked  committed TCB         bootloader 10, tee 0, snp 27, microcode 27 (no minimum given)
      not checked  launch TCB            bootloader 10, tee 0, snp 27, microcode 27 (no minimum given)
      passed       VMPL                  0 [verification rules]
      passed       debug policy          not allowed [verification rules]
      passed       migration policy      not allowed [verification rules]
      passed       SMT policy            allowed, expected any [verification rules]
      passed       single-socket policy  not required, expected any [verification rules]
      passed       CXL policy            not allowed [verification rules]
      passed       AES-256-XTS policy    not required, expected any [verification rules]
      passed       RAPL policy           not required, expected any [verification rules]
      passed       ciphertext policy     not required, expected any [verification rules]
      passed       page-swap policy      not required, expected any [verification rules]
      passed       reserved bits         as specified [AMD 56860]
      passed       alias check           complete, expected any [verification rules]
      passed       platform SMT          on, expected any [verification rules]
      passed       platform TSME         off, expected any [verification rules]
      passed       platform ECC          on, expected any [verification rules]
      passed       platform RAPL         on, expected any [verification rules]
      passed       platform ciphertext   off, expected any [verification rules]
      passed       launch digest         d9912ba396ce409c2947841d93a5076b6839b898c22b4aae05edb3b2b058a99927f8cf9a4f8617ee695deb14795496c8 [command line]
      passed       host data             0000000000000000000000000000000000000000000000000000000000000000 [command line]
      passed       report data           68656c6c6f2d6174746573746174696f6e0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000 [command line]
      not checked  chip id               b5f9a4c8280e63c97d288db6648577dc2b848884aa682d7a227ba40e50deb2b0d112b599d87aaccda78d06f4254b1e81c4d953ef3c699db39d4e06013e9fa4ce (no value given)
      not checked  id key digest         000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000 (no value given)
      not checked  author key digest     000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000 (no value given)
    not proven:
      - that no certificate was revoked: no revocation list was given
      - that the firmware is current: no minimum TCB was given
      - which machine it is: no chip id was expected
      - that the workload, its image and its policy are free of faults
      - that the guest is available: a host can always stop it
    "#);
}

#[test]
fn without_values_it_is_partially_verified() {
    let outcome = genoa(&[]);
    assert_eq!(outcome.code, 10, "{}", outcome.error);
    assert!(outcome.text.starts_with("partially verified\n"));
    assert!(outcome.text.contains("  - what runs in the guest"));
}

#[test]
fn each_wrong_expectation_is_told_by_name() {
    let chip = "01".repeat(64);
    let digest = "01".repeat(48);
    for (arguments, claim) in [
        (["--report-data", "01"], "report_data"),
        (["--launch-digest", &digest], "launch_digest"),
        (["--chip-id", &chip], "chip_id"),
        (["--id-key-digest", &digest], "id_key_digest"),
        (["--author-key-digest", &digest], "author_key_digest"),
        (["--min-tcb", "microcode=28"], "reported_tcb"),
        (["--min-abi", "1.55"], "abi_policy"),
        (["--min-guest-svn", "1"], "guest_svn"),
        (["--require", "no-smt"], "smt_policy"),
        (["--require", "platform-tsme"], "platform_tsme"),
        (["--at", "2100-01-01T00:00:00Z"], "certificate_validity"),
    ] {
        let mut all = vec!["--json"];
        all.extend(arguments);
        let outcome = match arguments {
            ["--at", _] => redoubt(&[&GENOA, all.as_slice()].concat()),
            _ => genoa(&all),
        };
        assert_eq!(outcome.code, 20, "{claim}: {}", outcome.error);
        let verdict: Value = serde_json::from_str(&outcome.text).unwrap();
        assert_eq!(verdict["state"], "not_verified");
        let failed = verdict["claims"].as_array().unwrap().iter();
        let failed: Vec<_> = failed.filter(|claim| claim["status"] == "failed").collect();
        assert!(
            failed.iter().any(|failed| failed["name"] == claim),
            "{claim}: {failed:?}"
        );
    }
}

#[test]
fn reference_values_name_their_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("release-1.json");
    let host_data = "07".repeat(32);
    let with_host_data = |host_data: &str| {
        format!(
            r#"{{"version":1,"values":[{{"tee":"snp","launch_digest":"{GENOA_DIGEST}","host_data":"{host_data}"}}]}}"#
        )
    };
    std::fs::write(&file, with_host_data(ZERO)).unwrap();
    let file = file.display().to_string();
    let arguments = ["--report-data", HELLO, "--reference", &file];
    let outcome = genoa(&arguments);
    assert_eq!(outcome.code, 0, "{}", outcome.text);
    assert!(outcome.text.contains("[release-1.json#0]"));
    std::fs::write(&file, with_host_data(&host_data)).unwrap();
    let outcome = genoa(&arguments);
    assert_eq!(outcome.code, 20);
    std::fs::write(&file, "{}").unwrap();
    let outcome = genoa(&arguments);
    assert_eq!(outcome.code, 30, "{}", outcome.text);
    assert!(
        outcome.error.starts_with("[RDT-VER-031]"),
        "{}",
        outcome.error
    );
}

#[test]
fn the_vlek_report_needs_its_vmpl_and_its_time() {
    let vlek = |more: &[&str]| {
        let own = [
            "verify",
            "snp",
            "--report",
            "@trustee-test-vlek-report.bin",
            "--vek",
            "@trustee-test-vlek.der",
        ];
        redoubt(&[&own, more].concat())
    };
    let in_time = ["--at", "2025-11-01T00:00:00Z"];
    assert_eq!(vlek(&in_time).code, 20);
    let allowed = vlek(&[&in_time, ["--max-vmpl", "1"].as_slice()].concat());
    assert_eq!(allowed.code, 10, "{}", allowed.text);
    let late = vlek(&["--max-vmpl", "1", "--at", "2026-06-01T00:00:00Z"]);
    assert_eq!(late.code, 20);
    assert!(
        late.text.contains("SEV-VLEK is valid from"),
        "{}",
        late.text
    );
}

#[test]
fn version_2_is_accepted_only_where_it_is_allowed() {
    let milan = [
        "verify",
        "snp",
        "--report",
        "@trustee-test-report.bin",
        "--vek",
        "@trustee-test-vcek.der",
        "--at",
        "2026-06-01T12:00:00Z",
    ];
    assert_eq!(redoubt(&milan).code, 20);
    let allowed = redoubt(&[&milan, ["--allow", "version2"].as_slice()].concat());
    assert_eq!(allowed.code, 10, "{}", allowed.text);
}

#[test]
fn a_certificate_of_another_chip_or_none_is_not_enough() {
    let report = &GENOA[..4];
    let none = redoubt(report);
    assert_eq!(none.code, 20);
    assert!(none.text.contains("no VCEK certificate"), "{}", none.text);
    let other = redoubt(&[report, ["--vek", "@trustee-test-vcek.der"].as_slice()].concat());
    assert_eq!(other.code, 20);
}

#[test]
fn unusable_input_has_an_exit_code_of_its_own() {
    let run = |arguments: &[&str]| {
        let outcome = redoubt(arguments);
        assert!(outcome.text.is_empty());
        format!("{}: {}", outcome.code, outcome.error)
    };
    assert_snapshot!(run(&["verify", "snp", "--report", "@sev-vcek_turin.der"]), @"30: [RDT-EVD-001] the SNP report is 1289 bytes long, expected 1184 (hint: give the raw report as /dev/sev-guest or configfs-tsm's outblob returns it)");
    assert_snapshot!(run(&["verify", "snp", "--report", "@none.bin"]), @r#"30: [RDT-CLI-001] cannot read "DATA/none.bin": No such file or directory (os error 2)"#);
    assert_snapshot!(run(&[&GENOA[..5], &["@trustee-test-report.bin"]].concat()), @"30: [RDT-VER-002] the certificate is not valid DER of an X.509 certificate: unexpected ASN.1 DER tag: expected SEQUENCE, got INTEGER");
    assert_snapshot!(run(&[&GENOA[..], &["--collateral", "@README.md"]].concat()), @"30: [RDT-VER-024] the collateral bundle is not the JSON of one: expected value at line 1 column 1 (hint: a bundle is made by `redoubt collateral export`)");
    let usage = redoubt(&["verify", "snp", "--report", "x", "--report-data", "xyz"]);
    assert_eq!(usage.code, 2);
}

#[test]
fn a_report_is_shown_field_by_field() {
    let outcome = redoubt(&["report", "show", "@attestation-rs-live-report-v5-genoa.bin"]);
    assert_eq!(outcome.code, 0);
    assert_snapshot!(outcome.text, @r"
    version                5
    product                Genoa (family 0x19, model 0xa0, stepping 2)
    vmpl                   0
    launch digest          d9912ba396ce409c2947841d93a5076b6839b898c22b4aae05edb3b2b058a99927f8cf9a4f8617ee695deb14795496c8
    host data              0000000000000000000000000000000000000000000000000000000000000000
    report data            68656c6c6f2d6174746573746174696f6e0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000
    guest policy           0x30000: ABI at least 0.0, SMT allowed, migration agent not allowed, debug not allowed, single socket not required, CXL not allowed, AES-256-XTS not required, RAPL off not required, ciphertext hiding not required, page swap allowed
    platform info          0x25: SMT on, TSME off, ECC on, RAPL on, ciphertext hiding off, alias check complete, trusted I/O off
    guest svn              0
    family id              00000000000000000000000000000000
    image id               00000000000000000000000000000000
    id key digest          none
    author key digest      none
    report id              7361aad95cf77168e008a7bf382dfa8cf4e22c914e63666e89dfe794e74087f5
    migration agent id     none
    chip id                b5f9a4c8280e63c97d288db6648577dc2b848884aa682d7a227ba40e50deb2b0d112b599d87aaccda78d06f4254b1e81c4d953ef3c699db39d4e06013e9fa4ce
    reported tcb           bootloader 10, tee 0, snp 27, microcode 27
    current tcb            bootloader 10, tee 0, snp 27, microcode 27
    committed tcb          bootloader 10, tee 0, snp 27, microcode 27
    launch tcb             bootloader 10, tee 0, snp 27, microcode 27
    current firmware       1.55.49
    committed firmware     1.55.49
    launch mitigations     0xb
    current mitigations    0xb
    signing key            VCEK
    signature algorithm    ECDSA P-384 with SHA-384
    signature r            aa5bd42ecef076a4501bada2fb798f76721461940a192a04d51ba1498d4e6b68b8b11f8f2f60e5bd8580d0b3461b2d04
    signature s            e590fc8faad9ee72d377d4718ed05263f3e9b275f5accb74f8e29c073d4e314d78a69341e028e06821a56dcbc4f838ea

    not verified: this is what the evidence says of itself
    ");
}

#[test]
fn evidence_and_quotes_are_shown_as_well() {
    let evidence = redoubt(&["report", "show", "@trustee-e2e-snp-evidence.json", "--json"]);
    let shown: Value = serde_json::from_str(&evidence.text).unwrap();
    assert_eq!(shown["tee"], "snp");
    assert_eq!(shown["verified"], false);
    assert_eq!(shown["fields"]["version"], "3");
    assert!(
        shown["certificates"][0]
            .as_str()
            .unwrap()
            .starts_with("VCEK")
    );
    let quote = "@../../evidence/testdata/tdx/tdx_quote_5.dat";
    let quote = redoubt(&["report", "show", quote]);
    assert!(quote.text.contains("mrtd                   dfba221b48a2"));
    let sgx = "@../../evidence/testdata/tdx/dcap-qvl-sgx_quote.dat";
    let sgx = redoubt(&["report", "show", sgx]);
    assert_eq!(sgx.code, 5);
    assert_snapshot!(sgx.error, @"[RDT-EVD-022] the quote has version 3; TDX quotes have version 4 or 5");
}
