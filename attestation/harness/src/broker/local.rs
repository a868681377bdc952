//! Redoubt's own broker, in this process, set up for a site.

use std::path::Path;

use redoubt_kbs_server::{
    InitOptions, KbsServerError, MinimumTcb, Server, ServerConfig, StorageKind, init,
};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::broker::BrokerClient;
use crate::error::HarnessError;
use crate::site::{RESOURCE, RESOURCE_PATH, Site, minimum_tcb};
use crate::snp::forge::pem;

/// A broker on the loopback interface that trusts a site and holds its resource.
#[derive(Debug)]
pub struct LocalBroker {
    /// Its files, until it goes.
    dir: tempfile::TempDir,
    url: String,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), KbsServerError>>,
}

impl LocalBroker {
    /// Starts it on a port of its own.
    pub fn start(site: &Site) -> Result<Self, HarnessError> {
        Self::start_with(site, |_| {})
    }

    /// The same with a changed configuration.
    pub fn start_with(
        site: &Site,
        change: impl FnOnce(&mut ServerConfig),
    ) -> Result<Self, HarnessError> {
        let dir = tempfile::tempdir().map_err(|source| HarnessError::File {
            path: std::env::temp_dir(),
            action: "written",
            source,
        })?;
        let anchor = dir.path().join("root.pem");
        write(&anchor, pem(site.snp.root_certificate()).as_bytes())?;
        let options = InitOptions {
            listen: ([127, 0, 0, 1], 0).into(),
            trust_anchors: vec![anchor],
            storage: StorageKind::Files,
            ..InitOptions::default()
        };
        let made = init(&dir.path().join("kbs"), &options)?;
        if let Some(files) = &made.files {
            write(&files.resources.join(RESOURCE_PATH), RESOURCE)?;
            let values = site.reference_values();
            write(&files.reference_values.join("site.json"), values.as_bytes())?;
        }
        let mut config = ServerConfig::load(&made.config)?;
        // Nothing leaves this process.
        config.tls = None;
        config.snp.minimum_tcb = MinimumTcb {
            snp: minimum_tcb().snp,
            ..MinimumTcb::default()
        };
        config.limits.requests_per_second = 10_000;
        config.limits.burst = 10_000;
        change(&mut config);
        let server = Server::bind(config)?;
        let url = format!("http://{}", server.address());
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(server.run(async {
            // A sender that is gone stops it as well.
            let _ = stopped.await;
        }));
        Ok(Self {
            dir,
            url,
            stop: Some(stop),
            task,
        })
    }

    /// Its address.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A client for it.
    pub fn client(&self) -> Result<BrokerClient, HarnessError> {
        BrokerClient::new(&self.url, None)
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Stops it and waits until it has.
    pub async fn stop(mut self) -> Result<(), HarnessError> {
        if let Some(stop) = self.stop.take() {
            // It may have ended by itself; its task says so.
            let _ = stop.send(());
        }
        match self.task.await {
            Ok(outcome) => Ok(outcome?),
            Err(_) => Ok(()),
        }
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), HarnessError> {
    let written = path
        .parent()
        .map_or(Ok(()), std::fs::create_dir_all)
        .and_then(|()| std::fs::write(path, bytes));
    written.map_err(|source| HarnessError::File {
        path: path.to_owned(),
        action: "written",
        source,
    })
}
