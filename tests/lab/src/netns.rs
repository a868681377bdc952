//! Network namespaces with veth pairs between them.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use nix::mount::umount;
use nix::sched::{CloneFlags, setns};

use crate::command::{command, run};

/// Where `ip netns` keeps namespaces; it mounts the folder on itself and leaves that.
const FOLDER: &str = "/run/netns";

/// Undoes the mount of the folder when dropped, where the lab was the first to need it.
#[derive(Debug)]
pub(crate) struct NamespaceFolder {
    was_there: bool,
    was_mounted: bool,
}

impl NamespaceFolder {
    /// Notes how the folder is before the first namespace.
    pub(crate) fn now() -> Self {
        Self {
            was_there: Path::new(FOLDER).exists(),
            was_mounted: is_mounted(),
        }
    }
}

impl Drop for NamespaceFolder {
    fn drop(&mut self) {
        // Somebody else may have made a namespace since.
        let is_empty = fs::read_dir(FOLDER).is_ok_and(|mut entries| entries.next().is_none());
        if self.was_mounted || !is_empty {
            return;
        }
        // `ip` mounts the folder anew where it was not shared yet.
        while is_mounted() && umount(FOLDER).is_ok() {}
        if !self.was_there {
            let _ = fs::remove_dir(FOLDER);
        }
    }
}

fn is_mounted() -> bool {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    mounts
        .lines()
        .any(|line| line.split(' ').nth(4) == Some(FOLDER))
}

/// A named network namespace, removed when dropped.
#[derive(Debug)]
pub struct NetworkNamespace {
    name: String,
}

impl NetworkNamespace {
    /// Makes the namespace with its loopback interface up.
    pub fn create(name: &str) -> Result<Self> {
        run(&mut command("ip", &["netns", "add", name]))?;
        let namespace = Self {
            name: name.to_owned(),
        };
        namespace.ip(&["link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// The file that stands for the namespace.
    pub fn path(&self) -> PathBuf {
        Path::new(FOLDER).join(&self.name)
    }

    /// Runs `ip` inside.
    pub fn ip(&self, arguments: &[&str]) -> Result<()> {
        let mut words = vec!["-n", &self.name];
        words.extend_from_slice(arguments);
        run(&mut command("ip", &words)).map(drop)
    }

    /// A command that will run inside (only the network changes).
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", self.path().display()))
            .arg("--")
            .arg(program);
        command
    }

    /// Connects this namespace's `inner` interface with a port of `bridge` in `other`.
    pub fn connect(
        &self,
        inner: &str,
        address: &str,
        other: &NetworkNamespace,
        port: &str,
        bridge: &str,
    ) -> Result<()> {
        self.ip(&[
            "link",
            "add",
            inner,
            "type",
            "veth",
            "peer",
            "name",
            port,
            "netns",
            &other.name,
        ])?;
        other.ip(&["link", "set", port, "master", bridge, "up"])?;
        self.ip(&["address", "add", address, "dev", inner])?;
        self.ip(&["link", "set", inner, "up"])
    }

    /// Whether a TCP connection to `address` succeeds from inside.
    pub fn can_connect(&self, address: SocketAddr) -> bool {
        self.inside(move || {
            TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_ok()
        })
        .unwrap_or(false)
    }

    /// Runs `work` on a thread of its own that has entered the namespace.
    pub fn inside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        let file =
            File::open(self.path()).with_context(|| format!("no namespace {}", self.name))?;
        std::thread::spawn(move || -> Result<T> {
            setns(&file, CloneFlags::CLONE_NEWNET).context("cannot enter the namespace")?;
            Ok(work())
        })
        .join()
        .map_err(|_| anyhow!("a thread inside the namespace panicked"))?
    }
}

impl Drop for NetworkNamespace {
    fn drop(&mut self) {
        let _ = run(&mut command("ip", &["netns", "delete", &self.name]));
    }
}
