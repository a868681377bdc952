//! Why there is no evidence.

use std::io;
use std::path::PathBuf;

use redoubt_errors::{ErrorCode, UserError};
use redoubt_evidence::EvidenceError;

/// A reason why a guest could not get evidence about itself.
#[derive(Debug, thiserror::Error, displaydoc::Display)]
pub enum AttesterError {
    /// the kernel command line names the unknown attester {name:?}
    UnknownAttester {
        /// The value of `redoubt.attester=`.
        name: String,
    },
    /// the kernel command line names an attester twice
    TwoAttesters,
    /// the simulated secure processor at {address} cannot be reached
    Connect {
        /// Where it should listen.
        address: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// the connection to the simulated secure processor broke
    Exchange(#[source] io::Error),
    /// the simulated secure processor announces a message of {0} bytes, which is too long
    MessageTooLong(u32),
    /// no report came within {seconds} seconds
    Timeout {
        /// How long was waited.
        seconds: u64,
    },
    /// the report is malformed
    Evidence(#[from] EvidenceError),
    /// the report does not carry the report data it was asked for
    ReportDataDiffers,
    /// this guest has neither configfs-tsm nor /dev/sev-guest
    NoDevice,
    /// {path} cannot be {action}
    Configfs {
        /// The file or directory.
        path: PathBuf,
        /// What was tried: "read", "written", ...
        action: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// the report provider is {provider:?}, not `sev_guest`
    Provider {
        /// What configfs-tsm says.
        provider: String,
    },
    /// configfs-tsm's generation is {actual}, expected {expected}: somebody else wrote to the request
    Generation {
        /// The value that one writer produces.
        expected: u64,
        /// What was read.
        actual: String,
    },
    /// {path} holds more than {limit} bytes
    AttributeTooLong {
        /// The attribute.
        path: PathBuf,
        /// The largest size accepted, in bytes.
        limit: usize,
    },
    /// {path} cannot be opened
    Open {
        /// The device.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// the SNP guest driver made no report (firmware error {firmware:#x}, hypervisor error {hypervisor:#x})
    Driver {
        /// The secure processor's status.
        firmware: u32,
        /// The hypervisor's status.
        hypervisor: u32,
        /// What the ioctl returned.
        #[source]
        source: io::Error,
    },
    /// the thread that asked for the report ended without an answer
    Interrupted,
}

impl UserError for AttesterError {
    fn code(&self) -> ErrorCode {
        ErrorCode(match self {
            Self::UnknownAttester { .. } => "RDT-ATT-001",
            Self::TwoAttesters => "RDT-ATT-002",
            Self::Connect { .. } => "RDT-ATT-003",
            Self::Exchange(_) => "RDT-ATT-004",
            Self::MessageTooLong(_) => "RDT-ATT-005",
            Self::Timeout { .. } => "RDT-ATT-006",
            Self::Evidence(_) => "RDT-ATT-007",
            Self::ReportDataDiffers => "RDT-ATT-008",
            Self::NoDevice => "RDT-ATT-009",
            Self::Configfs { .. } => "RDT-ATT-010",
            Self::Provider { .. } => "RDT-ATT-011",
            Self::Generation { .. } => "RDT-ATT-012",
            Self::AttributeTooLong { .. } => "RDT-ATT-013",
            Self::Open { .. } => "RDT-ATT-014",
            Self::Driver { .. } => "RDT-ATT-015",
            Self::Interrupted => "RDT-ATT-016",
        })
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::UnknownAttester { .. } => {
                "redoubt.attester= is one of snp, simulated-snp and none"
            }
            Self::Connect { .. } => {
                "the host starts the simulated secure processor only where snp_simulation is set"
            }
            Self::NoDevice => {
                "the guest kernel needs CONFIG_SEV_GUEST, and the VM must run as an SEV-SNP guest"
            }
            Self::Driver { .. } => {
                "the driver is not asked again: a repeated request can disable its channel key"
            }
            _ => return None,
        };
        Some(hint.to_owned())
    }
}
