//! A registry on loopback for the time of the benchmark.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

/// The repository that the images are pushed to.
pub(super) const REPOSITORY: &str = "bench/image";

const START_LIMIT: Duration = Duration::from_secs(10);

/// Debian's docker-registry; ends with this value.
pub(super) struct LoopbackRegistry {
    address: SocketAddr,
    child: Child,
}

impl LoopbackRegistry {
    /// Starts the registry with its blobs below `dir`.
    pub(super) fn start(dir: &Path) -> Result<Self> {
        // A port that was free a moment ago; the registry wants it by number.
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let config = dir.join("registry.yml");
        let storage = dir.join("registry");
        fs::write(
            &config,
            format!(
                "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {address}\n",
                storage.display()
            ),
        )?;
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start docker-registry")?;
        let registry = Self { address, child };
        let started = Instant::now();
        while TcpStream::connect(address).is_err() {
            ensure!(
                started.elapsed() < START_LIMIT,
                "docker-registry does not answer on {address}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(registry)
    }

    /// The image of the benchmark's repository with this tag or digest.
    pub(super) fn reference(&self, suffix: &str) -> String {
        format!("{}/{REPOSITORY}{suffix}", self.address)
    }

    /// Where a blob is fetched.
    pub(super) fn blob_url(&self, digest: &str) -> String {
        format!("http://{}/v2/{REPOSITORY}/blobs/{digest}", self.address)
    }
}

impl Drop for LoopbackRegistry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
