//! The names and versions that a build of the firmware carries.
//!
//! EDK II keeps them as UTF-16 text inside its main firmware volume, which is
//! compressed with LZMA (UEFI PI 1.8, volume 3: firmware volumes, files and
//! GUID-defined sections). They are for people and for guesses: what cannot
//! be found is left out.

use std::io::Read;

use lzma_rust2::LzmaReader;
use serde::Serialize;

use crate::bytes::{array, u16_at, u32_at, u64_at};
use crate::guid::Guid;

/// A firmware volume's header up to its signature.
const VOLUME_SIGNATURE_AT: usize = 40;
/// Length of a file's header and of a GUID-defined section's header in bytes.
const HEADER_LEN: usize = 24;
/// Section type "GUID-defined".
const GUID_DEFINED: u8 = 2;
/// Sections that EDK II compresses with LZMA.
const LZMA: Guid = Guid::new(
    0xee4e_5898,
    0x3914,
    0x4259,
    0x9d6e,
    [0xdc, 0x7b, 0xd7, 0x94, 0x03, 0xcf],
);
/// The most that is decompressed, in bytes; builds of OVMF have about 16 MiB.
const MAX_VOLUME_BYTES: u64 = 32 << 20;
/// Memory that the decoder may use, in KiB.
const MAX_DECODER_KIB: u32 = 64 << 10;

/// Who built the firmware, and when.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FirmwareVersion {
    /// Such as `Debian distribution of EDK II`.
    pub vendor: Option<String>,
    /// Such as `2026.08+ds-2` or `edk2-stable202408`.
    pub version: Option<String>,
}

/// A release of EDK II, which appear every three months.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct EdkRelease {
    /// Such as 2025.
    pub year: u16,
    /// 2, 5, 8 or 11.
    pub month: u8,
}

impl FirmwareVersion {
    /// The release of EDK II that the version names.
    pub fn release(&self) -> Option<EdkRelease> {
        let version = self.version.as_deref()?;
        let digits: String = version
            .trim_start_matches("edk2-stable")
            .chars()
            .take(7)
            .filter(char::is_ascii_digit)
            .collect();
        Some(EdkRelease {
            year: digits.get(..4)?.parse().ok()?,
            month: digits
                .get(4..6)?
                .parse()
                .ok()
                .filter(|m| (1..=12).contains(m))?,
        })
    }
}

/// Looks for vendor and version in the image's compressed volumes.
pub(crate) fn find(image: &[u8]) -> FirmwareVersion {
    let mut found = FirmwareVersion::default();
    let mut volume_at = 0;
    while let Some((header_len, len)) = volume(image, volume_at) {
        if let Some(compressed) = compressed_section(image, volume_at + header_len) {
            search(&decompress(compressed), &mut found);
        }
        volume_at += len;
    }
    found
}

/// Lengths of a volume's header, extended header included, and of the volume.
fn volume(image: &[u8], at: usize) -> Option<(usize, usize)> {
    if array(image, at.checked_add(VOLUME_SIGNATURE_AT)?) != Some(*b"_FVH") {
        return None;
    }
    let len = usize::try_from(u64_at(image, at + 32)?).ok()?;
    let extended = usize::from(u16_at(image, at + 52)?);
    let header_len = match extended {
        0 => usize::from(u16_at(image, at + 48)?),
        extended => extended + usize::try_from(u32_at(image, at + extended + 16)?).ok()?,
    };
    let fits = len > 0 && at.checked_add(len).is_some_and(|end| end <= image.len());
    (fits && header_len < len).then(|| (header_len.next_multiple_of(8), len))
}

/// The LZMA stream of the file that starts here.
fn compressed_section(image: &[u8], file_at: usize) -> Option<&[u8]> {
    let section_at = file_at.checked_add(HEADER_LEN)?;
    let [a, b, c, kind] = array(image, section_at)?;
    let len = usize::try_from(u32::from_le_bytes([a, b, c, 0])).ok()?;
    let guid = array(image, section_at + 4).map(Guid)?;
    if kind != GUID_DEFINED || guid != LZMA {
        return None;
    }
    let data_at = usize::from(u16_at(image, section_at + 20)?);
    image.get(section_at.checked_add(data_at)?..section_at.checked_add(len)?)
}

/// What can be decompressed, up to the limit or the first damage.
fn decompress(compressed: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    if let Ok(reader) = LzmaReader::new_mem_limit(compressed, MAX_DECODER_KIB, None) {
        // Damage ends the search early.
        let _ = reader.take(MAX_VOLUME_BYTES).read_to_end(&mut text);
    }
    text
}

/// Takes the first vendor and version among the UTF-16 texts.
fn search(volume: &[u8], found: &mut FirmwareVersion) {
    let mut text = String::new();
    // Texts are aligned to their characters.
    for pair in volume.chunks_exact(2) {
        match pair {
            [byte @ 0x20..=0x7e, 0] if text.len() < 64 => text.push(char::from(*byte)),
            _ => {
                keep(&text, found);
                text.clear();
            }
        }
    }
}

fn keep(text: &str, found: &mut FirmwareVersion) {
    if found.vendor.is_none() && text.ends_with("EDK II") {
        found.vendor = Some(text.to_owned());
    }
    if found.version.is_none() && is_version(text) {
        found.version = Some(text.to_owned());
    }
}

/// `2025.02-3ubuntu2`, `edk2-stable202408`.
fn is_version(text: &str) -> bool {
    if text.starts_with("edk2-stable20") {
        return true;
    }
    matches!(text.as_bytes(), [b'2', b'0', a, b, b'.', c, d, ..]
        if [a, b, c, d].iter().all(|digit| digit.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release_of(version: &str) -> Option<(u16, u8)> {
        let version = FirmwareVersion {
            vendor: None,
            version: Some(version.to_owned()),
        };
        version
            .release()
            .map(|release| (release.year, release.month))
    }

    #[test]
    fn releases_are_read_from_distributions_and_upstream() {
        assert_eq!(release_of("2025.02-3ubuntu2"), Some((2025, 2)));
        assert_eq!(release_of("2026.08+ds-2"), Some((2026, 8)));
        assert_eq!(release_of("edk2-stable202411"), Some((2024, 11)));
        assert_eq!(release_of("0.0.0"), None);
        assert_eq!(release_of("2025.99"), None);
    }

    #[test]
    fn damaged_volumes_have_no_version() {
        let mut image = vec![0xff; 4096];
        assert_eq!(find(&image), FirmwareVersion::default());
        image[VOLUME_SIGNATURE_AT..VOLUME_SIGNATURE_AT + 4].copy_from_slice(b"_FVH");
        assert_eq!(find(&image), FirmwareVersion::default());
        image[32..40].copy_from_slice(&4096u64.to_le_bytes());
        image[48..50].copy_from_slice(&72u16.to_le_bytes());
        image[52..54].copy_from_slice(&0u16.to_le_bytes());
        assert_eq!(find(&image), FirmwareVersion::default());
    }
}
