//! The software PSP of a simulated SEV-SNP launch.

use std::path::Path;
use std::sync::Arc;

use redoubt_evidence::GuestPolicy;
use redoubt_evidence::psp::VSOCK_PORT;
use redoubt_launch_plan::SimulatedLaunch;
use redoubt_snp_simulator::{LaunchFacts, SimulatedIdentity, SoftwarePsp};
use tokio::net::UnixListener;
use tokio::task::JoinHandle;

use crate::error::SandboxError;
use crate::vsock::HYBRID_SOCKET;

/// Serves attestation reports to this sandbox's guest and to nobody else, until aborted.
///
/// The vsock daemon connects the guest's requests for the PSP's port to a socket beside its own;
/// nobody but root can open the folder.
pub(crate) fn serve(launch: &SimulatedLaunch, dir: &Path) -> Result<JoinHandle<()>, SandboxError> {
    let identity =
        SimulatedIdentity::load(&launch.identity_dir).map_err(SandboxError::Simulation)?;
    let facts = LaunchFacts::new(
        launch.launch_digest.0,
        launch.host_data,
        GuestPolicy(launch.policy),
    );
    let psp = SoftwarePsp::new(identity, &facts).map_err(SandboxError::Simulation)?;
    let path = dir.join(format!("{HYBRID_SOCKET}_{VSOCK_PORT}"));
    let listener = UnixListener::bind(&path).map_err(|source| SandboxError::State {
        action: "listen on",
        path,
        source,
    })?;
    Ok(tokio::spawn(redoubt_snp_simulator::serve(
        Arc::new(psp),
        listener,
    )))
}
