//! The software PSP of a simulated SEV-SNP launch.

use std::path::Path;

use redoubt_evidence::psp::VSOCK_PORT;
use redoubt_launch_plan::SimulatedLaunch;
use tokio::net::UnixListener;
use tokio::task::JoinHandle;

use crate::error::SandboxError;
use crate::vsock::HYBRID_SOCKET;

/// Serves attestation reports to this sandbox's guest and to nobody else, until aborted.
pub(crate) fn serve(_launch: &SimulatedLaunch, dir: &Path) -> Result<JoinHandle<()>, SandboxError> {
    let path = dir.join(format!("{HYBRID_SOCKET}_{VSOCK_PORT}"));
    let _listener = UnixListener::bind(&path).map_err(|source| SandboxError::State {
        action: "listen on",
        path,
        source,
    })?;
    Err(SandboxError::SimulatedIdentity(
        "the software PSP is not linked in".into(),
    ))
}
