//! The footer GUID table, which is read backwards from the end of the image.
//!
//! Each entry is laid out as `data`, `u16` length of the whole entry, GUID. The
//! footer itself is the last entry; its length counts the whole table.

use crate::bytes::{array, u16_at};
use crate::error::FirmwareError;
use crate::guid::Guid;

/// Distance of the footer's GUID from the end of the image.
const FOOTER_GUID_DISTANCE: usize = 48;
/// Length of an entry without data: the length field and the GUID.
const ENTRY_OVERHEAD: usize = 18;

/// One entry of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FooterEntry {
    /// What the entry is.
    pub guid: Guid,
    /// Offset of its data from the start of the image.
    pub offset: usize,
    /// Length of its data in bytes.
    pub len: usize,
}

/// The entries of the table, last entry of the image first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FooterTable {
    entries: Vec<FooterEntry>,
}

impl FooterTable {
    /// Reads the table at the end of an image.
    pub fn parse(image: &[u8]) -> Result<Self, FirmwareError> {
        let guid_at = image
            .len()
            .checked_sub(FOOTER_GUID_DISTANCE)
            .filter(|at| *at >= 2)
            .ok_or(FirmwareError::TooSmall { size: image.len() })?;
        if array(image, guid_at).map(Guid) != Some(Guid::FOOTER) {
            return Err(FirmwareError::NoFooter { offset: guid_at });
        }
        let length_at = guid_at - 2;
        let length = u16_at(image, length_at).unwrap_or(0);
        let entries_len = usize::from(length)
            .checked_sub(ENTRY_OVERHEAD)
            .filter(|len| *len <= length_at)
            .ok_or(FirmwareError::TableLength {
                offset: length_at,
                length,
            })?;
        Self::parse_entries(image, length_at - entries_len, length_at)
    }

    /// Walks from `end` back to `start`; every step shortens the rest by at least an entry's overhead.
    fn parse_entries(image: &[u8], start: usize, mut end: usize) -> Result<Self, FirmwareError> {
        let mut table = Self::default();
        while end > start {
            let remaining = end - start;
            let length_at = end.saturating_sub(ENTRY_OVERHEAD);
            let length = u16_at(image, length_at).unwrap_or(0);
            let wrong = FirmwareError::EntryLength {
                offset: length_at,
                length,
                remaining,
            };
            let whole = usize::from(length);
            if remaining < ENTRY_OVERHEAD || whole < ENTRY_OVERHEAD || whole > remaining {
                return Err(wrong);
            }
            let guid = array(image, length_at + 2).map(Guid).ok_or(wrong)?;
            let offset = end - whole;
            if table.get(guid).is_some() {
                return Err(FirmwareError::DuplicateEntry { offset, guid });
            }
            table.entries.push(FooterEntry {
                guid,
                offset,
                len: whole - ENTRY_OVERHEAD,
            });
            end = offset;
        }
        Ok(table)
    }

    /// All entries, last of the image first.
    pub fn entries(&self) -> &[FooterEntry] {
        &self.entries
    }

    /// The entry with this GUID.
    pub fn get(&self, guid: Guid) -> Option<&FooterEntry> {
        self.entries.iter().find(|entry| entry.guid == guid)
    }

    /// The data of the entry with this GUID, which must be `N` bytes long.
    pub(crate) fn data<const N: usize>(
        &self,
        image: &[u8],
        guid: Guid,
    ) -> Result<Option<(usize, [u8; N])>, FirmwareError> {
        let Some(entry) = self.get(guid) else {
            return Ok(None);
        };
        let wrong = FirmwareError::EntryData {
            offset: entry.offset,
            guid,
            expected: N,
            actual: entry.len,
        };
        if entry.len != N {
            return Err(wrong);
        }
        let data = array(image, entry.offset).ok_or(wrong)?;
        Ok(Some((entry.offset, data)))
    }
}
