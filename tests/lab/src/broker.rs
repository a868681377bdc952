//! Redoubt's key broker on an address of the lab.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::command::run;
use crate::netns::NetworkNamespace;
use crate::process::Daemon;

/// The broker with its folders: resources, reference values, policy, audit log.
#[derive(Debug)]
pub struct Broker {
    address: SocketAddr,
    dir: PathBuf,
    daemon: Daemon,
}

impl Broker {
    /// Makes the broker's folder with a certificate and starts it.
    ///
    /// `anchor` is the root certificate that evidence must chain to.
    pub fn start(
        namespace: &NetworkNamespace,
        redoubt: &Path,
        address: SocketAddr,
        dir: &Path,
        anchor: &Path,
    ) -> Result<Self> {
        let dir = dir.join("broker");
        run(Command::new(redoubt)
            .args(["kbs", "init"])
            .arg(&dir)
            .args(["--storage", "files"])
            .args(["--listen", &address.to_string(), "--anchor"])
            .arg(anchor))
        .context("cannot make the broker's folder")?;
        let mut command = namespace.command(redoubt);
        command
            .args(["kbs", "serve", "--config"])
            .arg(dir.join("config.toml"));
        let mut daemon = Daemon::start("redoubt kbs", command, &dir.join("broker.log"))?;
        daemon
            .wait_until(Duration::from_secs(10), || namespace.can_connect(address))
            .context("the key broker does not answer")?;
        Ok(Self {
            address,
            dir,
            daemon,
        })
    }

    /// Where guests reach the broker.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// The certificate that guests pin.
    pub fn certificate(&self) -> Result<String> {
        let path = self.dir.join("tls-cert.pem");
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    /// Stores a resource, for example a key.
    pub fn put_resource(&self, path: &str, bytes: &[u8]) -> Result<PathBuf> {
        let file = self.dir.join("resources").join(path);
        fs::create_dir_all(file.parent().context("a resource path has three parts")?)?;
        fs::write(&file, bytes)?;
        Ok(file)
    }

    /// Registers reference values under a name.
    pub fn put_reference_values(&self, name: &str, json: &[u8]) -> Result<()> {
        let dir = self.dir.join("reference-values");
        fs::create_dir_all(&dir)?;
        fs::write(dir.join(format!("{name}.json")), json).map_err(Into::into)
    }

    /// The audit log as text.
    pub fn audit_log(&self) -> String {
        fs::read_to_string(self.dir.join("audit.jsonl")).unwrap_or_default()
    }

    /// The end of the broker's log.
    pub fn last_lines(&self, count: usize) -> String {
        self.daemon.last_lines(count)
    }
}
