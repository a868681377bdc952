//! A key broker and its administrator, each a process of its own.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use insta::assert_snapshot;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

const POLICY: &str = "package policy\nimport rego.v1\ndefault allow := false\n\
    allow if input.redoubt.launch_digest_matched\n\
    reasons contains \"unknown launch\" if not input.redoubt.launch_digest_matched\n";

/// A broker's folder, and the broker while it runs.
struct Site {
    dir: TempDir,
    metrics: SocketAddr,
    broker: Option<Child>,
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some(mut broker) = self.broker.take() {
            // It may have ended already.
            let _ = broker.kill();
            let _ = broker.wait();
        }
    }
}

impl Site {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (address, metrics) = (free_address(), free_address());
        let home = dir.path().join("kbs");
        let mut init = redoubt();
        init.args(["kbs", "init", "--listen", &address.to_string()])
            .arg(&home);
        succeeds(&mut init);
        let config = home.join("config.toml");
        let text = fs::read_to_string(&config).unwrap();
        let text = format!("{text}\n[metrics]\nlisten = \"{metrics}\"\n");
        fs::write(&config, text).unwrap();
        let broker = redoubt()
            .args(["kbs", "serve", "--config"])
            .arg(&config)
            .env("RUST_LOG", "error")
            .spawn()
            .unwrap();
        let mut site = Self {
            dir,
            metrics,
            broker: Some(broker),
        };
        let started = Instant::now();
        while TcpStream::connect(address).is_err() {
            let ended = site.broker.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "the broker ends at once");
            assert!(started.elapsed() < Duration::from_secs(30));
            std::thread::sleep(Duration::from_millis(10));
        }
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("kbs").join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        path.display().to_string()
    }

    /// `redoubt kbs` with these arguments, for this broker.
    fn admin(&self, args: &[&str]) -> Command {
        let mut command = redoubt();
        command.arg("kbs").args(args).arg("--config");
        command.arg(self.path("config.toml"));
        command
    }

    fn ask(&self, args: &[&str]) -> String {
        succeeds(&mut self.admin(args))
    }

    /// Exit code and message of a command that fails.
    fn refused(&self, args: &[&str]) -> String {
        let text = fails(&mut self.admin(args));
        let end = text.find(" refuses (").unwrap_or(0);
        let start = text.get(..end).and_then(|head| head.rfind("key broker"));
        let folder = self.dir.path().display().to_string();
        match start {
            Some(start) => format!("{}BROKER{}", &text[..start], &text[end..]),
            None => text.replace(&folder, "DIR"),
        }
    }

    /// Asks the broker to end, and expects that it does so well.
    fn stop(&mut self) {
        let mut broker = self.broker.take().unwrap();
        let pid = Pid::from_raw(broker.id().try_into().unwrap());
        kill(pid, Signal::SIGTERM).unwrap();
        assert!(broker.wait().unwrap().success());
    }
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .unwrap()
}

fn redoubt() -> Command {
    Command::new(env!("CARGO_BIN_EXE_redoubt"))
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

fn fails(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    format!("{}: {text}", output.status.code().unwrap())
}

#[test]
fn resources_are_stored_listed_and_removed() {
    let mut site = Site::start();
    let key = site.write("key", &[7; 32]);
    assert_snapshot!(site.ask(&["put", "default/key/app", &key]), @"stored kbs:///default/key/app");
    let mut from_input = site.admin(&["put", "default/key/db", "-"]);
    let mut putting = from_input
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    putting.stdin.take().unwrap().write_all(b"secret").unwrap();
    assert!(putting.wait().unwrap().success());
    assert_snapshot!(site.ask(&["list"]), @r"
    default/key/app                                        32 bytes  policy default
    default/key/db                                          6 bytes  policy default
    ");
    let of_tenant = site.ask(&["list", "--tenant", "shop", "--json"]);
    assert_eq!(of_tenant.trim(), "[]");
    assert_snapshot!(site.ask(&["delete", "default/key/app"]), @"removed kbs:///default/key/app");
    assert_snapshot!(site.refused(&["delete", "default/key/app"]), @"1: [RDT-CLI-043] BROKER refuses (HTTP status 404): RDT-KBS-010 no such resource: it was not there");
    site.ask(&["rotate-key"]);
    let listed: Value = serde_json::from_str(&site.ask(&["list", "--json"])).unwrap();
    assert_eq!(listed[0]["path"], "default/key/db");

    let head = site.ask(&["audit", "head"]);
    site.stop();
    let log = site.path("audit.jsonl").display().to_string();
    let verified =
        succeeds(redoubt().args(["kbs", "audit", "verify", &log, "--head", head.trim()]));
    assert!(verified.contains("complete and unchanged"), "{verified}");
    let text = fs::read_to_string(&log).unwrap();
    assert!(
        text.lines()
            .last()
            .unwrap()
            .contains("\"event\":\"stopped\"")
    );
    fs::write(
        &log,
        text.replacen("resource-deleted", "resource-stored", 1),
    )
    .unwrap();
    let changed = fails(redoubt().args(["kbs", "audit", "verify", &log]));
    assert!(changed.contains("was changed"), "{changed}");
}

#[test]
fn policies_are_set_tested_shown_and_removed() {
    let site = Site::start();
    let policy = site.write("policy.rego", POLICY.as_bytes());
    let claims = site.write(
        "claims.json",
        br#"{ "redoubt": { "launch_digest_matched": true } }"#,
    );
    let others = site.write(
        "others.json",
        br#"{ "redoubt": { "launch_digest_matched": false } }"#,
    );
    let test = |input: &str| {
        let mut command = redoubt();
        command.args(["kbs", "policy", "test", &policy, "--input", input]);
        command.args(["--resource", "default/key/app"]);
        command
    };
    assert_snapshot!(succeeds(&mut test(&claims)), @"released: kbs:///default/key/app");
    assert_snapshot!(fails(&mut test(&others)), @"1: [RDT-CLI-048] the policy refuses default/key/app");
    let output = test(&others).output().unwrap();
    assert_snapshot!(String::from_utf8(output.stdout).unwrap(), @"refused: kbs:///default/key/app (unknown launch)");
    assert_snapshot!(site.ask(&["policy", "set", "strict", &policy]), @"set policy strict");
    let key = site.write("key", &[7; 32]);
    site.ask(&["put", "default/key/app", &key, "--policy", "strict"]);
    assert_eq!(
        site.ask(&["policy", "show", "strict"]).trim(),
        POLICY.trim()
    );
    assert_snapshot!(site.refused(&["policy", "delete", "strict"]), @r#"1: [RDT-CLI-043] BROKER refuses (HTTP status 400): RDT-KBS-021 change refused: policy "strict" decides on default/key/app"#);
    let broken = site.write("broken.rego", b"package policy\nallow if {");
    let refused = site.refused(&["policy", "set", "default", &broken]);
    assert!(refused.contains("RDT-KBS-021"), "{refused}");
    site.ask(&["put", "default/key/app", &key]);
    site.ask(&["policy", "delete", "strict"]);
    let listed = site.ask(&["policy", "list"]);
    assert!(!listed.contains("strict"), "{listed}");
}

#[test]
fn reference_values_come_from_measure_and_from_trustees_form() {
    let site = Site::start();
    let firmware = site.write(
        "amdsev.fd",
        include_bytes!("../../firmware/testdata/ovmf_AmdSev_suffix.bin"),
    );
    let kernel = site.write("kernel", b"a kernel");
    let measure = |format: &str| {
        let mut command = redoubt();
        command.args([
            "measure",
            "snp",
            "--firmware",
            &firmware,
            "--kernel",
            &kernel,
        ]);
        command.args([
            "--kernel-format",
            "any",
            "--vcpus",
            "1..2",
            "--format",
            format,
        ]);
        succeeds(&mut command)
    };
    let values = site.write("values.json", measure("redoubt").as_bytes());
    assert_snapshot!(site.ask(&["reference", "import", "release-1", &values]), @"2 values in release-1");
    let listed: Value = serde_json::from_str(&site.ask(&["reference", "list", "--json"])).unwrap();
    let digests: Vec<_> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|value| value["launch_digest"].as_str().unwrap())
        .collect();
    let mut measured: Vec<String> = measure("bare").lines().map(str::to_owned).collect();
    measured.sort();
    let mut known = digests.clone();
    known.sort_unstable();
    assert_eq!(known, measured);

    let rvps = format!(
        "{{ \"snp_launch_measurement\": [\"{}\"], \"other\": [1] }}",
        "ab".repeat(48)
    );
    let rvps = site.write("rvps.json", rvps.as_bytes());
    let refused = site.refused(&["reference", "import", "old", &rvps]);
    assert!(refused.contains("would be left out: other"), "{refused}");
    let imported = site.ask(&["reference", "import", "old", &rvps, "--ignore-others"]);
    assert_snapshot!(imported, @r"
    1 values in old
    left out: other
    ");
    site.ask(&["reference", "delete", "release-1"]);
    let listed = site.ask(&["reference", "list"]);
    assert!(
        listed.starts_with("old ") && listed.lines().count() == 1,
        "{listed}"
    );
}

#[test]
fn who_is_no_administrator_is_refused_and_counted() {
    let site = Site::start();
    let other = tempfile::tempdir().unwrap();
    let home = other.path().join("kbs");
    succeeds(redoubt().args(["kbs", "init"]).arg(&home));
    let key = home.join("admin-key.pem").display().to_string();
    let refused = site.refused(&["list", "--key", &key]);
    assert_snapshot!(refused, @"1: [RDT-CLI-043] BROKER refuses (HTTP status 401): RDT-KBS-018 no administrator");
    let mut nobody = redoubt();
    nobody.args(["kbs", "list"]);
    assert_snapshot!(fails(&mut nobody), @"1: [RDT-CLI-040] it is not said which key broker is meant (hint: give --config FILE for a broker on this machine, or --url with --certificate and --key)");
    let pinned = site.refused(&["list", "--certificate", &tls_of(&home)]);
    assert!(pinned.contains("RDT-CLI-042"), "{pinned}");
    let metrics = metrics(site.metrics);
    let line = "redoubt_kbs_requests_total{endpoint=\"admin\",status=\"401\"} 1";
    assert!(metrics.contains(line), "{metrics}");
}

fn tls_of(home: &Path) -> String {
    home.join("tls-cert.pem").display().to_string()
}

fn metrics(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let request = format!("GET /metrics HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
