//! Ways in which a firmware image can be wrong.

use std::path::PathBuf;

use redoubt_errors::{ErrorCode, UserError};

use crate::guid::Guid;

/// Why a firmware image cannot be used. Offsets count from the start of the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, displaydoc::Display)]
pub enum FirmwareError {
    /// firmware of {size} bytes is smaller than one page
    TooSmall {
        /// Length of the file in bytes.
        size: usize,
    },
    /// firmware of {size} bytes is larger than 16 MiB
    TooLarge {
        /// Length of the file in bytes.
        size: usize,
    },
    /// firmware size of {size} bytes is not a multiple of the page size
    NotWholePages {
        /// Length of the file in bytes.
        size: usize,
    },
    /// no OVMF footer GUID at offset {offset:#x}
    NoFooter {
        /// Where the GUID must stand.
        offset: usize,
    },
    /// footer table at offset {offset:#x}: total length {length} is impossible
    TableLength {
        /// Where the length stands.
        offset: usize,
        /// The length found there.
        length: u16,
    },
    /// footer table entry at offset {offset:#x}: length {length} does not fit into the {remaining} bytes left
    EntryLength {
        /// Where the length stands.
        offset: usize,
        /// The length found there.
        length: u16,
        /// Bytes between the table's start and the entry's end.
        remaining: usize,
    },
    /// footer table entry at offset {offset:#x}: {guid} appears twice
    DuplicateEntry {
        /// Where the second entry starts.
        offset: usize,
        /// The GUID in question.
        guid: Guid,
    },
    /// footer table entry {guid} at offset {offset:#x}: {actual} bytes of data instead of {expected}
    EntryData {
        /// Where the data starts.
        offset: usize,
        /// The entry's GUID.
        guid: Guid,
        /// Length that the entry must have.
        expected: usize,
        /// Length that it has.
        actual: usize,
    },
    /// SEV metadata pointer at offset {offset:#x}: distance {distance:#x} from the end leads outside the file
    MetadataPlace {
        /// Where the pointer stands.
        offset: usize,
        /// The distance found there.
        distance: u32,
    },
    /// SEV metadata at offset {offset:#x}: signature is not "ASEV"
    MetadataSignature {
        /// Where the metadata starts.
        offset: usize,
    },
    /// SEV metadata at offset {offset:#x}: version {version} is not 1
    MetadataVersion {
        /// Where the version stands.
        offset: usize,
        /// The version found there.
        version: u32,
    },
    /// SEV metadata at offset {offset:#x}: length {length} does not fit {count} sections
    MetadataLength {
        /// Where the length stands.
        offset: usize,
        /// The length found there.
        length: u32,
        /// Number of sections claimed.
        count: u32,
    },
    /// SEV metadata section at offset {offset:#x}: {field} {value:#x} is not a multiple of the page size
    SectionAlignment {
        /// Where the section's descriptor starts.
        offset: usize,
        /// `address` or `length`.
        field: &'static str,
        /// The value found there.
        value: u32,
    },
    /// SEV metadata section at offset {offset:#x}: {length:#x} bytes at {gpa:#x} are empty or reach beyond 4 GiB
    SectionRange {
        /// Where the section's descriptor starts.
        offset: usize,
        /// Guest address of the section.
        gpa: u32,
        /// Length of the section in bytes.
        length: u32,
    },
    /// SEV metadata section at offset {offset:#x}: memory at {gpa:#x} belongs to another section or to the firmware itself
    SectionOverlap {
        /// Where the section's descriptor starts.
        offset: usize,
        /// Guest address of the section.
        gpa: u32,
    },
    /// kernel-hash area of {size} bytes at {gpa:#x} (footer entry at offset {offset:#x}) is not inside the first page of a kernel-hash section
    HashAreaPlace {
        /// Where the entry's data starts.
        offset: usize,
        /// Guest address of the area.
        gpa: u32,
        /// Length of the area in bytes.
        size: u32,
    },
    /// TDX metadata pointer at offset {offset:#x}: distance {distance:#x} from the end leads outside the file
    TdxMetadataPlace {
        /// Where the pointer stands.
        offset: usize,
        /// The distance found there.
        distance: u32,
    },
    /// TDX metadata at offset {offset:#x}: signature is not "TDVF"
    TdxMetadataSignature {
        /// Where the metadata starts.
        offset: usize,
    },
    /// TDX metadata at offset {offset:#x}: version {version} is not 1
    TdxMetadataVersion {
        /// Where the version stands.
        offset: usize,
        /// The version found there.
        version: u32,
    },
    /// TDX metadata at offset {offset:#x}: length {length} does not fit {count} sections, of which there may be 1 to 64
    TdxMetadataLength {
        /// Where the length stands.
        offset: usize,
        /// The length found there.
        length: u32,
        /// Number of sections claimed.
        count: u32,
    },
    /// TDX metadata section, field at offset {offset:#x}: {field} {value:#x} is not a multiple of the page size
    TdxSectionAlignment {
        /// Where the field stands.
        offset: usize,
        /// `address` or `length`.
        field: &'static str,
        /// The value found there.
        value: u64,
    },
    /// TDX metadata section at offset {offset:#x}: {length:#x} bytes at {gpa:#x} are empty or reach beyond guest memory
    TdxSectionRange {
        /// Where the section's descriptor starts.
        offset: usize,
        /// Guest address of the section.
        gpa: u64,
        /// Length of the section in bytes.
        length: u64,
    },
    /// TDX metadata section at offset {offset:#x}: memory at {gpa:#x} overlaps the section at {other:#x}
    TdxSectionOverlap {
        /// Where the section's descriptor starts.
        offset: usize,
        /// Guest address of the section.
        gpa: u64,
        /// Guest address of the section before it.
        other: u64,
    },
    /// TDX metadata section, field at offset {offset:#x}: {data:#x} bytes of data do not fit into {length:#x} bytes of memory
    TdxDataSize {
        /// Where the data's length stands.
        offset: usize,
        /// The length found there.
        data: u32,
        /// Length of the section in bytes.
        length: u64,
    },
    /// TDX metadata section at offset {offset:#x}: {length:#x} bytes are more than a launcher would add and measure
    TdxSectionsTooLarge {
        /// Where the section's descriptor starts.
        offset: usize,
        /// Length of the section in bytes.
        length: u64,
    },
    /// TDX metadata section at offset {offset:#x}: {data:#x} bytes of data at {place:#x} lie outside the file of {size:#x} bytes
    TdxDataRange {
        /// Where the section's descriptor starts.
        offset: usize,
        /// Where the data should start.
        place: u32,
        /// How long it should be.
        data: u32,
        /// Length of the file in bytes.
        size: usize,
    },
    /// firmware has no TDX metadata: it cannot start as a TDX guest
    NoTdxMetadata,
    /// firmware {path:?} has no kernel-hash section: it would boot any kernel, initrd and command line
    NoKernelHashes {
        /// Path of the firmware file.
        path: PathBuf,
    },
}

impl UserError for FirmwareError {
    fn code(&self) -> ErrorCode {
        ErrorCode(match self {
            Self::TooSmall { .. } => "RDT-FW-001",
            Self::TooLarge { .. } => "RDT-FW-002",
            Self::NotWholePages { .. } => "RDT-FW-003",
            Self::NoKernelHashes { .. } => "RDT-FW-004",
            Self::NoFooter { .. } => "RDT-FW-005",
            Self::TableLength { .. } => "RDT-FW-006",
            Self::EntryLength { .. } => "RDT-FW-007",
            Self::DuplicateEntry { .. } => "RDT-FW-008",
            Self::EntryData { .. } => "RDT-FW-009",
            Self::MetadataPlace { .. } => "RDT-FW-010",
            Self::MetadataSignature { .. } => "RDT-FW-011",
            Self::MetadataVersion { .. } => "RDT-FW-012",
            Self::MetadataLength { .. } => "RDT-FW-013",
            Self::SectionAlignment { .. } => "RDT-FW-014",
            Self::SectionRange { .. } => "RDT-FW-015",
            Self::SectionOverlap { .. } => "RDT-FW-016",
            Self::HashAreaPlace { .. } => "RDT-FW-017",
            Self::TdxMetadataPlace { .. } => "RDT-FW-018",
            Self::TdxMetadataSignature { .. } => "RDT-FW-019",
            Self::TdxMetadataVersion { .. } => "RDT-FW-020",
            Self::TdxMetadataLength { .. } => "RDT-FW-021",
            Self::TdxSectionAlignment { .. } => "RDT-FW-022",
            Self::TdxSectionRange { .. } => "RDT-FW-023",
            Self::TdxSectionOverlap { .. } => "RDT-FW-024",
            Self::TdxDataSize { .. } => "RDT-FW-025",
            Self::TdxSectionsTooLarge { .. } => "RDT-FW-026",
            Self::TdxDataRange { .. } => "RDT-FW-027",
            Self::NoTdxMetadata => "RDT-FW-028",
        })
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NoKernelHashes { .. } => Some(
                "use an AmdSev build of OVMF, such as /usr/share/ovmf/OVMF.amdsev.fd of the \
                 package ovmf-amdsev"
                    .to_owned(),
            ),
            Self::NoFooter { .. }
            | Self::TooSmall { .. }
            | Self::NotWholePages { .. }
            | Self::TdxDataRange { .. } => {
                Some("check that the file is a complete OVMF image".to_owned())
            }
            Self::NoTdxMetadata => Some(
                "use a build of OVMF for TDX, such as /usr/share/ovmf/OVMF.inteltdx.ms.fd of the \
                 package ovmf-inteltdx"
                    .to_owned(),
            ),
            _ => None,
        }
    }
}
