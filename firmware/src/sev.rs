//! SEV metadata: the guest memory that a launcher prepares for the firmware.
//!
//! The metadata is the signature `ASEV`, then length, version and number of
//! sections, then 12 bytes per section: address, length, type; all `u32`.

use std::fmt;

use serde::Serialize;

use crate::PAGE_BYTES;
use crate::bytes::{array, u32_at};
use crate::error::FirmwareError;

const HEADER_LEN: usize = 16;
const DESCRIPTOR_LEN: usize = 12;

/// What a section is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SevSectionKind {
    /// Memory that is accepted before the firmware starts (type 1).
    SecMem,
    /// The secrets page (type 2).
    Secrets,
    /// The CPUID page (type 3).
    Cpuid,
    /// The calling area of a secure VM service module (type 4).
    SvsmCaa,
    /// The page that holds the kernel-hash table (type 0x10).
    KernelHashes,
    /// A type that this version does not know.
    Other(u32),
}

impl From<u32> for SevSectionKind {
    fn from(number: u32) -> Self {
        match number {
            1 => Self::SecMem,
            2 => Self::Secrets,
            3 => Self::Cpuid,
            4 => Self::SvsmCaa,
            0x10 => Self::KernelHashes,
            other => Self::Other(other),
        }
    }
}

impl fmt::Display for SevSectionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SecMem => f.write_str("memory"),
            Self::Secrets => f.write_str("secrets page"),
            Self::Cpuid => f.write_str("CPUID page"),
            Self::SvsmCaa => f.write_str("SVSM calling area"),
            Self::KernelHashes => f.write_str("kernel hashes"),
            Self::Other(number) => write!(f, "unknown type {number:#x}"),
        }
    }
}

/// One section of the SEV metadata; address and length are multiples of the page size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SevSection {
    /// What the section is for.
    pub kind: SevSectionKind,
    /// Guest physical address of the first byte.
    pub gpa: u32,
    /// Length in bytes.
    pub size: u32,
}

impl SevSection {
    /// One past the section's last byte.
    pub fn end(&self) -> u64 {
        u64::from(self.gpa) + u64::from(self.size)
    }

    fn overlaps(&self, other: &Self) -> bool {
        u64::from(self.gpa) < other.end() && u64::from(other.gpa) < self.end()
    }
}

/// What the metadata lists.
#[derive(Debug, Default)]
pub(crate) struct SevMetadata {
    pub(crate) sections: Vec<SevSection>,
    /// The build has none of the memory that its metadata has an entry for.
    ///
    /// Builds for TDX alone share the list with other builds and leave such entries at zero.
    pub(crate) lacks_memory: bool,
}

/// Reads the metadata that starts `distance` bytes before the end of the image.
pub(crate) fn parse_sections(
    image: &[u8],
    pointer_at: usize,
    distance: u32,
) -> Result<SevMetadata, FirmwareError> {
    let misplaced = FirmwareError::MetadataPlace {
        offset: pointer_at,
        distance,
    };
    let start = usize::try_from(distance)
        .ok()
        .filter(|distance| *distance >= HEADER_LEN)
        .and_then(|distance| image.len().checked_sub(distance))
        .ok_or_else(|| misplaced.clone())?;
    if array(image, start) != Some(*b"ASEV") {
        return Err(FirmwareError::MetadataSignature { offset: start });
    }
    let field = |at: usize| u32_at(image, start + at).ok_or_else(|| misplaced.clone());
    let (length, version, count) = (field(4)?, field(8)?, field(12)?);
    if version != 1 {
        return Err(FirmwareError::MetadataVersion {
            offset: start + 8,
            version,
        });
    }
    let needed = usize::try_from(count)
        .ok()
        .and_then(|count| count.checked_mul(DESCRIPTOR_LEN))
        .and_then(|len| len.checked_add(HEADER_LEN));
    let available = image.len() - start;
    if needed.is_none_or(|needed| usize::try_from(length) != Ok(needed) || needed > available) {
        return Err(FirmwareError::MetadataLength {
            offset: start + 4,
            length,
            count,
        });
    }
    let end = start + needed.unwrap_or(HEADER_LEN);
    let mut sections = Vec::new();
    let mut lacks_memory = false;
    for offset in (start + HEADER_LEN..end).step_by(DESCRIPTOR_LEN) {
        let word = |at: usize| u32_at(image, offset + at).unwrap_or(0);
        if (word(0), word(4)) == (0, 0) {
            lacks_memory |= SevSectionKind::from(word(8)) == SevSectionKind::SecMem;
            continue;
        }
        let section = parse_section(image, offset)?;
        if sections
            .iter()
            .any(|other: &SevSection| section.overlaps(other))
        {
            return Err(FirmwareError::SectionOverlap {
                offset,
                gpa: section.gpa,
            });
        }
        sections.push(section);
    }
    Ok(SevMetadata {
        sections,
        lacks_memory,
    })
}

fn parse_section(image: &[u8], offset: usize) -> Result<SevSection, FirmwareError> {
    let word = |at: usize| u32_at(image, offset + at).unwrap_or(0);
    let (gpa, size, kind) = (word(0), word(4), word(8));
    for (field, value) in [("address", gpa), ("length", size)] {
        if usize::try_from(value).is_ok_and(|value| value % PAGE_BYTES != 0) {
            return Err(FirmwareError::SectionAlignment {
                offset,
                field,
                value,
            });
        }
    }
    let section = SevSection {
        kind: kind.into(),
        gpa,
        size,
    };
    let image_gpa = (1u64 << 32) - image.len() as u64;
    if size == 0 || section.end() > 1 << 32 {
        return Err(FirmwareError::SectionRange {
            offset,
            gpa,
            length: size,
        });
    }
    if section.end() > image_gpa {
        return Err(FirmwareError::SectionOverlap { offset, gpa });
    }
    Ok(section)
}
