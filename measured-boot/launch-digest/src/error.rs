//! Why a launch digest cannot be computed.

#![expect(
    clippy::doc_markdown,
    reason = "doc comments of errors are their messages"
)]

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
    /// unknown virtual machine monitor {name:?}: qemu, ec2 and gce are known
    UnknownVmm {
        /// The name asked for.
        name: String,
    },
    /// firmware names no kernel-hash area in its footer table, so kernel, initrd and command line cannot be measured
    NoKernelHashArea,
    /// image is no secure VM service module: its footer table has no SVSM entry
    NotSvsm,
    /// service module's footer table: launch offset {offset:#x} lies outside its {size:#x} bytes
    SvsmEntry {
        /// The offset in the SVSM entry.
        offset: u32,
        /// Length of the image in bytes.
        size: usize,
    },
    /// size of the firmware's variable store, {vars_bytes} bytes, is not a multiple of the page size
    SvsmVars {
        /// The size in bytes.
        vars_bytes: u64,
    },
    /// service module of {svsm_bytes:#x} bytes and {vars_bytes:#x} bytes of variables do not fit below the firmware at {firmware_gpa:#x}
    SvsmRoom {
        /// Guest address of the firmware's first byte.
        firmware_gpa: u64,
        /// Size of the variable store in bytes.
        vars_bytes: u64,
        /// Length of the module's image in bytes.
        svsm_bytes: usize,
    },
    /// guest features {guest_features:#x} are not possible with a service module, which starts with 0x1
    SvsmFeatures {
        /// The features asked for.
        guest_features: u64,
    },
    /// guest policy {policy:#x} is not possible: bit 17 must be set and bits 26 to 63 clear
    GuestPolicy {
        /// The policy asked for.
        policy: u64,
    },
    /// kernel command line has a NUL at offset {offset}
    CmdlineNul {
        /// Where it stands, in bytes.
        offset: usize,
    },
    /// kernel command line of {len} bytes is longer than the {max} that the kernel keeps
    CmdlineTooLong {
        /// Length in bytes.
        len: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// not a bzImage: {field} at offset {offset:#x} is wrong
    NotBzImage {
        /// What was looked for.
        field: &'static str,
        /// Where it must stand.
        offset: usize,
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
            Self::UnknownVmm { .. } => "RDT-DIG-009",
            Self::NoKernelHashArea => "RDT-DIG-010",
            Self::NotSvsm => "RDT-DIG-011",
            Self::SvsmEntry { .. } => "RDT-DIG-012",
            Self::SvsmVars { .. } => "RDT-DIG-013",
            Self::SvsmRoom { .. } => "RDT-DIG-014",
            Self::SvsmFeatures { .. } => "RDT-DIG-015",
            Self::GuestPolicy { .. } => "RDT-DIG-016",
            Self::CmdlineNul { .. } => "RDT-DIG-017",
            Self::CmdlineTooLong { .. } => "RDT-DIG-018",
            Self::NotBzImage { .. } => "RDT-DIG-019",
        })
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownCpuModel {
                nearest: Some(nearest),
                ..
            } => Some(format!("did you mean {nearest}?")),
            Self::UnknownCpuModel { name, .. } if name == "host" || name == "max" => Some(
                "its signature is that of the host's CPU: give family, model and stepping"
                    .to_owned(),
            ),
            Self::NoKernelHashSection | Self::NoKernelHashArea => {
                Some("use an AmdSev build of OVMF (package ovmf-amdsev)".to_owned())
            }
            _ => None,
        }
    }
}
