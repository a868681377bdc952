//! The lab: one folder, one network, the servers in it, and pods on request.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::broker::Broker;
use crate::command::run;
use crate::containerd::Containerd;
use crate::image::{SampleImage, SampleParts};
use crate::netns::{NamespaceFolder, NetworkNamespace};
use crate::registry::Registry;
use crate::stale;
use crate::turn::Turn;

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 1);
const BRIDGE_MAC: &str = "02:52:44:54:00:01";
const REGISTRY_PORT: u16 = 5000;
const BROKER_PORT: u16 = 8443;

/// Everything a lab is made from; the end-to-end tests receive it as JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LabDescription {
    /// Programs in use.
    pub binaries: Binaries,
    /// What guests boot from.
    pub guest: GuestFiles,
    /// What the sample image is made of.
    pub parts: SampleParts,
    /// Folders with `containerd` and `ctr` of other releases than the machine's.
    #[serde(default)]
    pub containerds: Vec<PathBuf>,
}

/// Programs of this workspace and of the machine.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Binaries {
    /// The folder that holds `containerd-shim-kata-v2`.
    pub shim_dir: PathBuf,
    /// The `redoubt` command.
    pub redoubt: PathBuf,
    /// QEMU.
    pub qemu: PathBuf,
    /// The vhost-user vsock daemon. A simulated guest needs it on every machine: on the kernel's
    /// vsock all guests of the host could ask for its reports.
    pub vsock_daemon: PathBuf,
    /// The folder that holds `containerd` and `ctr`; `None` for the machine's own.
    #[serde(default)]
    pub containerd_dir: Option<PathBuf>,
}

/// What a guest boots from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GuestFiles {
    /// The AmdSev build of OVMF.
    pub firmware: PathBuf,
    /// The guest kernel.
    pub kernel: PathBuf,
    /// The guest initrd.
    pub initrd: PathBuf,
    /// A root disk to boot from instead.
    #[serde(default)]
    pub root_disk: Option<RootDiskFiles>,
}

/// A root disk that guests verify.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RootDiskFiles {
    /// The initrd that opens it.
    pub initrd: PathBuf,
    /// The disk.
    pub image: PathBuf,
    /// What verifies it, as in `configuration.toml`.
    pub kernel_verity_params: String,
}

/// A running laboratory. Dropping it removes everything.
#[derive(Debug)]
pub struct Lab {
    id: u32,
    pods: AtomicU32,
    /// Programs in use.
    pub binaries: Binaries,
    /// What guests boot from.
    pub guest: GuestFiles,
    /// The key broker.
    pub broker: Broker,
    /// The image registry.
    pub registry: Registry,
    /// containerd.
    pub containerd: Containerd,
    /// The sample image, unencrypted.
    pub image: SampleImage,
    /// The namespace of the servers.
    pub servers: NetworkNamespace,
    // Dropped after the servers, which still write while they stop.
    dir: LabDir,
    // Dropped after the namespaces.
    _namespaces: NamespaceFolder,
    // Dropped last: the next lab of this machine waits for the end of this one.
    _turn: Turn,
}

/// The lab's folder, removed when dropped.
#[derive(Debug)]
struct LabDir {
    path: PathBuf,
    keep: bool,
}

impl LabDir {
    fn create(path: PathBuf) -> Result<Self> {
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path)?;
        Ok(Self { path, keep: false })
    }
}

impl Drop for LabDir {
    fn drop(&mut self) {
        if !self.keep {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

impl Lab {
    /// Starts the servers and builds the sample image, after any other lab of this machine ended.
    pub fn start(binaries: Binaries, guest: GuestFiles, parts: &SampleParts) -> Result<Self> {
        ensure!(
            nix::unistd::geteuid().is_root(),
            "the lab needs root: namespaces and QEMU"
        );
        let turn = Turn::take()?;
        stale::sweep();
        let namespaces = NamespaceFolder::now();
        let id = std::process::id();
        let guard = LabDir::create(stale::lab_dir(id))?;
        let dir = guard.path.clone();
        let servers = server_network(id)?;
        let simulator = dir.join("simulator");
        run(Command::new(&binaries.redoubt)
            .args(["simulator", "init"])
            .arg(&simulator))
        .context("cannot make the simulated PSP's identity")?;
        let broker = Broker::start(
            &servers,
            &binaries.redoubt,
            SocketAddr::new(IpAddr::V4(SERVER), BROKER_PORT),
            &dir,
            &simulator.join("ark.pem"),
        )?;
        let registry = Registry::start(
            &servers,
            SocketAddr::new(IpAddr::V4(SERVER), REGISTRY_PORT),
            &dir,
        )?;
        let containerd =
            Containerd::start(&dir, &binaries.shim_dir, binaries.containerd_dir.as_deref())?;
        let images = dir.join("images");
        fs::create_dir_all(&images)?;
        let image = SampleImage::build(&images, parts)?;
        Ok(Self {
            id,
            pods: AtomicU32::new(0),
            binaries,
            guest,
            broker,
            registry,
            containerd,
            image,
            servers,
            dir: guard,
            _namespaces: namespaces,
            _turn: turn,
        })
    }

    /// The folder of everything that the lab writes.
    pub fn dir(&self) -> &Path {
        &self.dir.path
    }

    /// The folder of the simulated PSP's identity.
    pub fn simulator(&self) -> PathBuf {
        self.dir.path.join("simulator")
    }

    /// Leaves the files in place when the lab ends.
    pub fn keep_files(&mut self) {
        self.dir.keep = true;
    }

    /// A network namespace with an address, as a CNI plugin would make it.
    pub fn pod_network(&self) -> Result<NetworkNamespace> {
        let number = self.pods.fetch_add(1, Ordering::Relaxed);
        let pod =
            NetworkNamespace::create(&format!("{}pod-{number}", stale::namespace_prefix(self.id)))?;
        let host = 10 + number % 200;
        let port = format!("pod{number}");
        pod.connect(
            "eth0",
            &format!("10.88.0.{host}/24"),
            &self.servers,
            &port,
            "br0",
        )?;
        pod.ip(&["route", "add", "default", "via", &SERVER.to_string()])?;
        Ok(pod)
    }

    /// A name that no other pod has, of this lab or of another on the same machine: sandboxes
    /// of all of them share one folder.
    pub fn pod_name(&self) -> String {
        let number = self.pods.fetch_add(1, Ordering::Relaxed);
        format!("pod-{}-{number}", self.id)
    }

    /// Encrypts the sample image for a broker key and pushes it; gives `host/name@digest`.
    pub fn push_encrypted(&self, name: &str, key_id: &str, key: &Path) -> Result<String> {
        let tag = format!("{}/{name}:v1", self.registry.host());
        let redoubt = self.servers.command(&self.binaries.redoubt);
        self.push(redoubt, &tag, Some((key_id, key)))
    }

    fn push(&self, mut redoubt: Command, tag: &str, key: Option<(&str, &Path)>) -> Result<String> {
        redoubt
            .args(["image", "encrypt", &self.image.source()])
            .arg(format!("docker://{tag}"));
        if let Some((key_id, key)) = key {
            redoubt
                .arg("--key")
                .arg(format!("{key_id}={}", key.display()));
        }
        redoubt.args(["--plain-http", "--json"]);
        let output = run(&mut redoubt)?;
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout)
            .context("`redoubt image encrypt --json` printed no JSON")?;
        let digest = answer["manifest_digest"]
            .as_str()
            .context("no manifest_digest")?;
        let name = tag.rsplit_once(':').map_or(tag, |(name, _)| name);
        Ok(format!("{name}@{digest}"))
    }
}

fn server_network(id: u32) -> Result<NetworkNamespace> {
    let servers = NetworkNamespace::create(&format!("{}servers", stale::namespace_prefix(id)))?;
    servers.ip(&["link", "add", "br0", "type", "bridge"])?;
    servers.ip(&["address", "add", &format!("{SERVER}/24"), "dev", "br0"])?;
    // Without an address of its own a bridge takes that of a port, and changes it with the ports.
    servers.ip(&["link", "set", "br0", "address", BRIDGE_MAC])?;
    servers.ip(&["link", "set", "br0", "up"])?;
    Ok(servers)
}
