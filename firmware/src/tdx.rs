//! TDX metadata: what a launcher puts into a trust domain before it starts.
//!
//! The metadata is the signature `TDVF`, then length, version and number of
//! sections as `u32`, then 32 bytes per section (Intel TDX Virtual Firmware
//! Design Guide 1.01, section 11): place and length in the file, place and
//! length in guest memory, type, attributes.

use std::fmt;

use serde::Serialize;

use crate::PAGE_BYTES;
use crate::bytes::{array, u32_at, u64_at};
use crate::error::FirmwareError;

const HEADER_LEN: usize = 16;
const DESCRIPTOR_LEN: usize = 32;
/// Real firmware has six or seven sections.
const MAX_SECTIONS: u32 = 64;
/// No machine has more physical address bits than 52.
const MAX_GUEST_ADDRESS: u64 = 1 << 52;
/// Most memory whose contents are measured, in bytes: twice the largest image.
const MAX_MEASURED_BYTES: u64 = 32 << 20;
/// Most memory that is added page by page, in bytes. Firmware asks for about 5 MiB.
const MAX_ADDED_BYTES: u64 = 4 << 30;

/// What a section is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TdxSectionKind {
    /// Boot firmware volume: the firmware's code (type 0).
    Bfv,
    /// Configuration firmware volume: variables and the like (type 1).
    Cfv,
    /// The hand-off block, a list of memory that the launcher writes (type 2).
    TdHob,
    /// Memory for the firmware's first steps (type 3).
    TempMem,
    /// Memory that stays accepted (type 4).
    PermMem,
    /// A kernel inside the image (type 5).
    Payload,
    /// The parameters of that kernel (type 6).
    PayloadParam,
    /// A type that this version does not know.
    Other(u32),
}

impl From<u32> for TdxSectionKind {
    fn from(number: u32) -> Self {
        match number {
            0 => Self::Bfv,
            1 => Self::Cfv,
            2 => Self::TdHob,
            3 => Self::TempMem,
            4 => Self::PermMem,
            5 => Self::Payload,
            6 => Self::PayloadParam,
            other => Self::Other(other),
        }
    }
}

impl fmt::Display for TdxSectionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bfv => f.write_str("boot firmware volume (BFV)"),
            Self::Cfv => f.write_str("configuration firmware volume (CFV)"),
            Self::TdHob => f.write_str("hand-off block (TD HOB)"),
            Self::TempMem => f.write_str("temporary memory"),
            Self::PermMem => f.write_str("permanent memory"),
            Self::Payload => f.write_str("payload"),
            Self::PayloadParam => f.write_str("payload parameters"),
            Self::Other(number) => write!(f, "unknown type {number:#x}"),
        }
    }
}

/// How a section's memory gets into the trust domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TdxAttributes(pub u32);

impl TdxAttributes {
    /// The memory's contents are part of MRTD (`MR.EXTEND`).
    pub fn measured(self) -> bool {
        self.0 & 1 != 0
    }

    /// The memory is added while the guest runs, not before (`PAGE.AUG`).
    pub fn added_at_run_time(self) -> bool {
        self.0 & 2 != 0
    }
}

impl Serialize for TdxAttributes {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let names = [
            ("mr-extend", self.measured()),
            ("page-aug", self.added_at_run_time()),
        ];
        serializer.collect_seq(names.iter().filter(|(_, set)| *set).map(|(name, _)| name))
    }
}

/// One section of the TDX metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct TdxSection {
    /// What the section is for.
    pub kind: TdxSectionKind,
    /// Where its data starts in the file.
    pub data_offset: u32,
    /// Length of its data in bytes; what is left of the memory is zeros.
    pub data_size: u32,
    /// Guest physical address of its first byte, a multiple of the page size.
    pub gpa: u64,
    /// Length in guest memory in bytes, a multiple of the page size.
    pub size: u64,
    /// How the memory gets into the trust domain.
    pub attributes: TdxAttributes,
    /// Where the section's descriptor stands in the file.
    #[serde(skip)]
    pub descriptor_offset: usize,
}

impl TdxSection {
    /// One past the section's last byte.
    pub fn end(&self) -> u64 {
        self.gpa.saturating_add(self.size)
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.gpa < other.end() && other.gpa < self.end()
    }

    /// The section's data in an image.
    pub(crate) fn data<'a>(&self, image: &'a [u8]) -> Result<&'a [u8], FirmwareError> {
        let start = usize::try_from(self.data_offset).ok();
        let len = usize::try_from(self.data_size).ok();
        start
            .zip(len)
            .and_then(|(start, len)| image.get(start..start.checked_add(len)?))
            .ok_or(FirmwareError::TdxDataRange {
                offset: self.descriptor_offset,
                place: self.data_offset,
                data: self.data_size,
                size: image.len(),
            })
    }
}

/// Reads the metadata that starts `distance` bytes before the end of the image.
pub(crate) fn parse_sections(
    image: &[u8],
    pointer_at: usize,
    distance: u32,
) -> Result<Vec<TdxSection>, FirmwareError> {
    let misplaced = || FirmwareError::TdxMetadataPlace {
        offset: pointer_at,
        distance,
    };
    let start = usize::try_from(distance)
        .ok()
        .filter(|distance| *distance >= HEADER_LEN)
        .and_then(|distance| image.len().checked_sub(distance))
        .ok_or_else(misplaced)?;
    if array(image, start) != Some(*b"TDVF") {
        return Err(FirmwareError::TdxMetadataSignature { offset: start });
    }
    let field = |at: usize| u32_at(image, start + at).ok_or_else(misplaced);
    let (length, version, count) = (field(4)?, field(8)?, field(12)?);
    if version != 1 {
        return Err(FirmwareError::TdxMetadataVersion {
            offset: start + 8,
            version,
        });
    }
    let needed =
        HEADER_LEN + DESCRIPTOR_LEN * usize::try_from(count.min(MAX_SECTIONS)).unwrap_or(0);
    let fits = (1..=MAX_SECTIONS).contains(&count)
        && usize::try_from(length) == Ok(needed)
        && needed <= image.len() - start;
    if !fits {
        return Err(FirmwareError::TdxMetadataLength {
            offset: start + 4,
            length,
            count,
        });
    }
    let mut sections: Vec<TdxSection> = Vec::new();
    for offset in (start + HEADER_LEN..start + needed).step_by(DESCRIPTOR_LEN) {
        let section = parse_section(image, offset)?;
        if let Some(other) = sections.iter().find(|other| section.overlaps(other)) {
            return Err(FirmwareError::TdxSectionOverlap {
                offset,
                gpa: section.gpa,
                other: other.gpa,
            });
        }
        sections.push(section);
    }
    check_total(&sections)?;
    Ok(sections)
}

fn parse_section(image: &[u8], offset: usize) -> Result<TdxSection, FirmwareError> {
    let word = |at: usize| u32_at(image, offset + at).unwrap_or(0);
    let long = |at: usize| u64_at(image, offset + at).unwrap_or(0);
    let section = TdxSection {
        data_offset: word(0),
        data_size: word(4),
        gpa: long(8),
        size: long(16),
        kind: word(24).into(),
        attributes: TdxAttributes(word(28)),
        descriptor_offset: offset,
    };
    for (field, at, value) in [("address", 8, section.gpa), ("length", 16, section.size)] {
        if value % PAGE_BYTES as u64 != 0 {
            return Err(FirmwareError::TdxSectionAlignment {
                offset: offset + at,
                field,
                value,
            });
        }
    }
    let end = section.gpa.checked_add(section.size);
    if section.size == 0 || end.is_none_or(|end| end > MAX_GUEST_ADDRESS) {
        return Err(FirmwareError::TdxSectionRange {
            offset,
            gpa: section.gpa,
            length: section.size,
        });
    }
    if u64::from(section.data_size) > section.size {
        return Err(FirmwareError::TdxDataSize {
            offset: offset + 4,
            data: section.data_size,
            length: section.size,
        });
    }
    Ok(section)
}

/// Keeps the time that a measurement takes within bounds.
fn check_total(sections: &[TdxSection]) -> Result<(), FirmwareError> {
    let (mut added, mut measured) = (0u64, 0u64);
    for section in sections {
        if !section.attributes.added_at_run_time() {
            added = added.saturating_add(section.size);
        }
        if section.attributes.measured() {
            measured = measured.saturating_add(section.size);
        }
        if added > MAX_ADDED_BYTES || measured > MAX_MEASURED_BYTES {
            return Err(FirmwareError::TdxSectionsTooLarge {
                offset: section.descriptor_offset,
                length: section.size,
            });
        }
    }
    Ok(())
}
