//! Why the measurements of a TDX guest cannot be computed.

#![expect(
    clippy::doc_markdown,
    reason = "doc comments of errors are their messages"
)]

use redoubt_errors::{ErrorCode, UserError};
use redoubt_event_log::EventLogError;
use redoubt_firmware::FirmwareError;

/// Why the measurements of a TDX guest cannot be computed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, displaydoc::Display)]
pub enum TdxError {
    /// the firmware's TDX metadata cannot be used
    Firmware(#[from] FirmwareError),
    /// firmware has {count} sections of the type {kind}, where one is needed
    SectionCount {
        /// The section's type.
        kind: &'static str,
        /// How many there are.
        count: usize,
    },
    /// firmware's section at {gpa:#x} lies outside the guest's memory of {memory_mib} MiB
    SectionOutsideMemory {
        /// Guest address of the section.
        gpa: u64,
        /// The guest's memory in MiB.
        memory_mib: u64,
    },
    /// hand-off block of {needed} bytes does not fit into the firmware's section of {size} bytes
    HobTooLarge {
        /// Length of the block in bytes.
        needed: u64,
        /// Length of the section in bytes.
        size: u64,
    },
    /// {memory_mib} MiB of memory are not possible: 1 to 67108864 are
    MemorySize {
        /// The size asked for in MiB.
        memory_mib: u64,
    },
    /// QEMU version {version:?} is not a number such as 10.1
    QemuVersion {
        /// The text found.
        version: String,
    },
    /// firmware of release {release} measures more into RTMR0 than can be predicted: SMBIOS tables and settings of QEMU
    UnpredictableLayout {
        /// The firmware's release.
        release: String,
    },
    /// ACPI tables of {size} bytes: there must be some, and 4 MiB at most
    AcpiSize {
        /// Length of the file in bytes.
        size: usize,
    },
    /// ACPI tables, offset {offset:#x}: length {length} of table {signature} does not fit
    AcpiLength {
        /// Where the table starts.
        offset: usize,
        /// The table's name.
        signature: String,
        /// The length found there.
        length: u32,
    },
    /// ACPI tables have no table {signature}
    AcpiMissing {
        /// The table's name.
        signature: &'static str,
    },
    /// ACPI tables, offset {offset:#x}: how QEMU loads table {signature} is not known
    AcpiUnknown {
        /// Where the table starts.
        offset: usize,
        /// The table's name.
        signature: String,
    },
    /// ACPI tables list {found} vCPUs, not {vcpus}
    AcpiVcpus {
        /// The number in the tables.
        found: u32,
        /// The number asked for.
        vcpus: u32,
    },
    /// kernel is no PE image: {field} at offset {offset:#x} is wrong
    NoPeImage {
        /// Where the field stands.
        offset: usize,
        /// The field's name.
        field: &'static str,
    },
    /// kernel, offset {offset:#x}: {field} leads outside the file
    PeRange {
        /// Where the field stands.
        offset: usize,
        /// The field's name.
        field: &'static str,
    },
    /// kernel is no Linux kernel for x86: {field} at offset {offset:#x} is wrong
    NoLinuxKernel {
        /// Where the field stands.
        offset: usize,
        /// The field's name.
        field: &'static str,
    },
    /// initrd of {size} bytes does not fit into the guest's memory of {memory_mib} MiB
    InitrdSize {
        /// Length of the initrd in bytes.
        size: u64,
        /// The guest's memory in MiB.
        memory_mib: u64,
    },
    /// command line, offset {offset}: only printable ASCII is passed on unchanged
    Cmdline {
        /// Where the first other byte stands.
        offset: usize,
    },
    /// the event log cannot be used
    EventLog(#[from] EventLogError),
    /// event log was written by another guest: {label:?} has the digest {found} instead of {expected}
    LogDigest {
        /// What the event is.
        label: String,
        /// The log's digest in hexadecimal.
        found: String,
        /// The predicted digest in hexadecimal.
        expected: String,
    },
}

impl UserError for TdxError {
    fn code(&self) -> ErrorCode {
        ErrorCode(match self {
            Self::Firmware(error) => return error.code(),
            Self::EventLog(error) => return error.code(),
            Self::SectionCount { .. } => "RDT-TDX-001",
            Self::SectionOutsideMemory { .. } => "RDT-TDX-002",
            Self::HobTooLarge { .. } => "RDT-TDX-003",
            Self::MemorySize { .. } => "RDT-TDX-004",
            Self::QemuVersion { .. } => "RDT-TDX-005",
            Self::UnpredictableLayout { .. } => "RDT-TDX-006",
            Self::AcpiSize { .. } => "RDT-TDX-007",
            Self::AcpiLength { .. } => "RDT-TDX-008",
            Self::AcpiMissing { .. } => "RDT-TDX-009",
            Self::AcpiUnknown { .. } => "RDT-TDX-010",
            Self::NoPeImage { .. } => "RDT-TDX-011",
            Self::PeRange { .. } => "RDT-TDX-012",
            Self::NoLinuxKernel { .. } => "RDT-TDX-013",
            Self::InitrdSize { .. } => "RDT-TDX-014",
            Self::Cmdline { .. } => "RDT-TDX-015",
            Self::LogDigest { .. } => "RDT-TDX-016",
            Self::AcpiVcpus { .. } => "RDT-TDX-017",
        })
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Firmware(error) => return error.hint(),
            Self::EventLog(error) => return error.hint(),
            Self::UnpredictableLayout { .. } => {
                "give the event log of a guest of the same shape with --event-log"
            }
            Self::AcpiUnknown { .. } => {
                "give QEMU's etc/table-loader as well: a directory with tables, rsdp and \
                 table-loader"
            }
            Self::NoPeImage { .. } => {
                "the firmware boots kernels with an EFI stub (CONFIG_EFI_STUB) only"
            }
            Self::AcpiVcpus { .. } => "QEMU makes other tables for each number of vCPUs",
            Self::LogDigest { .. } => {
                "take the log from a guest with this firmware and this much memory"
            }
            _ => return None,
        };
        Some(hint.to_owned())
    }
}
