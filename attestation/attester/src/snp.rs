//! The kernel's own interfaces, whichever of them there is.

use async_trait::async_trait;
use redoubt_evidence::SnpEvidence;

use crate::Attester;
use crate::configfs::ConfigfsAttester;
use crate::device::DeviceAttester;
use crate::error::AttesterError;
use crate::kind::TeeKind;

/// Gets reports through configfs-tsm where it exists, else through `/dev/sev-guest`.
#[derive(Clone, Debug, Default)]
pub struct SnpAttester {
    configfs: ConfigfsAttester,
    device: DeviceAttester,
}

impl SnpAttester {
    /// An attester with both interfaces at places of the caller's choice.
    pub fn new(configfs: ConfigfsAttester, device: DeviceAttester) -> Self {
        Self { configfs, device }
    }
}

#[async_trait]
impl Attester for SnpAttester {
    fn tee(&self) -> TeeKind {
        TeeKind::Snp
    }

    async fn evidence(&self, report_data: &[u8; 64]) -> Result<SnpEvidence, AttesterError> {
        // One interface is chosen by its presence, not by trial: a request that
        // failed on one of them is not repeated on the other.
        if self.configfs.is_present() {
            self.configfs.evidence(report_data).await
        } else if self.device.is_present() {
            self.device.evidence(report_data).await
        } else {
            Err(AttesterError::NoDevice)
        }
    }
}
