//! Reports through `/dev/sev-guest` (Linux `Documentation/virt/coco/sev-guest.rst`).

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use async_trait::async_trait;
use redoubt_evidence::psp::{ReportRequest, parse_report_message};
use redoubt_evidence::{CertTable, SnpEvidence};

use crate::error::AttesterError;
use crate::ioctl::{ExtendedReport, get_extended_report};
use crate::kind::TeeKind;
use crate::{Attester, check_echo};

/// Where Linux has the SNP guest driver's device.
pub const SEV_GUEST_DEVICE: &str = "/dev/sev-guest";

/// Gets reports and certificates through the SNP guest driver.
#[derive(Clone, Debug)]
pub struct DeviceAttester {
    path: PathBuf,
}

impl Default for DeviceAttester {
    fn default() -> Self {
        Self::at(SEV_GUEST_DEVICE)
    }
}

impl DeviceAttester {
    /// An attester whose device is at `path`.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Whether there is something at the device's path.
    pub fn is_present(&self) -> bool {
        self.path.exists()
    }

    /// Makes one report; blocks while the secure processor works.
    ///
    /// A failed request is not repeated: the driver disables the guest's channel
    /// key when sequence numbers could be reused, and only it knows when.
    fn request(&self, report_data: &[u8; 64]) -> Result<SnpEvidence, AttesterError> {
        let device = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(nix::libc::O_CLOEXEC)
            .open(&self.path)
            .map_err(|source| AttesterError::Open {
                path: self.path.clone(),
                source,
            })?;
        let request = ReportRequest::new(*report_data).to_bytes();
        let ExtendedReport { response, certs } = get_extended_report(&device, &request)?;
        let (report, _padding) = parse_report_message(&response)?;
        Ok(SnpEvidence {
            report,
            certs: CertTable::parse(&certs)?,
        })
    }
}

#[async_trait]
impl Attester for DeviceAttester {
    fn tee(&self) -> TeeKind {
        TeeKind::Snp
    }

    async fn evidence(&self, report_data: &[u8; 64]) -> Result<SnpEvidence, AttesterError> {
        let (attester, data) = (self.clone(), *report_data);
        let evidence = tokio::task::spawn_blocking(move || attester.request(&data))
            .await
            .map_err(|_joined| AttesterError::Interrupted)??;
        check_echo(evidence, report_data)
    }
}
