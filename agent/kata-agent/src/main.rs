//! The guest agent, PID 1 of the confidential VM.
//!
//! It prepares the guest, checks what the guest was launched with against the
//! guest's own attestation report, and then serves the shim's calls, each of
//! which must pass the measured policy.

mod agent;
mod beneath;
mod boot;
mod clock;
mod console;
mod copy_file;
mod error;
mod identity;
mod images;
mod lifecycle;
mod metrics;
mod mounts;
mod params;
mod pause;
mod sandbox;
mod server;
mod service;
mod settings;
mod spec;
mod stats;
mod storage;
mod streams;
mod trust;

use std::process::ExitCode;
use std::sync::Arc;

use redoubt_agent_api::AGENT_PORT;
use redoubt_agent_api::stage::Stage;
use redoubt_containers::Reaper;

use crate::agent::{Agent, Folders};
use crate::error::{AgentError, Result};
use crate::params::Parameters;
use crate::trust::Trust;

/// Where tests have the agent listen instead of the vsock port.
const ADDRESS_VARIABLE: &str = "KATA_AGENT_SERVER_ADDR";
/// Calls wait for the guest's processes, not for the CPU.
const WORKER_THREADS: usize = 2;

fn main() -> ExitCode {
    console::hush_panics();
    redoubt_containers::run_helper_if_asked();
    pause::run_if_asked();
    let is_init = nix::unistd::getpid().as_raw() == 1;
    let Err(error) = run(is_init) else {
        return ExitCode::SUCCESS;
    };
    console::fatal(&error);
    if is_init {
        boot::power_off();
    }
    ExitCode::FAILURE
}

/// Serves until the machine is stopped.
fn run(is_init: bool) -> Result<()> {
    if is_init {
        boot::prepare_file_systems()?;
        boot::load_modules()?;
    }
    let command_line = std::fs::read_to_string("/proc/cmdline")
        .map_err(AgentError::file("read", "/proc/cmdline"))?;
    let parameters = Parameters::parse(&command_line)?;
    if is_init {
        boot::check_root(&parameters)?;
    }
    console::start_log(parameters.log_level);
    if parameters.debug_console {
        tracing::warn!("agent.debug_console has no effect: this guest has no shell for its host");
    }
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKER_THREADS)
        .enable_all()
        .build()
        .map_err(AgentError::file("start", "the runtime"))?
        .block_on(serve(&parameters, is_init))
}

async fn serve(parameters: &Parameters, is_init: bool) -> Result<()> {
    let reaper = Reaper::start()?;
    if is_init {
        redoubt_guest_network::bring_loopback_up().await?;
    }
    console::stage(Stage::AgentUp, &about(parameters));
    let trust = Trust::establish(parameters).await?;
    let agent = Arc::new(Agent::new(trust, parameters, reaper, Folders::default())?);
    let address = std::env::var(ADDRESS_VARIABLE)
        .ok()
        .filter(|_| !is_init)
        .unwrap_or_else(|| format!("vsock://-1:{AGENT_PORT}"));
    let _server = server::start(&address, agent).await?;
    std::future::pending().await
}

/// The agent's version and what kind of guest it runs in.
fn about(parameters: &Parameters) -> String {
    let version = env!("CARGO_PKG_VERSION");
    match parameters.attester {
        None => format!("version {version}, not confidential"),
        Some(redoubt_attester::AttesterKind::Snp) => format!("version {version}, SEV-SNP"),
        Some(redoubt_attester::AttesterKind::SimulatedSnp) => {
            format!("version {version}, SIMULATED SEV-SNP: nothing is protected from the host")
        }
    }
}
