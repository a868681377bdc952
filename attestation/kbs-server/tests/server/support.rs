//! A key broker on loopback TLS, and guests with simulated secure processors.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use redoubt_attester::{Attester, AttesterError, TeeKind};
use redoubt_evidence::psp::{ReportRequest, ReportResponse};
use redoubt_evidence::{GuestPolicy, SnpEvidence};
use redoubt_initdata::Initdata;
use redoubt_kbs_client::{Attested, KbsClient, KbsClientConfig, KbsClientError, KbsObserver};
use redoubt_kbs_protocol::ResourcePath;
use redoubt_kbs_server::{
    InitOptions, KbsServerError, Server, ServerConfig, StorageKind, init, verify_audit_log,
};
use redoubt_snp_simulator::{LaunchFacts, RsaBits, SimulatedIdentity, SoftwarePsp};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use zeroize::Zeroizing;

pub(crate) const DIGEST: [u8; 48] = [0xd1; 48];
pub(crate) const KEY: &[u8] = b"thirty-two bytes of a secret key";
pub(crate) const PATH: &str = "default/image-key/1";
pub(crate) const INITDATA: &str =
    "version = \"0.1.0\"\nalgorithm = \"sha256\"\n\n[data]\n\"aa.toml\" = \"\"\n";

/// Files of a broker and of the chip that it trusts.
pub(crate) struct Site {
    dir: tempfile::TempDir,
}

/// A broker that answers.
pub(crate) struct Running {
    pub(crate) url: String,
    pub(crate) metrics: Option<std::net::SocketAddr>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), KbsServerError>>,
}

impl Site {
    /// A broker set up by `init` that trusts one simulated chip, with one resource
    /// and the reference value of [`DIGEST`].
    pub(crate) fn new() -> Self {
        let site = Self::empty(StorageKind::Files);
        site.put_resource(PATH, KEY);
        site.put_reference(DIGEST, None);
        site
    }

    /// The same without anything in it.
    pub(crate) fn empty(storage: StorageKind) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let site = Self { dir };
        let identity = SimulatedIdentity::generate_with(RsaBits::Rsa2048).unwrap();
        identity.store(&site.chip()).unwrap();
        let options = InitOptions {
            listen: "127.0.0.1:0".parse().unwrap(),
            trust_anchors: vec![site.chip().join("ark.pem")],
            storage,
            ..InitOptions::default()
        };
        init(&site.kbs(), &options).unwrap();
        site
    }

    pub(crate) fn chip(&self) -> PathBuf {
        self.dir.path().join("chip")
    }

    pub(crate) fn kbs(&self) -> PathBuf {
        self.dir.path().join("kbs")
    }

    pub(crate) fn put_resource(&self, path: &str, bytes: &[u8]) {
        let file = self.kbs().join("resources").join(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, bytes).unwrap();
    }

    pub(crate) fn put_reference(&self, digest: [u8; 48], host_data: Option<[u8; 32]>) {
        let document = json!({ "version": 1, "values": [{
            "tee": "snp",
            "launch_digest": hex::encode(digest),
            "host_data": host_data.map(hex::encode),
            "inputs": { "vcpus": 1 },
        }]});
        std::fs::write(
            self.kbs().join("reference-values/test.json"),
            document.to_string(),
        )
        .unwrap();
    }

    pub(crate) fn put_policy(&self, text: &str) {
        std::fs::write(self.kbs().join("policy.rego"), text).unwrap();
    }

    pub(crate) fn certificate(&self) -> String {
        std::fs::read_to_string(self.kbs().join("tls-cert.pem")).unwrap()
    }

    /// The audit log's records.
    pub(crate) fn audit(&self) -> Vec<Value> {
        let path = self.kbs().join("audit.jsonl");
        verify_audit_log(&path, None).unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        assert!(!text.contains(std::str::from_utf8(KEY).unwrap()));
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// The code and reason of the only refusal on record.
    pub(crate) fn refusal(&self) -> (String, String) {
        let audit = self.audit();
        let refused: Vec<&Value> = audit
            .iter()
            .filter(|record| record["code"].is_string())
            .collect();
        assert_eq!(refused.len(), 1, "{audit:#?}");
        let text = |member: &str| refused[0][member].as_str().unwrap().to_owned();
        (text("code"), text("reason"))
    }

    pub(crate) fn config(&self) -> ServerConfig {
        ServerConfig::load(&self.kbs().join("config.toml")).unwrap()
    }

    pub(crate) fn start(&self) -> Running {
        self.start_with(|_| {})
    }

    pub(crate) fn start_with(&self, change: impl FnOnce(&mut ServerConfig)) -> Running {
        let mut config = self.config();
        change(&mut config);
        let server = Server::bind(config).unwrap();
        let url = format!("https://{}", server.address());
        let metrics = server.metrics_address();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(server.run(async {
            let _ = stopped.await;
        }));
        Running {
            url,
            metrics,
            stop: Some(stop),
            task,
        }
    }

    pub(crate) fn client(&self, running: &Running, guest: &Arc<Guest>) -> KbsClient {
        self.client_with(running, guest, |_| {})
    }

    pub(crate) fn client_with(
        &self,
        running: &Running,
        guest: &Arc<Guest>,
        change: impl FnOnce(&mut KbsClientConfig),
    ) -> KbsClient {
        let mut config = KbsClientConfig::new(&running.url);
        config.pinned_cert_pem = Some(self.certificate());
        config.initdata = Some(INITDATA.to_owned());
        change(&mut config);
        KbsClient::new(config, Arc::clone(guest) as Arc<dyn Attester>).unwrap()
    }
}

impl Running {
    /// Asks the server to stop and waits until it has.
    pub(crate) async fn stop(mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        tokio::time::timeout(Duration::from_secs(10), self.task)
            .await
            .expect("the server stops in time")
            .unwrap()
            .unwrap();
    }
}

/// A guest with a secure processor in software.
#[derive(Debug)]
pub(crate) struct Guest {
    psp: SoftwarePsp,
    vmpl: u32,
    /// Number of reports asked for.
    pub(crate) reports: AtomicUsize,
}

impl Guest {
    /// The guest whose launch is registered and whose `HOST_DATA` is [`INITDATA`]'s digest.
    pub(crate) fn good(chip: &Path) -> Arc<Self> {
        Self::launched(chip, DIGEST, initdata_digest(), GuestPolicy::RELEASE, 0)
    }

    pub(crate) fn launched(
        chip: &Path,
        digest: [u8; 48],
        host_data: [u8; 32],
        policy: GuestPolicy,
        vmpl: u32,
    ) -> Arc<Self> {
        let identity = SimulatedIdentity::load(chip).unwrap();
        let facts = LaunchFacts::new(digest, host_data, policy);
        let psp = SoftwarePsp::new(identity, &facts).unwrap();
        Arc::new(Self {
            psp,
            vmpl,
            reports: AtomicUsize::new(0),
        })
    }

    pub(crate) fn report(&self, report_data: [u8; 64]) -> SnpEvidence {
        self.reports.fetch_add(1, Ordering::Relaxed);
        let request = ReportRequest {
            vmpl: self.vmpl,
            ..ReportRequest::new(report_data)
        };
        match self.psp.report(&request).unwrap() {
            ReportResponse::Report(evidence) => *evidence,
            ReportResponse::Refused(refusal) => panic!("{refusal:?}"),
        }
    }

    pub(crate) fn report_count(&self) -> usize {
        self.reports.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl Attester for Guest {
    fn tee(&self) -> TeeKind {
        TeeKind::SimulatedSnp
    }

    async fn evidence(&self, report_data: &[u8; 64]) -> Result<SnpEvidence, AttesterError> {
        Ok(self.report(*report_data))
    }
}

pub(crate) fn initdata_digest() -> [u8; 32] {
    Initdata::parse_toml(INITDATA.as_bytes())
        .unwrap()
        .host_data()
}

pub(crate) fn path(text: &str) -> ResourcePath {
    ResourcePath::parse(text).unwrap()
}

/// What one client gets for [`PATH`].
pub(crate) async fn fetch(client: &KbsClient) -> Result<Zeroizing<Vec<u8>>, KbsClientError> {
    client.get_resource(&path(PATH)).await
}

/// Keeps the handshake's progress as text.
#[derive(Debug, Default)]
pub(crate) struct Trail(pub(crate) Mutex<Vec<String>>);

impl KbsObserver for Trail {
    fn on_attested(&self, attested: &Attested) {
        let line = format!(
            "attested {} for {} s",
            attested.tee, attested.token_lifetime_s
        );
        self.0.lock().unwrap().push(line);
    }

    fn on_resource(&self, path: &ResourcePath) {
        self.0.lock().unwrap().push(format!("resource {path}"));
    }
}
