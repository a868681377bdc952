//! The contract of the binary with containerd, on the real binary.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use containerd_shim_protos::api::{DeleteResponse, ShutdownRequest};
use containerd_shim_protos::bootstrap_api::{BootstrapParams, BootstrapResult};
use containerd_shim_protos::shim_async::{Client, TaskClient};
use containerd_shim_protos::types::introspection::RuntimeInfo;
use protobuf::Message;
use ttrpc::context;

const SHIM: &str = env!("CARGO_BIN_EXE_containerd-shim-kata-v2");

fn shim(bundle: &Path, arguments: &[&str], input: &[u8]) -> Output {
    let stdin = bundle.join("stdin");
    fs::write(&stdin, input).unwrap();
    Command::new(SHIM)
        .args(arguments)
        .current_dir(bundle)
        .env_remove("TTRPC_ADDRESS")
        .stdin(Stdio::from(fs::File::open(stdin).unwrap()))
        .output()
        .unwrap()
}

fn bundle(config: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("config.json"), config).unwrap();
    dir
}

/// A start that keeps its socket in the bundle, as containerd 2.3 can ask for.
fn start(bundle: &Path, id: &str) -> Output {
    let message = BootstrapParams {
        instance_id: id.to_owned(),
        namespace: "default".to_owned(),
        socket_dir: Some(bundle.display().to_string()),
        ..BootstrapParams::default()
    };
    shim(
        bundle,
        &["-namespace", "default", "-id", id, "start"],
        &message.write_to_bytes().unwrap(),
    )
}

fn address(output: &Output) -> String {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    BootstrapResult::parse_from_bytes(&output.stdout)
        .unwrap()
        .address
}

fn server_pid(bundle: &Path) -> i32 {
    fs::read_to_string(bundle.join("shim.pid"))
        .unwrap()
        .parse()
        .unwrap()
}

/// True while the process runs; one that nobody has reaped does not count.
fn runs(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        !stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .starts_with(" Z")
    })
}

fn wait_for_end(pid: i32) {
    let begin = Instant::now();
    while runs(pid) {
        assert!(
            begin.elapsed() < Duration::from_secs(10),
            "the server does not end"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_version_is_printed() {
    let dir = bundle("{}");
    let output = shim(dir.path(), &["-v"], b"");
    assert!(output.status.success());
    assert!(
        String::from_utf8(output.stdout)
            .unwrap()
            .starts_with("containerd-shim-kata-v2:\n")
    );
}

#[test]
fn containerd_2_is_told_what_this_runtime_is() {
    let dir = bundle("{}");
    let output = shim(dir.path(), &["-info"], b"");
    let info = RuntimeInfo::parse_from_bytes(&output.stdout).unwrap();
    assert_eq!(info.name, "io.containerd.kata.v2");
}

#[test]
fn a_command_line_that_makes_no_sense_is_one_line() {
    let dir = bundle("{}");
    let output = shim(
        dir.path(),
        &["-namespace", "default", "-id", "../x", "start"],
        b"",
    );
    assert!(!output.status.success());
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "[RDT-SHIM-007] id ../x may hold only letters, digits, '.', '_' and '-', and at most 128 of them\n"
    );
}

#[test]
fn a_bundle_without_specification_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let output = shim(
        dir.path(),
        &["-namespace", "default", "-id", "x", "start"],
        b"",
    );
    let line = String::from_utf8(output.stderr).unwrap();
    assert!(line.starts_with("[RDT-SHIM-031] cannot read "), "{line}");
    assert_eq!(line.lines().count(), 1);
}

#[tokio::test]
async fn a_server_serves_at_once_and_ends_on_shutdown() {
    let dir = bundle("{}");
    let address = address(&start(dir.path(), "solo"));
    let pid = server_pid(dir.path());
    assert_eq!(
        fs::read_to_string(dir.path().join("address")).unwrap(),
        address
    );

    let client = TaskClient::new(Client::connect(&address).await.unwrap());
    let limit = context::with_duration(Duration::from_secs(10));
    client
        .shutdown(limit, &ShutdownRequest::default())
        .await
        .unwrap();
    wait_for_end(pid);
    assert!(
        !Path::new(address.trim_start_matches("unix://")).exists(),
        "the socket is left"
    );
}

#[test]
fn a_member_of_a_pod_gets_the_pods_address_and_no_process() {
    let sandbox = r#"{"annotations":{"io.kubernetes.cri.container-type":"sandbox"}}"#;
    let pod = bundle(sandbox);
    let pods_address = address(&start(pod.path(), "pod"));
    let member = r#"{"annotations":{"io.kubernetes.cri.container-type":"container",
                     "io.kubernetes.cri.sandbox-id":"pod"}}"#;
    fs::write(pod.path().join("config.json"), member).unwrap();
    let pid = server_pid(pod.path());
    fs::remove_file(pod.path().join("shim.pid")).unwrap();
    assert_eq!(address(&start(pod.path(), "web")), pods_address);
    assert!(
        !pod.path().join("shim.pid").exists(),
        "a second server was started"
    );

    rustix::process::kill_process(
        rustix::process::Pid::from_raw(pid).unwrap(),
        rustix::process::Signal::TERM,
    )
    .unwrap();
    wait_for_end(pid);
    let orphan = start(pod.path(), "web");
    assert_eq!(
        String::from_utf8(orphan.stderr).unwrap(),
        "[RDT-SHIM-013] container web belongs to sandbox pod, which no shim serves\n"
    );
}

#[test]
fn delete_cleans_up_after_a_killed_server() {
    let dir = bundle("{}");
    let address = address(&start(dir.path(), "crashed"));
    let pid = server_pid(dir.path());
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(pid).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    wait_for_end(pid);
    let socket = Path::new(address.trim_start_matches("unix://"));
    assert!(socket.exists());

    let bundle = dir.path().display().to_string();
    let arguments = [
        "-namespace",
        "default",
        "-id",
        "crashed",
        "-bundle",
        &bundle,
        "delete",
    ];
    let output = shim(dir.path(), &arguments, b"");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let response = DeleteResponse::parse_from_bytes(&output.stdout).unwrap();
    assert_eq!(response.exit_status, 137);
    assert!(response.exited_at.seconds > 1_700_000_000);
    assert!(!socket.exists(), "the socket is left");
}

#[test]
fn delete_kills_a_server_that_containerd_gave_up() {
    let dir = bundle("{}");
    address(&start(dir.path(), "stuck"));
    let pid = server_pid(dir.path());
    let output = shim(
        dir.path(),
        &["-namespace", "default", "-id", "stuck", "delete"],
        b"",
    );
    assert!(output.status.success());
    wait_for_end(pid);
}

#[test]
fn a_start_without_standard_input_prints_the_plain_address() {
    let dir = bundle("{}");
    let containerd = dir.path().join("containerd.sock").display().to_string();
    let arguments = [
        "-namespace",
        "default",
        "-id",
        "plain",
        "-address",
        &containerd,
        "start",
    ];
    let output = shim(dir.path(), &arguments, b"");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("unix:///run/containerd/s/"), "{text}");
    let output = shim(
        dir.path(),
        &["-namespace", "default", "-id", "plain", "delete"],
        b"",
    );
    assert!(output.status.success());
    assert!(!Path::new(text.trim_start_matches("unix://")).exists());
}
