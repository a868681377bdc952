//! A private image registry (Debian's docker-registry).

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::netns::NetworkNamespace;
use crate::process::Daemon;

/// A registry over plain HTTP inside a namespace.
#[derive(Debug)]
pub struct Registry {
    address: SocketAddr,
    storage: PathBuf,
    _daemon: Daemon,
}

impl Registry {
    /// Starts the registry on `address` with its blobs below `dir`.
    pub fn start(namespace: &NetworkNamespace, address: SocketAddr, dir: &Path) -> Result<Self> {
        let storage = dir.join("registry");
        fs::create_dir_all(&storage)?;
        let config = dir.join("registry.yml");
        fs::write(
            &config,
            format!(
                "version: 0.1\nlog:\n  level: info\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {address}\n",
                storage.display()
            ),
        )?;
        let mut command = namespace.command(Path::new("docker-registry"));
        command.arg("serve").arg(&config);
        // The machine's own proxy settings must not reach a private server.
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default());
        let mut daemon = Daemon::start("docker-registry", command, &dir.join("registry.log"))?;
        daemon
            .wait_until(Duration::from_secs(10), || namespace.can_connect(address))
            .context("the registry does not answer")?;
        Ok(Self {
            address,
            storage,
            _daemon: daemon,
        })
    }

    /// Host and port as an image reference names them.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// The file of the largest blob, which is a layer, for tests that corrupt it.
    pub fn largest_blob(&self) -> Result<PathBuf> {
        let mut largest = (0, None);
        let blobs = self.storage.join("docker/registry/v2/blobs/sha256");
        for prefix in fs::read_dir(&blobs)?.filter_map(Result::ok) {
            for blob in fs::read_dir(prefix.path())?.filter_map(Result::ok) {
                let file = blob.path().join("data");
                let size = fs::metadata(&file)?.len();
                if size > largest.0 {
                    largest = (size, Some(file));
                }
            }
        }
        largest.1.context("the registry holds no blob")
    }

    /// The file that holds a blob, for tests that corrupt it.
    pub fn blob_file(&self, digest: &str) -> PathBuf {
        let hex = digest.trim_start_matches("sha256:");
        let prefix = hex.get(..2).unwrap_or_default();
        self.storage
            .join("docker/registry/v2/blobs/sha256")
            .join(prefix)
            .join(hex)
            .join("data")
    }
}
