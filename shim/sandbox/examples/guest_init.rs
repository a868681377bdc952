//! The first process of a test guest: as much of an agent as the sandbox's own tests need.
//!
//! What it does stands on the kernel command line, `test.mode=…`.

use std::fs::{self, File};
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use nix::mount::{MsFlags, mount};
use redoubt_agent_api::health::{CheckRequest, VersionCheckResponse};
use redoubt_agent_api::health_ttrpc::{Health, create_health};
use redoubt_agent_api::stage::{FatalLine, Stage, StageLine};
use redoubt_attester::{AttesterKind, attester_for};
use ttrpc::asynchronous::{Server, TtrpcContext};

struct Healthy;

#[async_trait]
impl Health for Healthy {
    async fn version(
        &self,
        _context: &TtrpcContext,
        _request: CheckRequest,
    ) -> ttrpc::Result<VersionCheckResponse> {
        Ok(VersionCheckResponse {
            agent_version: "test".to_owned(),
            ..Default::default()
        })
    }
}

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn main() -> Outcome {
    for (kind, target) in [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev")] {
        let _ = fs::create_dir(target);
        mount(
            Some(kind),
            target,
            Some(kind),
            MsFlags::empty(),
            None::<&str>,
        )?;
    }
    let cmdline = fs::read_to_string("/proc/cmdline")?;
    let mode = cmdline
        .split_whitespace()
        .find_map(|word| word.strip_prefix("test.mode="));
    match mode.unwrap_or("serve") {
        "serve" => serve()?,
        "fatal" => {
            say(&FatalLine::new("RDT-AGT-999", "the test wants it so").to_string())?;
            nix::sys::reboot::reboot(nix::sys::reboot::RebootMode::RB_POWER_OFF)?;
        }
        "panic" => std::process::exit(3),
        "memory" => {
            let mut hoard = Vec::new();
            loop {
                hoard.push(vec![1_u8; 1 << 20]);
            }
        }
        "reset" => {
            nix::sys::reboot::reboot(nix::sys::reboot::RebootMode::RB_AUTOBOOT)?;
        }
        _ => std::thread::sleep(Duration::from_secs(3600)),
    }
    Ok(())
}

fn serve() -> Outcome {
    for number in 0..6 {
        let module = File::open(format!("/modules/{number}.ko"))?;
        rustix::system::finit_module(&module, c"", 0)?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let evidence = attester_for(AttesterKind::SimulatedSnp)
            .evidence(&[7; 64])
            .await;
        let detail = match evidence {
            Ok(evidence) => format!(
                "report {:?}, {}",
                evidence.report.report_data()[0],
                interface()
            ),
            Err(error) => error.to_string(),
        };
        say(&StageLine::new(Stage::AgentUp, &detail).to_string())?;
        let mut server = Server::new()
            .bind("vsock://-1:1024")?
            .register_service(create_health(Arc::new(Healthy)));
        server.start().await?;
        std::future::pending::<Outcome>().await
    })
}

/// The Ethernet address of the first network card.
fn interface() -> String {
    let found = fs::read_dir("/sys/class/net")
        .into_iter()
        .flatten()
        .find_map(|entry| {
            let path = entry.ok()?.path();
            let is_card = path.join("device").exists();
            fs::read_to_string(path.join("address"))
                .ok()
                .filter(|_| is_card)
        });
    format!("interface {}", found.unwrap_or_default().trim())
}

fn say(line: &str) -> std::io::Result<()> {
    let mut console = File::options().write(true).open("/dev/console")?;
    writeln!(console, "{line}")
}
