//! The command as its users call it.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Output, Stdio};

use redoubt_evidence::psp::{ReportRequest, ReportResponse};
use serde_json::Value;

fn harness() -> Command {
    Command::new(env!("CARGO_BIN_EXE_redoubt-harness"))
}

fn run(arguments: &[&str]) -> Output {
    harness().args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A child that ends with its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_run_prints_json_junit_or_text_and_ends_with_0() {
    let json = run(&["run", "--rows", "jwe,token", "--json"]);
    assert_eq!(json.status.code(), Some(0), "{}", text(&json.stderr));
    let report: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(report["failed"], 0);
    assert_eq!(report["passed"], report["cases"].as_array().unwrap().len());
    let junit = text(&run(&["run", "--rows", "jwe", "--junit"]).stdout);
    assert!(
        junit.contains("<testsuite name=\"jwe\" tests=\"8\" failures=\"0\">"),
        "{junit}"
    );
    let plain = text(&run(&["run", "--rows", "event-log", "--only", "verifier"]).stdout);
    assert!(
        plain.contains("event-log       8 of 8 as expected"),
        "{plain}"
    );
}

#[test]
fn a_run_against_nobody_ends_with_1_and_wrong_usage_with_2() {
    let dir = tempfile::tempdir().unwrap();
    let site = dir.path().join("site").display().to_string();
    let init = run(&["init", &site]);
    assert_eq!(init.status.code(), Some(0), "{}", text(&init.stderr));
    assert!(text(&init.stdout).contains("snp-root.pem"));
    let again = run(&["init", &site]);
    assert_eq!(again.status.code(), Some(2));
    assert!(text(&again.stderr).contains("already holds"));
    let nobody = "http://127.0.0.1:1";
    let against = [
        "run",
        "--site",
        &site,
        "--against",
        nobody,
        "--only",
        "broker",
    ];
    let outcome = run(&[&against, ["--rows", "release"].as_slice()].concat());
    assert_eq!(outcome.status.code(), Some(1), "{}", text(&outcome.stderr));
    assert!(text(&outcome.stdout).contains("release         0 of 3 as expected"));
    for wrong in [
        vec!["run", "--against", nobody],
        vec!["run", "--rows", "nothing"],
        vec!["run", "--site", "/nonexistent"],
        vec!["run", "--rows", "jwe", "--only", "broker"],
        vec!["psp"],
    ] {
        assert_eq!(run(&wrong).status.code(), Some(2), "{wrong:?}");
    }
}

#[test]
fn the_secure_processor_answers_on_its_socket() {
    let dir = tempfile::tempdir().unwrap();
    let chip = dir.path().join("chip");
    redoubt_snp_simulator::SimulatedIdentity::generate_with(
        redoubt_snp_simulator::RsaBits::Rsa2048,
    )
    .unwrap()
    .store(&chip)
    .unwrap();
    let socket = dir.path().join("psp");
    let digest = "5d".repeat(48);
    let mut command = harness();
    command.args(["psp", "--launch-digest", &digest, "--chip"]);
    let child = command.arg(&chip).arg("--socket").arg(&socket);
    let mut child = Running(child.stdout(Stdio::piped()).spawn().unwrap());
    let lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
    let serving = lines
        .map_while(Result::ok)
        .any(|line| line.starts_with("serving"));
    assert!(serving);
    let mut stream = UnixStream::connect(&socket).unwrap();
    let request = ReportRequest::new([0x3C; 64]).to_bytes();
    let length = u32::try_from(request.len()).unwrap();
    stream.write_all(&length.to_le_bytes()).unwrap();
    stream.write_all(&request).unwrap();
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let mut response = vec![0; usize::try_from(u32::from_le_bytes(length)).unwrap()];
    stream.read_exact(&mut response).unwrap();
    let evidence = ReportResponse::parse(&response).unwrap();
    assert_eq!(evidence.report.launch_digest(), &[0x5D; 48]);
    assert_eq!(evidence.report.report_data(), &[0x3C; 64]);
}
