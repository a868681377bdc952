//! Why a launch digest cannot be computed.

use redoubt_errors::{ErrorCode, UserError};

/// Why a launch digest cannot be computed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, displaydoc::Display)]
pub enum DigestError {
    /// {vcpus} vCPUs are not possible: 1 to 1024 are
    VcpuCount {
        /// The number asked for.
        vcpus: u32,
    },
    /// unknown CPU model {name:?}
    UnknownCpuModel {
        /// The name asked for.
        name: String,
        /// The nearest name that is known.
        nearest: Option<&'static str>,
    },
    /// CPU family {family}, model {model}, stepping {stepping} do not fit a CPUID signature
    CpuSignature {
        /// Family, extended family included.
        family: u32,
        /// Model, extended model included.
        model: u32,
        /// Stepping.
        stepping: u32,
    },
    /// firmware has no SEV metadata: it cannot start as an SEV-SNP guest
    NoSevMetadata,
    /// firmware has no SEV-ES reset block: only one vCPU can start
    NoResetBlock,
    /// firmware has no kernel-hash section in its SEV metadata, so kernel, initrd and command line cannot be measured
    NoKernelHashSection,
    /// firmware's kernel-hash area of {size} bytes is too small for the table of {needed} bytes
    HashAreaTooSmall {
        /// Length of the area in bytes.
        size: u32,
        /// Length of the table in bytes.
        needed: usize,
    },
    /// firmware's SEV metadata has a section of unknown type {kind:#x} at {gpa:#x}
    UnknownSection {
        /// Type number of the section.
        kind: u32,
        /// Guest address of the section.
        gpa: u32,
    },
}

impl UserError for DigestError {
    fn code(&self) -> ErrorCode {
        ErrorCode(match self {
            Self::VcpuCount { .. } => "RDT-DIG-001",
            Self::UnknownCpuModel { .. } => "RDT-DIG-002",
            Self::CpuSignature { .. } => "RDT-DIG-003",
            Self::NoSevMetadata => "RDT-DIG-004",
            Self::NoResetBlock => "RDT-DIG-005",
            Self::NoKernelHashSection => "RDT-DIG-006",
            Self::HashAreaTooSmall { .. } => "RDT-DIG-007",
            Self::UnknownSection { .. } => "RDT-DIG-008",
        })
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownCpuModel {
                nearest: Some(nearest),
                ..
            } => Some(format!("did you mean {nearest}?")),
            Self::NoKernelHashSection => {
                Some("use an AmdSev build of OVMF (package ovmf-amdsev)".to_owned())
            }
            _ => None,
        }
    }
}
