//! A private containerd with folders of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::command::{run, text_of};
use crate::netns::NetworkNamespace;
use crate::process::Daemon;

/// The snapshotter that the lab uses: it works on every file system.
const SNAPSHOTTER: &str = "native";

/// Plugins that pods of `ctr` do not need: CRI under its names up to 1.7 and since 2.0, and
/// those that use places outside of the lab's folder.
const UNUSED_PLUGINS: [&str; 5] = [
    "io.containerd.grpc.v1.cri",
    "io.containerd.cri.v1.images",
    "io.containerd.cri.v1.runtime",
    "io.containerd.internal.v1.opt",
    "io.containerd.nri.v1.nri",
];

/// `ctr` and the containerd that it speaks to.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    program: PathBuf,
    socket: PathBuf,
}

impl Client {
    /// `ctr` with its first arguments.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .stdin(Stdio::null())
            .arg("--address")
            .arg(&self.socket);
        command
    }
}

/// A containerd that knows the shim of this workspace.
#[derive(Debug)]
pub struct Containerd {
    dir: PathBuf,
    client: Client,
    daemon: Daemon,
}

impl Containerd {
    /// Starts containerd with root, state and socket below `dir` and the shim in its `PATH`.
    /// The programs are those in `programs`, else the machine's own.
    pub fn start(dir: &Path, shim_dir: &Path, programs: Option<&Path>) -> Result<Self> {
        let dir = dir.join("containerd");
        fs::create_dir_all(dir.join("fifo"))?;
        let client = Client {
            program: program(programs, "ctr"),
            socket: dir.join("containerd.sock"),
        };
        let shown = dir.display();
        let disabled = UNUSED_PLUGINS
            .map(|plugin| format!("\"{plugin}\""))
            .join(", ");
        let config = format!(
            "version = 2\nroot = \"{shown}/root\"\nstate = \"{shown}/state\"\n\
             disabled_plugins = [{disabled}]\n\
             [grpc]\naddress = \"{shown}/containerd.sock\"\n\
             [ttrpc]\naddress = \"{shown}/containerd.sock.ttrpc\"\n"
        );
        fs::write(dir.join("config.toml"), config)?;
        let mut command = Command::new(program(programs, "containerd"));
        command
            .arg("--config")
            .arg(dir.join("config.toml"))
            .arg("--log-level")
            .arg("debug");
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", shim_dir.display()));
        let mut daemon = Daemon::start("containerd", command, &dir.join("containerd.log"))?;
        daemon
            .wait_until(Duration::from_secs(20), || {
                client
                    .command()
                    .arg("version")
                    .output()
                    .is_ok_and(|output| output.status.success())
            })
            .context("containerd does not answer")?;
        Ok(Self {
            dir,
            client,
            daemon,
        })
    }

    /// `ctr` for this containerd.
    pub fn ctr(&self) -> Command {
        self.client.command()
    }

    /// `ctr` for this containerd, with the network of a namespace.
    fn ctr_inside(&self, namespace: &NetworkNamespace) -> Command {
        let mut command = namespace.command(&self.client.program);
        command.arg("--address").arg(&self.client.socket);
        command
    }

    /// The folder for the streams of tasks.
    pub fn fifo_dir(&self) -> PathBuf {
        self.dir.join("fifo")
    }

    /// A way to run `ctr` for this containerd that outlives the borrow.
    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    /// Names of the running tasks.
    pub fn tasks(&self) -> Result<Vec<String>> {
        let text = text_of(self.ctr().args(["task", "ls", "-q"]))?;
        Ok(text.split_whitespace().map(str::to_owned).collect())
    }

    /// The end of containerd's log, which holds the shim's.
    pub fn last_lines(&self, count: usize) -> String {
        self.daemon.last_lines(count)
    }

    /// Makes an image known by its manifest and configuration, without one of its layers.
    ///
    /// The layers are pulled and opened inside the guest. For containerd the
    /// root file system is an empty snapshot under the name that the layers'
    /// chain has.
    pub fn register_image(&self, namespace: &NetworkNamespace, reference: &str) -> Result<()> {
        let mut fetch = self.ctr_inside(namespace);
        fetch.args([
            "content",
            "fetch",
            "--plain-http",
            "--metadata-only",
            reference,
        ]);
        run(&mut fetch)?;
        let digest = reference
            .rsplit('@')
            .next()
            .context("the reference has no digest")?;
        let manifest = self.content(digest)?;
        let config = manifest["config"]["digest"]
            .as_str()
            .context("no configuration")?
            .to_owned();
        let config = self.content(&config)?;
        let layers: Vec<&str> = config["rootfs"]["diff_ids"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let chain = chain_id(&layers).context("the image has no layer")?;
        let key = format!("placeholder-{digest}");
        let snapshots = ["snapshots", "--snapshotter", SNAPSHOTTER];
        if run(self.ctr().args(snapshots).args(["info", &chain])).is_ok() {
            return Ok(());
        }
        run(self.ctr().args(snapshots).args(["prepare", &key]))?;
        run(self.ctr().args(snapshots).args(["commit", &chain, &key])).map(drop)
    }

    /// The snapshotter to name in `ctr run`.
    pub fn snapshotter(&self) -> &'static str {
        SNAPSHOTTER
    }

    fn content(&self, digest: &str) -> Result<Value> {
        let output = run(self.ctr().args(["content", "get", digest]))?;
        serde_json::from_slice(&output.stdout).with_context(|| format!("{digest} is not JSON"))
    }
}

/// A program in `folder`, else the one in `PATH`.
fn program(folder: Option<&Path>, name: &str) -> PathBuf {
    folder.map_or_else(|| name.into(), |folder| folder.join(name))
}

/// The chain id of a list of diff ids (OCI image specification, section Layer `ChainID`).
fn chain_id(diff_ids: &[&str]) -> Option<String> {
    let mut ids = diff_ids.iter();
    let mut chain = (*ids.next()?).to_owned();
    for id in ids {
        let digest = Sha256::digest(format!("{chain} {id}").as_bytes());
        chain = format!("sha256:{}", hex::encode(digest));
    }
    Some(chain)
}

#[cfg(test)]
mod tests {
    use super::chain_id;

    #[test]
    fn the_chain_of_one_layer_is_its_diff_id() {
        assert_eq!(chain_id(&["sha256:aa"]).as_deref(), Some("sha256:aa"));
        assert_eq!(chain_id(&[]), None);
    }

    #[test]
    fn the_chain_of_two_layers_hashes_both_names() {
        // printf 'sha256:aa sha256:bb' | sha256sum
        assert_eq!(
            chain_id(&["sha256:aa", "sha256:bb"]).as_deref(),
            Some("sha256:b68ad689d6d1ec110ea1c13617437ad6f3766d4b3b309f6a603a222e07a0164f")
        );
    }
}
