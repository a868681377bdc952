//! What the tests of the task service share: a test double of the guest that speaks the
//! agent's real protocol, a machine around it, and a listener in containerd's place.

#![expect(unreachable_pub, reason = "the items are public for the test files")]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]

mod containerd;
mod guest;
mod machine;

pub use containerd::EventLog;
pub use guest::GuestDouble;
pub use machine::{DoubleLauncher, MachineDouble};

use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use containerd_shim_protos::api::{CreateTaskRequest, StartRequest, WaitRequest};
use containerd_shim_protos::shim_async::{Client, TaskClient};
use redoubt_shim::events::EventSender;
use redoubt_shim::service::{Core, services};
use tempfile::TempDir;
use ttrpc::asynchronous::Server;
use ttrpc::context::{self, Context};

/// A task service on a socket, with a guest double behind it.
pub struct Bench {
    pub client: TaskClient,
    pub connection: Client,
    pub core: Arc<Core>,
    pub guest: Arc<GuestDouble>,
    pub machine: Arc<MachineDouble>,
    pub events: EventLog,
    pub dir: TempDir,
    _server: Server,
}

impl Bench {
    pub async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let events = EventLog::listen(&dir.path().join("events.sock")).await;
        let guest = Arc::new(GuestDouble::default());
        let machine = MachineDouble::start(guest.clone(), &dir.path().join("agent.sock")).await;
        let (sender, _) = EventSender::new("default", Some(events.address()));
        let launcher = DoubleLauncher(machine.clone());
        let core = Arc::new(Core::new(Box::new(launcher), sender));
        let address = format!("unix://{}", dir.path().join("task.sock").display());
        let mut server = Server::new()
            .register_service(services(&core))
            .bind(&address)
            .unwrap();
        server.start().await.unwrap();
        let connection = Client::connect(&address).await.unwrap();
        let client = TaskClient::new(connection.clone());
        Self {
            client,
            connection,
            core,
            guest,
            machine,
            events,
            dir,
            _server: server,
        }
    }

    /// A bundle whose process is `args` of the guest double's language.
    pub fn bundle(&self, id: &str, args: &[&str], annotations: &[(&str, &str)]) -> PathBuf {
        let bundle = self.dir.path().join(id);
        fs::create_dir(&bundle).unwrap();
        let mut all: serde_json::Map<String, serde_json::Value> = annotations
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).into()))
            .collect();
        all.insert(
            "io.redoubt.image".to_owned(),
            "registry/image@sha256:00".into(),
        );
        let config = serde_json::json!({
            "ociVersion": "1.1.0",
            "process": {"args": args, "cwd": "/", "user": {"uid": 0, "gid": 0}},
            "root": {"path": "rootfs"},
            "annotations": all,
            "linux": {"namespaces": [{"type": "pid"}]},
        });
        fs::write(bundle.join("config.json"), config.to_string()).unwrap();
        bundle
    }

    pub fn fifo(&self, name: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        path
    }

    pub fn create_request(id: &str, bundle: &Path) -> CreateTaskRequest {
        CreateTaskRequest {
            id: id.to_owned(),
            bundle: bundle.display().to_string(),
            ..CreateTaskRequest::default()
        }
    }

    pub async fn create(&self, id: &str, args: &[&str]) {
        let request = Self::create_request(id, &self.bundle(id, args, &[]));
        self.client.create(limit(), &request).await.unwrap();
    }

    pub async fn start(&self, id: &str, exec_id: &str) -> ttrpc::Result<u32> {
        let request = StartRequest {
            id: id.to_owned(),
            exec_id: exec_id.to_owned(),
            ..StartRequest::default()
        };
        self.client
            .start(limit(), &request)
            .await
            .map(|response| response.pid)
    }

    pub async fn wait(&self, id: &str, exec_id: &str) -> u32 {
        let request = WaitRequest {
            id: id.to_owned(),
            exec_id: exec_id.to_owned(),
            ..WaitRequest::default()
        };
        self.client
            .wait(limit(), &request)
            .await
            .unwrap()
            .exit_status
    }
}

/// No test waits longer than this for an answer.
pub fn limit() -> Context {
    context::with_duration(Duration::from_secs(20))
}

/// Reads a FIFO, which must have a writer, until its last one is gone.
pub fn read_fifo(path: &Path) -> std::thread::JoinHandle<Vec<u8>> {
    let path = path.to_owned();
    // Non-blocking, so that it opens without waiting for the writer's turn.
    let fifo = fs::File::options()
        .read(true)
        .custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed())
        .open(&path)
        .unwrap();
    rustix::io::ioctl_fionbio(&fifo, false).unwrap();
    std::thread::spawn(move || {
        let mut data = Vec::new();
        std::io::Read::read_to_end(&mut &fifo, &mut data).unwrap();
        data
    })
}

/// The code and message of a refused request.
pub fn refusal<T: std::fmt::Debug>(result: ttrpc::Result<T>) -> (ttrpc::Code, String) {
    match result.unwrap_err() {
        ttrpc::Error::RpcStatus(status) => (status.code(), status.message),
        other => panic!("no status: {other}"),
    }
}
