//! A broker that is killed at any moment keeps every write that it acknowledged.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use redoubt_kbs_protocol::ResourcePath;
use redoubt_kbs_server::{
    AdminClaims, AdminRole, AdminSigner, EmbeddedStorage, Tenant, verify_audit_log,
};
use reqwest::{Method, StatusCode};

/// How often the broker is killed, at least.
const CUTS: usize = 50;

/// How often it is killed at most, where a slow machine acknowledges little in between.
const MOST_CUTS: usize = 4 * CUTS;

/// How many acknowledged writes make a load.
const LOAD: usize = 2 * CUTS;

/// How many write at the same time.
const WRITERS: usize = 4;

/// Longest time under load before a cut, in milliseconds.
const LOAD_MS: u64 = 160;

/// What a resource may hold: one state after an acknowledged write, two or more
/// after writes of which nobody knows what became of them.
type Possible = Vec<Option<Vec<u8>>>;

/// A broker's folder.
struct Site {
    dir: tempfile::TempDir,
    address: SocketAddr,
}

impl Site {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let address = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .unwrap();
        let site = Self { dir, address };
        let status = Command::new(env!("CARGO_BIN_EXE_redoubt"))
            .args(["kbs", "init", "--listen", &address.to_string()])
            .arg(site.path(""))
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success());
        let config = std::fs::read_to_string(site.path("config.toml")).unwrap();
        let config = config
            .replace("requests_per_second = 50", "requests_per_second = 100000")
            .replace("burst = 200", "burst = 100000");
        std::fs::write(site.path("config.toml"), config).unwrap();
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("kbs").join(name)
    }

    fn start(&self) -> Child {
        let mut child = Command::new(env!("CARGO_BIN_EXE_redoubt"))
            .args(["kbs", "serve", "--config"])
            .arg(self.path("config.toml"))
            .env("RUST_LOG", "error")
            .spawn()
            .unwrap();
        let started = Instant::now();
        while TcpStream::connect(self.address).is_err() {
            assert!(
                child.try_wait().unwrap().is_none(),
                "the broker does not start"
            );
            assert!(
                started.elapsed() < Duration::from_secs(20),
                "the broker is silent"
            );
            std::thread::sleep(Duration::from_millis(2));
        }
        child
    }

    fn storage(&self) -> EmbeddedStorage {
        EmbeddedStorage::open(&self.path("broker.redb"), &self.path("storage-key")).unwrap()
    }
}

/// Writes to resources of its own, and knows what each may hold.
struct Writer {
    http: reqwest::Client,
    url: String,
    signer: AdminSigner,
    number: usize,
    writes: usize,
    acknowledged: usize,
    possible: BTreeMap<String, Possible>,
}

impl Writer {
    fn new(site: &Site, number: usize) -> Self {
        let pem = std::fs::read_to_string(site.path("tls-cert.pem")).unwrap();
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(redoubt_kbs_client::tls_config(Some(&pem)).unwrap())
            .build()
            .unwrap();
        Self {
            http,
            url: format!("https://{}/kbs/v0/resource", site.address),
            signer: AdminSigner::load(&site.path("admin-key.pem")).unwrap(),
            number,
            writes: 0,
            acknowledged: 0,
            possible: BTreeMap::new(),
        }
    }

    /// Writes until the broker does not answer any more.
    async fn run(&mut self) {
        while self.write().await {}
    }

    async fn write(&mut self) -> bool {
        self.writes += 1;
        let path = format!("load/writer-{}/{}", self.number, self.writes % 6);
        let possible = self
            .possible
            .entry(path.clone())
            .or_insert_with(|| vec![None]);
        let is_there = possible.iter().all(Option::is_some);
        let (method, value) = if is_there && self.writes.is_multiple_of(5) {
            (Method::DELETE, None)
        } else {
            let size = self.writes % 3 * 2000;
            let text = format!("{} {}{}", self.number, self.writes, " ".repeat(size));
            (Method::POST, Some(text.into_bytes()))
        };
        // From here on either state may be found.
        possible.push(value.clone());
        let now_s = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
        let claims = AdminClaims::new("load", AdminRole::Admin, now_s, 60);
        let answer = self
            .http
            .request(method, format!("{}/{path}", self.url))
            .bearer_auth(self.signer.sign(&claims).as_str())
            .body(value.clone().unwrap_or_default())
            .send()
            .await;
        let Ok(answer) = answer else { return false };
        assert_eq!(answer.status(), StatusCode::OK);
        self.acknowledged += 1;
        self.possible.insert(path, vec![value]);
        true
    }

    /// Compares what is there with what may be there.
    fn check(&mut self, storage: &EmbeddedStorage) {
        for (path, possible) in &mut self.possible {
            let parsed = ResourcePath::parse(path).unwrap();
            let found = storage.resource(&Tenant::default(), &parsed).unwrap();
            let found = found.map(|bytes| bytes.to_vec());
            assert!(
                possible.contains(&found),
                "{path}: {found:?} of {possible:?}"
            );
            *possible = vec![found];
        }
    }
}

#[test]
fn every_acknowledged_write_survives_50_kills_and_the_audit_chain_verifies() {
    let site = Site::new();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let mut writers: Vec<Writer> = (0..WRITERS).map(|n| Writer::new(&site, n)).collect();
    let acknowledged =
        |writers: &[Writer]| -> usize { writers.iter().map(|w| w.acknowledged).sum() };
    let (mut cuts, mut busy_cuts) = (0, 0);
    while cuts < CUTS || (acknowledged(&writers) <= LOAD && cuts < MOST_CUTS) {
        let before = acknowledged(&writers);
        let mut child = site.start();
        writers = runtime.block_on(async {
            let tasks: Vec<_> = writers
                .into_iter()
                .map(|mut writer| {
                    tokio::spawn(async move {
                        writer.run().await;
                        writer
                    })
                })
                .collect();
            tokio::time::sleep(random_pause()).await;
            child.kill().unwrap();
            child.wait().unwrap();
            let mut writers = Vec::new();
            for task in tasks {
                writers.push(task.await.unwrap());
            }
            writers
        });
        let storage = site.storage();
        for writer in &mut writers {
            writer.check(&storage);
        }
        cuts += 1;
        busy_cuts += usize::from(acknowledged(&writers) > before);
    }
    stop(site.start());
    let acknowledged = acknowledged(&writers);
    assert!(
        acknowledged > LOAD,
        "only {acknowledged} writes were acknowledged"
    );
    check_audit(&site.path("audit.jsonl"), acknowledged, busy_cuts, cuts);
}

/// Every acknowledged write is on record, every start that came to one, and the stop.
/// A broker that is killed while it starts leaves no record.
fn check_audit(path: &Path, acknowledged: usize, busy_cuts: usize, cuts: usize) {
    let head = verify_audit_log(path, None).unwrap();
    let log = std::fs::read_to_string(path).unwrap();
    let count = |event: &str| log.matches(&format!("\"event\":\"{event}\"")).count();
    assert_eq!(log.lines().count() as u64, head.records);
    assert!(count("resource-stored") + count("resource-deleted") >= acknowledged);
    assert!((busy_cuts + 1..=cuts + 1).contains(&count("started")));
    assert_eq!(count("stopped"), 1);
}

fn stop(mut child: Child) {
    let pid = Pid::from_raw(child.id().try_into().unwrap());
    kill(pid, Signal::SIGTERM).unwrap();
    assert!(child.wait().unwrap().success());
}

fn random_pause() -> Duration {
    Duration::from_millis(RandomState::new().hash_one(0) % LOAD_MS)
}
