//! A machine whose agent is the guest double.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use redoubt_agent_api::agent_ttrpc::create_agent_service;
use redoubt_agent_api::health_ttrpc::create_health;
use redoubt_agent_api::stage::Stage;
use redoubt_sandbox::{GuestNetwork, VmExit};
use redoubt_shim::error::{Result, ShimError};
use redoubt_shim::machine::{LaunchOrder, Launched, Launcher, Machine};
use tokio::sync::{Mutex, watch};
use ttrpc::asynchronous::{Client, Server};

use super::GuestDouble;

/// The process id that the double claims.
pub const PID: u32 = 4242;

pub struct MachineDouble {
    client: Client,
    server: Mutex<Server>,
    ended: watch::Sender<Option<VmExit>>,
    pub stopped: AtomicBool,
}

impl MachineDouble {
    pub async fn start(guest: Arc<GuestDouble>, socket: &Path) -> Arc<Self> {
        let address = format!("unix://{}", socket.display());
        let mut server = Server::new()
            .register_service(create_agent_service(guest.clone()))
            .register_service(create_health(guest))
            .bind(&address)
            .unwrap();
        server.start().await.unwrap();
        Arc::new(Self {
            client: Client::connect(&address).await.unwrap(),
            server: Mutex::new(server),
            ended: watch::Sender::new(None),
            stopped: AtomicBool::new(false),
        })
    }

    /// The machine is killed from outside.
    pub async fn die(&self) {
        self.ended.send_replace(Some(VmExit {
            code: None,
            signal: Some(9),
        }));
        let _ = self.server.lock().await.shutdown().await;
    }
}

#[async_trait]
impl Machine for MachineDouble {
    fn agent(&self) -> Client {
        self.client.clone()
    }

    fn pid(&self) -> u32 {
        PID
    }

    fn network(&self) -> GuestNetwork {
        GuestNetwork::default()
    }

    fn ended(&self) -> watch::Receiver<Option<VmExit>> {
        self.ended.subscribe()
    }

    fn gone(&self) -> Option<ShimError> {
        self.ended
            .borrow()
            .as_ref()
            .map(|exit| ShimError::MachineGone(exit.to_string()))
    }

    fn record(&self, _: Stage, _: &str) {}

    async fn stop(&self) -> Result<()> {
        self.stopped.store(true, Ordering::SeqCst);
        self.ended.send_if_modified(|exit| {
            let first = exit.is_none();
            exit.get_or_insert_default();
            first
        });
        Ok(())
    }
}

pub struct DoubleLauncher(pub Arc<MachineDouble>);

#[async_trait]
impl Launcher for DoubleLauncher {
    async fn launch(&self, _: LaunchOrder) -> Result<Launched> {
        Ok(Launched {
            machine: self.0.clone(),
            create_timeout: Duration::from_secs(10),
            debug: false,
        })
    }
}
