//! What a sandbox holds on the host, and giving it back.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use crate::cgroup;
use crate::error::SandboxError;
use crate::network;
use crate::process::ChildProcess;
use crate::qmp::Qmp;
use crate::state::StateDir;

/// How long QEMU may take to end by itself.
const QUIT_TIMEOUT: Duration = Duration::from_secs(2);

/// Everything that was created so far, in the order of creation.
#[derive(Debug)]
pub(crate) struct Resources {
    pub(crate) dir: StateDir,
    pub(crate) psp: Option<JoinHandle<()>>,
    pub(crate) daemon: Option<ChildProcess>,
    pub(crate) qemu: Option<ChildProcess>,
    pub(crate) qmp: Option<Arc<Qmp>>,
    released: Mutex<bool>,
}

impl Resources {
    /// Nothing but a state directory.
    pub(crate) fn new(dir: StateDir) -> Self {
        let released = Mutex::new(false);
        Self {
            dir,
            psp: None,
            daemon: None,
            qemu: None,
            qmp: None,
            released,
        }
    }

    /// Ends and removes everything. Each step is tried, whatever became of those before it; the
    /// state directory stays for a later try unless all of them worked.
    pub(crate) async fn release(&self) -> Result<(), SandboxError> {
        let mut released = self.released.lock().await;
        if *released {
            return Ok(());
        }
        let qemu = self.end_qemu().await;
        let daemon = match &self.daemon {
            Some(daemon) => daemon.kill().await,
            None => Ok(()),
        };
        if let Some(psp) = &self.psp {
            psp.abort();
        }
        let state = self.dir.state();
        let network = match &state.netns {
            Some(netns) => network::disconnect(netns, &state.taps)
                .await
                .map_err(SandboxError::from),
            None => Ok(()),
        };
        let cgroups = cgroup::remove(&state.cgroups).await;
        qemu.and(daemon)
            .and(network)
            .and(cgroups)
            .and_then(|()| self.dir.remove())?;
        *released = true;
        Ok(())
    }

    /// Asks QEMU to end, and kills it when it does not.
    async fn end_qemu(&self) -> Result<(), SandboxError> {
        let Some(qemu) = &self.qemu else {
            return Ok(());
        };
        if let Some(qmp) = &self.qmp
            && qemu.try_exit().is_none()
        {
            let quit = async {
                // QEMU may be gone before its answer is read.
                let _ = qmp.quit().await;
                qemu.wait().await
            };
            if tokio::time::timeout(QUIT_TIMEOUT, quit).await.is_ok() {
                return Ok(());
            }
        }
        qemu.kill().await
    }
}

impl Drop for Resources {
    fn drop(&mut self) {
        if let Some(psp) = &self.psp {
            psp.abort();
        }
    }
}
