//! `redoubt collateral` against local services, and verification from its bundle alone.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use insta::assert_snapshot;

/// What a command printed, and how it ended.
struct Outcome {
    code: i32,
    text: String,
    error: String,
}

fn attestation(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../attestation")
        .join(name)
}

/// Runs the command in a folder; an argument that begins with `@` is a file below `attestation`.
fn redoubt(dir: &Path, arguments: &[&str]) -> Outcome {
    let mut command = Command::new(env!("CARGO_BIN_EXE_redoubt"));
    command.current_dir(dir).env("XDG_CACHE_HOME", dir);
    for argument in arguments {
        match argument.strip_prefix('@') {
            Some(name) => command.arg(attestation(name)),
            None => command.arg(argument),
        };
    }
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Outcome {
        code: output.status.code().unwrap(),
        text: text(output.stdout),
        error: text(output.stderr),
    }
}

/// A server that holds what AMD's and Intel's do; each path can be busy at first.
#[derive(Clone, Default)]
struct Services {
    documents: Arc<HashMap<&'static str, (String, Vec<u8>)>>,
    busy: Arc<Mutex<HashMap<&'static str, &'static str>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Services {
    fn new() -> Self {
        let file = |name| std::fs::read(attestation(name)).unwrap();
        let signers = file("verifier/testdata/tdx/tcb_signing_chain.pem");
        let mut encoded = String::new();
        for byte in &signers {
            encoded.push('%');
            encoded.push_str(&hex::encode_upper([*byte]));
        }
        let chain = |name: &str| format!("{name}: {encoded}\r\n");
        let documents = [
            (
                "/vcek/v1/Genoa/b5f9",
                String::new(),
                file("verifier/testdata/attestation-rs-live-vcek-genoa.der"),
            ),
            (
                "/vcek/v1/Genoa/cert_chain",
                String::new(),
                file("verifier/roots/genoa_ask_ark_asvk.pem"),
            ),
            (
                "/tdx/certification/v4/tcb?fmspc=50806f000000",
                chain("TCB-Info-Issuer-Chain"),
                file("verifier/testdata/tdx/tcb_info_50806f000000.json"),
            ),
            (
                "/tdx/certification/v4/qe/identity",
                chain("SGX-Enclave-Identity-Issuer-Chain"),
                file("verifier/testdata/tdx/td_qe_identity.json"),
            ),
            (
                "/sgx/certification/v4/pckcrl?ca=platform",
                chain("SGX-PCK-CRL-Issuer-Chain"),
                file("verifier/testdata/tdx/pck_crl_platform.der"),
            ),
            (
                "/IntelSGXRootCA.der",
                String::new(),
                file("verifier/testdata/tdx/root_ca_crl.der"),
            ),
        ];
        let documents = documents.map(|(path, headers, body)| (path, (headers, body)));
        Self {
            documents: Arc::new(documents.into()),
            ..Self::default()
        }
    }

    /// Answers one request for this path with a status of that kind, before it answers truly.
    fn busy(self, path: &'static str, status: &'static str) -> Self {
        self.busy.lock().unwrap().insert(path, status);
        self
    }

    fn start(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let services = self.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                services.answer(stream);
            }
        });
        format!("http://{address}")
    }

    fn answer(&self, mut stream: TcpStream) {
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        let first = lines.next().unwrap().unwrap();
        for line in lines {
            if line.unwrap().is_empty() {
                break;
            }
        }
        let path = first.split(' ').nth(1).unwrap();
        self.asked.lock().unwrap().push(path.to_owned());
        let mut busy = self.busy.lock().unwrap();
        let first = busy.keys().find(|key| path.starts_with(**key)).copied();
        let (status, headers, body) = if let Some(key) = first {
            let status = busy.remove(key).unwrap();
            (status, "retry-after: 1\r\n", b"".as_slice())
        } else {
            let found = self
                .documents
                .iter()
                .find(|(key, _)| path.starts_with(**key));
            match found {
                Some((_, (headers, body))) => ("200 OK", headers.as_str(), body.as_slice()),
                None => ("404 Not Found", "", b"".as_slice()),
            }
        };
        let head = format!(
            "HTTP/1.1 {status}\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        );
        // The client may have gone.
        let _ = stream.write_all(&[head.as_bytes(), body].concat());
    }
}

const REPORT: &str = "@verifier/testdata/attestation-rs-live-report-v5-genoa.bin";
const QUOTE: &str = "@evidence/testdata/tdx/tdx_quote_4.dat";

/// What a quote needs, and what is there of a report: AMD's list is not among the test data.
const WANTED: [&str; 4] = ["--quote", QUOTE, "--id", "snp/chain/Genoa/vcek"];

fn vcek_id() -> String {
    let bytes = std::fs::read(attestation(&REPORT[1..])).unwrap();
    let chip = hex::encode(&bytes[0x1A0..0x1E0]);
    format!("snp/vcek/Genoa/{chip}/10-0-27-27")
}

#[test]
fn a_bundle_is_fetched_through_busy_services_and_verifies_alone() {
    let dir = tempfile::tempdir().unwrap();
    let services = Services::new()
        .busy("/tdx/certification/v4/qe/", "429 Too Many Requests")
        .busy("/vcek/v1/Genoa/cert_chain", "503 Service Unavailable");
    let url = services.start();
    let id = vcek_id();
    let own = [
        "collateral",
        "export",
        "--kds",
        &url,
        "--pcs",
        &url,
        "-o",
        "b.json",
    ];
    let export = redoubt(
        dir.path(),
        &[&own, WANTED.as_slice(), &["--id", &id]].concat(),
    );
    assert_eq!(export.code, 0, "{}", export.error);
    assert_eq!(services.asked.lock().unwrap().len(), 8, "two of six twice");
    let text = export.text.replace(&id[15..143], "CHIP");
    assert_snapshot!(text, @r"
    snp/chain/Genoa/vcek  6936 bytes
    snp/vcek/Genoa/CHIP/10-0-27-27  1347 bytes
    tdx/pck-crl/platform  3354 bytes, current until 2026-04-15T22:34:05Z
    tdx/qe-identity  624 bytes, current until 2026-04-15T22:16:03Z
    tdx/root-ca-crl  294 bytes, current until 2027-02-26T13:04:00Z
    tdx/tcb-info/50806f000000  6406 bytes, current until 2026-04-15T22:21:30Z
    ");

    let at = ["--at", "2026-04-01T12:00:00Z", "--collateral", "b.json"];
    let report = ["verify", "snp", "--report", REPORT];
    let report = redoubt(dir.path(), &[&report, at.as_slice()].concat());
    assert_eq!(report.code, 10, "{}{}", report.text, report.error);
    let quote = ["verify", "tdx", "--quote", QUOTE, "--allow", "debug"];
    let quote = [&quote, ["--tcb-status", "OutOfDate"].as_slice(), &at].concat();
    let quote = redoubt(dir.path(), &quote);
    assert_eq!(quote.code, 10, "{}{}", quote.text, quote.error);

    // Another machine without a network: import, then export from the cache.
    let far = tempfile::tempdir().unwrap();
    std::fs::copy(dir.path().join("b.json"), far.path().join("b.json")).unwrap();
    let import = redoubt(far.path(), &["collateral", "import", "b.json"]);
    assert_eq!((import.code, import.text), (0, export.text.clone()));
    let own = ["collateral", "export", "--offline", "-o", "c.json"];
    let again = redoubt(
        far.path(),
        &[&own, WANTED.as_slice(), &["--id", &id]].concat(),
    );
    assert_eq!((again.code, &again.text), (0, &export.text));
    let bytes = |name| std::fs::read(far.path().join(name)).unwrap();
    assert_eq!(bytes("b.json"), bytes("c.json"));
    let show = redoubt(far.path(), &["collateral", "show", "c.json"]);
    assert_eq!(show.text, export.text);
}

#[test]
fn what_is_in_the_cache_is_not_asked_for_again() {
    let dir = tempfile::tempdir().unwrap();
    let services = Services::new();
    let url = services.start();
    let own = ["collateral", "export", "--kds", &url, "-o", "b.json"];
    let own = [&own, ["--id", "snp/chain/Genoa/vcek"].as_slice()].concat();
    for _ in 0..3 {
        assert_eq!(redoubt(dir.path(), &own).code, 0);
    }
    assert_eq!(services.asked.lock().unwrap().len(), 1);
}

#[test]
fn failures_leave_no_bundle_and_say_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let url = Services::new().start();
    let run = |more: &[&str]| {
        let own = [
            "collateral",
            "export",
            "--kds",
            &url,
            "--pcs",
            &url,
            "-o",
            "b.json",
        ];
        let outcome = redoubt(dir.path(), &[&own, more].concat());
        assert!(outcome.text.is_empty());
        assert!(!dir.path().join("b.json").exists());
        format!("{}: {}", outcome.code, outcome.error)
    };
    // The service of this test has no revocation list of AMD's.
    assert_snapshot!(run(&["--report", REPORT]), @"5: [RDT-COL-006] AMD's key distribution service does not know snp/crl/Genoa/vcek");
    assert_snapshot!(run(&[]), @"1: [RDT-CLI-102] nothing says what to export (hint: give --report, --quote or --id)");
    assert_snapshot!(run(&["--offline", "--quote", QUOTE]), @"1: [RDT-CLI-101] tdx/tcb-info/50806f000000 is not in the cache (hint: export without --offline, or import a bundle)");
    let milan = "@verifier/testdata/trustee-test-report.bin";
    assert_snapshot!(run(&["--report", milan]), @"1: [RDT-CLI-103] the report does not say which processor line it is of (hint: give --product milan, genoa or turin)");
    assert_snapshot!(run(&["--report", milan, "--product", "milan"]).replace(&milan_chip(), "CHIP"), @"5: [RDT-COL-006] AMD's key distribution service does not know snp/vcek/Milan/CHIP/3-0-8-115 (hint: AMD knows no chip with this id and TCB: is the report of real hardware, and of this product?)");
    assert_snapshot!(run(&["--id", "tdx/pck-crl/processor"]), @"5: [RDT-COL-006] Intel's provisioning certification service does not know tdx/pck-crl/processor");
    let import = redoubt(dir.path(), &["collateral", "import", QUOTE]);
    assert_snapshot!(format!("{}: {}", import.code, import.error), @"5: [RDT-VER-024] the collateral bundle is not the JSON of one: expected value at line 1 column 1 (hint: a bundle is made by `redoubt collateral export`)");
    assert_eq!(
        redoubt(
            dir.path(),
            &["collateral", "export", "-o", "b", "--id", "x"]
        )
        .code,
        2
    );
}

fn milan_chip() -> String {
    let bytes = std::fs::read(attestation("verifier/testdata/trustee-test-report.bin")).unwrap();
    hex::encode(&bytes[0x1A0..0x1E0])
}
