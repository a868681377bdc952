//! The server: containerd's task service until the last container is gone.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use redoubt_sandbox::{DEFAULT_STATE_ROOT, cleanup_from_disk};
use tokio::signal::unix::{SignalKind, signal};
use ttrpc::asynchronous::Server;
use ttrpc::asynchronous::transport::Listener;

use super::CommandError;
use crate::address;
use crate::cli::Flags;
use crate::events::EventSender;
use crate::logging;
use crate::machine::QemuLauncher;
use crate::service::{Core, services};

/// How long the last events and answers may take.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Serves on the socket that `start` left as standard input.
pub async fn run(flags: &Flags) -> Result<()> {
    logging::start(flags.debug, &flags.namespace, &flags.id);
    let listener = inherited_listener().map_err(CommandError::NoSocket)?;
    let ttrpc_address = std::env::var("TTRPC_ADDRESS")
        .ok()
        .filter(|address| !address.is_empty());
    let (events, publisher) = EventSender::new(&flags.namespace, ttrpc_address);
    let core = Arc::new(Core::new(Box::new(QemuLauncher), events));
    let mut server = Server::new()
        .register_service(services(&core))
        .add_listener(Listener::try_from(listener).map_err(CommandError::NoSocket)?);
    server.start().await.map_err(CommandError::Server)?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "serving");
    wait_for_the_end(&core).await?;
    // First, because `delete` ends a server that still cleans up.
    if let Some(path) = address::path_of(&flags.socket) {
        let _ = fs::remove_file(path);
    }
    core.end().await;
    sweep(&flags.id).await;
    let _ = tokio::time::timeout(LAST_WORDS, server.shutdown()).await;
    drop(server);
    drop(core);
    // The publisher ends once nothing can send any more.
    let _ = tokio::time::timeout(LAST_WORDS, publisher).await;
    Ok(())
}

fn inherited_listener() -> std::io::Result<UnixListener> {
    let stdin = std::io::stdin();
    rustix::net::sockopt::socket_acceptconn(&stdin)?
        .then_some(())
        .ok_or(std::io::ErrorKind::InvalidInput)?;
    let listener = UnixListener::from(stdin.as_fd().try_clone_to_owned()?);
    let nothing = fs::File::open("/dev/null")?;
    nix::unistd::dup2_stdin(&nothing)?;
    Ok(listener)
}

async fn wait_for_the_end(core: &Core) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let shutdown = core.shutdown_token();
    tokio::select! {
        () = shutdown.cancelled() => tracing::info!("shutting down"),
        _ = terminate.recv() => tracing::warn!("terminated by a signal"),
        _ = interrupt.recv() => tracing::warn!("interrupted by a signal"),
    }
    Ok(())
}

/// Removes what a cancelled launch or a failed stop has left.
async fn sweep(id: &str) {
    let dir = Path::new(DEFAULT_STATE_ROOT).join(id);
    // A create that was refused because the id is taken must not end the one that has it.
    match cleanup_from_disk(&dir, Some(std::process::id())).await {
        Ok(report) if report.found => tracing::warn!(?report, "cleaned up from disk"),
        Ok(_) => {}
        Err(error) => tracing::error!(%error, "cannot clean up"),
    }
}
