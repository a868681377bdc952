//! A broker of its own process.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use redoubt_snp_simulator::SimulatedIdentity;
use serde_json::json;

use super::guests::{DIGEST, KEY, RESOURCE};

/// A broker of its own process, which ends with this value.
pub(super) struct Broker {
    child: Child,
    pub(super) url: String,
    _dir: tempfile::TempDir,
}

impl Drop for Broker {
    fn drop(&mut self) {
        // It may have ended already; there is nothing to do about it then.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Broker {
    pub(super) fn start(redoubt: &Path, identity: &SimulatedIdentity) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let chip = dir.path().join("chip");
        identity.store(&chip)?;
        let home = dir.path().join("kbs");
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let mut init = Command::new(redoubt);
        init.args(["kbs", "init", "--listen", &address.to_string()])
            .arg("--anchor")
            .arg(chip.join("ark.pem"))
            .arg(&home);
        succeed(&mut init)?;
        let config = home.join("config.toml");
        let text = fs::read_to_string(&config)?
            .replace(
                "[tls]\ncertificate = \"tls-cert.pem\"\nprivate_key = \"tls-key.pem\"\n",
                "",
            )
            .replace("requests_per_second = 50", "requests_per_second = 1000000")
            .replace("burst = 200", "burst = 1000000")
            .replace("# Key broker.", "insecure_http = true\n# Key broker.");
        fs::write(&config, text)?;
        let mut serve = Command::new(redoubt);
        serve
            .args(["kbs", "serve", "--config"])
            .arg(&config)
            .env("RUST_LOG", "error")
            // As in the unit of docs/operations.md.
            .env("GLIBC_TUNABLES", "glibc.malloc.arena_max=1");
        let child = serve.spawn().context("cannot start the broker")?;
        let broker = Self {
            child,
            url: format!("http://{address}/kbs/v0"),
            _dir: dir,
        };
        wait_for(address)?;
        fill(redoubt, &config)?;
        Ok(broker)
    }

    fn process(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}", self.child.id()))
    }

    /// CPU time of all threads so far, in the system and outside of it.
    pub(super) fn cpu(&self) -> Result<Duration> {
        let stat = fs::read_to_string(self.process().join("stat"))?;
        let fields: Vec<&str> = stat
            .rsplit(") ")
            .next()
            .unwrap_or_default()
            .split(' ')
            .collect();
        // Fields 14 and 15 of proc(5), counted from the one behind the name.
        let ticks = |index: usize| -> Result<u64> {
            let field = fields.get(index).context("/proc/PID/stat is short")?;
            Ok(field.parse()?)
        };
        let per_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)?
            .and_then(|ticks| u64::try_from(ticks).ok())
            .context("the system does not say how long a tick is")?;
        Ok(Duration::from_millis(
            (ticks(11)? + ticks(12)?) * 1000 / per_second,
        ))
    }

    /// Resident memory, now and at most.
    pub(super) fn memory_mib(&self) -> Result<(f64, f64)> {
        let status = fs::read_to_string(self.process().join("status"))?;
        let mib = |name: &str| -> Result<f64> {
            let line = status.lines().find(|line| line.starts_with(name));
            let kib = line.and_then(|line| line.split_whitespace().nth(1));
            Ok(kib.context("/proc/PID/status is short")?.parse::<f64>()? / 1024.0)
        };
        Ok((mib("VmRSS:")?, mib("VmHWM:")?))
    }
}

/// Stores a resource and the reference value of the benchmark's guests.
fn fill(redoubt: &Path, config: &Path) -> Result<()> {
    let key = config.with_file_name("bench.key");
    fs::write(&key, KEY)?;
    let values = config.with_file_name("values.json");
    let document = json!({ "version": 1, "values": [
        { "tee": "snp", "launch_digest": hex::encode(DIGEST), "host_data": null } ] });
    fs::write(&values, document.to_string())?;
    let admin = |args: &[&str], file: &Path| {
        let mut command = Command::new(redoubt);
        command.arg("kbs").args(args).arg(file);
        succeed(command.arg("--config").arg(config))
    };
    admin(&["put", RESOURCE], &key)?;
    admin(&["reference", "import", "bench"], &values)
}

fn succeed(command: &mut Command) -> Result<()> {
    let status = command.stdout(Stdio::null()).status()?;
    ensure!(status.success(), "{command:?} failed");
    Ok(())
}

fn wait_for(address: SocketAddr) -> Result<()> {
    let start = Instant::now();
    while TcpStream::connect(address).is_err() {
        if start.elapsed() > Duration::from_secs(20) {
            bail!("the broker does not answer");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
