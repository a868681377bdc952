//! Evidence sources of the guest.
//!
//! One trait, [`Attester`], and a backend per way to get a report:
//!
//! - [`SimulatedAttester`]: a software secure processor behind a stream socket;
//! - [`ConfigfsAttester`]: Linux' configfs-tsm (6.7 and later);
//! - [`DeviceAttester`]: the older `/dev/sev-guest`;
//! - [`SnpAttester`]: whichever of the last two the kernel has.
//!
//! The guest learns which one to use only from its measured command line, see
//! [`AttesterKind::from_command_line`].
//!
//! Every backend checks that the report it hands out echoes the `REPORT_DATA`
//! it was asked for. Nothing else is verified here: that is the relying party's
//! work.

#![deny(unsafe_code)]

mod configfs;
mod device;
mod error;
mod ioctl;
mod kind;
mod simulated;
mod snp;

use async_trait::async_trait;
use redoubt_evidence::SnpEvidence;

pub use configfs::{CONFIGFS_REPORT_DIR, ConfigfsAttester};
pub use device::{DeviceAttester, SEV_GUEST_DEVICE};
pub use error::AttesterError;
pub use kind::{AttesterKind, TeeKind};
pub use simulated::{PspAddress, SimulatedAttester, UnixAddress, VsockAddress};
pub use snp::SnpAttester;

/// A source of evidence about this guest.
#[async_trait]
pub trait Attester: std::fmt::Debug + Send + Sync {
    /// The kind of TEE behind this source.
    fn tee(&self) -> TeeKind;

    /// A fresh report over `report_data`, with the certificates the host gave.
    async fn evidence(&self, report_data: &[u8; 64]) -> Result<SnpEvidence, AttesterError>;

    /// The `HOST_DATA` of this guest's own launch, from a report of its own.
    async fn host_data(&self) -> Result<[u8; 32], AttesterError> {
        let evidence = self.evidence(&[0; 64]).await?;
        Ok(*evidence.report.host_data())
    }
}

/// The evidence source of a kind, at its usual place.
///
/// Nothing is opened yet: a missing device is an error of the first request.
pub fn attester_for(kind: AttesterKind) -> Box<dyn Attester> {
    match kind {
        AttesterKind::Snp => Box::new(SnpAttester::default()),
        AttesterKind::SimulatedSnp => Box::new(SimulatedAttester::new(VsockAddress::host())),
    }
}

/// Refuses a report that does not carry the data it was asked for.
fn check_echo(evidence: SnpEvidence, asked: &[u8; 64]) -> Result<SnpEvidence, AttesterError> {
    if evidence.report.report_data() == asked {
        Ok(evidence)
    } else {
        Err(AttesterError::ReportDataDiffers)
    }
}
