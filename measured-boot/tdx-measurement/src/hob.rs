//! The hand-off block list that QEMU writes for the firmware (UEFI PI 1.8, volume 3, section 4).
//!
//! It lists the guest's memory: what is accepted already and what the guest
//! has to accept. Its place and its size follow from the firmware's metadata
//! and the guest's memory size.

use redoubt_firmware::{TdxSection, TdxSectionKind};

use crate::error::TdxError;

/// The most memory that a guest may have, in MiB: 64 TiB.
pub const MAX_MEMORY_MIB: u64 = 64 << 20;

/// From this size on, less memory is below 4 GiB, which leaves more room for devices.
const SPLIT_BYTES: u64 = 0xb000_0000;
const LOW_BYTES_IF_SPLIT: u64 = 0x8000_0000;
const HIGH_START: u64 = 1 << 32;

const HANDOFF_LEN: u16 = 56;
const RESOURCE_LEN: u16 = 48;
const END_LEN: u64 = 8;
const HANDOFF_TYPE: u16 = 1;
const RESOURCE_TYPE: u16 = 3;
const HANDOFF_VERSION: u32 = 9;
/// Memory that is present, initialised and tested.
const RESOURCE_ATTRIBUTES: u32 = 7;
const SYSTEM_MEMORY: u32 = 0;
const UNACCEPTED_MEMORY: u32 = 7;

/// A range of guest memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    resource: u32,
    start: u64,
    end: u64,
}

/// Memory below and above 4 GiB, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MemorySplit {
    pub(crate) low: u64,
    pub(crate) high: u64,
}

impl MemorySplit {
    /// As QEMU's machine `q35` splits it.
    pub(crate) fn of(memory_mib: u64) -> Result<Self, TdxError> {
        if !(1..=MAX_MEMORY_MIB).contains(&memory_mib) {
            return Err(TdxError::MemorySize { memory_mib });
        }
        let bytes = memory_mib << 20;
        Ok(if bytes >= SPLIT_BYTES {
            Self {
                low: LOW_BYTES_IF_SPLIT,
                high: bytes - LOW_BYTES_IF_SPLIT,
            }
        } else {
            Self {
                low: bytes,
                high: 0,
            }
        })
    }
}

/// The list's bytes without its end, as the firmware measures it.
pub fn td_hob(sections: &[TdxSection], memory_mib: u64) -> Result<Vec<u8>, TdxError> {
    let split = MemorySplit::of(memory_mib)?;
    let section = one(sections, TdxSectionKind::TdHob, "TD HOB")?;
    let ranges = ranges(sections, split, memory_mib)?;
    let needed = u64::from(HANDOFF_LEN) + u64::from(RESOURCE_LEN) * ranges.len() as u64 + END_LEN;
    if needed > section.size {
        return Err(TdxError::HobTooLarge {
            needed,
            size: section.size,
        });
    }
    let mut list = Vec::new();
    header(&mut list, HANDOFF_TYPE, HANDOFF_LEN);
    list.extend_from_slice(&HANDOFF_VERSION.to_le_bytes());
    // The mode of the boot, and the memory that the firmware may use: QEMU names none.
    list.extend_from_slice(&[0; 4 + 4 * 8]);
    list.extend_from_slice(&(section.gpa + needed).to_le_bytes());
    for range in ranges {
        header(&mut list, RESOURCE_TYPE, RESOURCE_LEN);
        // The owner.
        list.extend_from_slice(&[0; 16]);
        list.extend_from_slice(&range.resource.to_le_bytes());
        list.extend_from_slice(&RESOURCE_ATTRIBUTES.to_le_bytes());
        list.extend_from_slice(&range.start.to_le_bytes());
        list.extend_from_slice(&(range.end - range.start).to_le_bytes());
    }
    Ok(list)
}

fn header(list: &mut Vec<u8>, kind: u16, len: u16) {
    list.extend_from_slice(&kind.to_le_bytes());
    list.extend_from_slice(&len.to_le_bytes());
    list.extend_from_slice(&[0; 4]);
}

/// The only section of its type.
pub(crate) fn one<'a>(
    sections: &'a [TdxSection],
    kind: TdxSectionKind,
    name: &'static str,
) -> Result<&'a TdxSection, TdxError> {
    let mut found = sections.iter().filter(|section| section.kind == kind);
    match (found.next(), found.count()) {
        (Some(section), 0) => Ok(section),
        (first, others) => Err(TdxError::SectionCount {
            kind: name,
            count: others + usize::from(first.is_some()),
        }),
    }
}

/// The guest's memory by address: what the launcher has accepted, and what lies between.
fn ranges(
    sections: &[TdxSection],
    split: MemorySplit,
    memory_mib: u64,
) -> Result<Vec<Range>, TdxError> {
    let mut accepted: Vec<&TdxSection> = sections
        .iter()
        .filter(|s| matches!(s.kind, TdxSectionKind::TdHob | TdxSectionKind::TempMem))
        .collect();
    accepted.sort_by_key(|section| section.gpa);
    let mut ranges = Vec::new();
    let mut at = 0;
    for section in accepted {
        if section.end() > split.low {
            return Err(TdxError::SectionOutsideMemory {
                gpa: section.gpa,
                memory_mib,
            });
        }
        unaccepted(&mut ranges, at, section.gpa);
        ranges.push(Range {
            resource: SYSTEM_MEMORY,
            start: section.gpa,
            end: section.end(),
        });
        at = section.end();
    }
    unaccepted(&mut ranges, at, split.low);
    unaccepted(&mut ranges, HIGH_START, HIGH_START + split.high);
    Ok(ranges)
}

fn unaccepted(ranges: &mut Vec<Range>, start: u64, end: u64) {
    if start < end {
        ranges.push(Range {
            resource: UNACCEPTED_MEMORY,
            start,
            end,
        });
    }
}
