//! The digest by which UEFI firmware knows a program: Authenticode's.
//!
//! It covers the whole file but the checksum, the entry that points to the
//! signatures, and the signatures ("Windows Authenticode Portable Executable
//! Signature Format"; Microsoft PE/COFF, revision 11). Unlike signing tools,
//! firmware adds no padding to a file of odd length.

use std::ops::Range;

use sha2::{Digest, Sha384};

use crate::bytes::{array, size_at, u16_at};
use crate::error::TdxError;

/// Where the DOS header says where the PE header is.
const PE_POINTER_AT: usize = 0x3c;
const SIGNATURE_LEN: usize = 4;
const FILE_HEADER_LEN: usize = 20;
const SECTION_HEADER_LEN: usize = 40;
/// The loader of Windows takes no more; kernels have about five.
const MAX_SECTIONS: u16 = 96;
const PE32: u16 = 0x10b;
const PE32_PLUS: u16 = 0x20b;
/// The entry of the data directories that points to the signatures.
const SECURITY_DIRECTORY: usize = 4;
const DIRECTORY_LEN: usize = 8;

/// Places in the file that the digest depends on.
struct Layout {
    checksum: Range<usize>,
    /// The entry that points to the signatures, where there is one.
    security: Option<Range<usize>>,
    signatures_len: usize,
    headers_end: usize,
    /// Contents of the sections by their place in the file.
    sections: Vec<Range<usize>>,
}

/// The SHA-384 Authenticode digest of a PE image, such as a kernel with an EFI stub.
pub fn authenticode_sha384(image: &[u8]) -> Result<[u8; 48], TdxError> {
    let layout = Layout::of(image)?;
    let mut hash = Sha384::new();
    let mut add = |range: Range<usize>| hash.update(image.get(range).unwrap_or_default());
    add(0..layout.checksum.start);
    match &layout.security {
        Some(entry) => {
            add(layout.checksum.end..entry.start);
            add(entry.end..layout.headers_end);
        }
        None => add(layout.checksum.end..layout.headers_end),
    }
    let mut hashed = layout.headers_end;
    for section in layout.sections {
        hashed = hashed.saturating_add(section.len());
        add(section);
    }
    // What follows the last section, without the signatures at the file's end.
    let end = image.len().saturating_sub(layout.signatures_len);
    if hashed < end {
        add(hashed..end);
    }
    Ok(hash.finalize().into())
}

impl Layout {
    fn of(image: &[u8]) -> Result<Self, TdxError> {
        let wrong = |offset, field| TdxError::NoPeImage { offset, field };
        let outside = |offset, field| TdxError::PeRange { offset, field };
        if array(image, 0) != Some(*b"MZ") {
            return Err(wrong(0, "DOS signature"));
        }
        let pe_at = size_at(image, PE_POINTER_AT)
            .filter(|at| *at < image.len())
            .ok_or(outside(PE_POINTER_AT, "place of the PE header"))?;
        if array(image, pe_at) != Some(*b"PE\0\0") {
            return Err(wrong(pe_at, "PE signature"));
        }
        let file_header_at = pe_at + SIGNATURE_LEN;
        let optional_at = file_header_at + FILE_HEADER_LEN;
        let (counts_at, directories_at) = match u16_at(image, optional_at) {
            Some(PE32) => (optional_at + 92, optional_at + 96),
            Some(PE32_PLUS) => (optional_at + 108, optional_at + 112),
            _ => return Err(wrong(optional_at, "magic of the optional header")),
        };
        let directories =
            size_at(image, counts_at).ok_or(outside(counts_at, "number of data directories"))?;
        let headers_at = optional_at + 60;
        let headers_end =
            size_at(image, headers_at).ok_or(outside(headers_at, "size of the headers"))?;
        let security_at = directories_at + SECURITY_DIRECTORY * DIRECTORY_LEN;
        let security =
            (directories > SECURITY_DIRECTORY).then_some(security_at..security_at + DIRECTORY_LEN);
        let fixed_end = security.as_ref().map_or(directories_at, |entry| entry.end);
        if headers_end < fixed_end || headers_end > image.len() {
            return Err(outside(headers_at, "size of the headers"));
        }
        let signatures_len = match &security {
            Some(_) => size_at(image, security_at + 4).unwrap_or(0),
            None => 0,
        };
        let sections = sections(image, file_header_at, headers_end)?;
        let contents_end = headers_end + sections.iter().map(ExactSizeIterator::len).sum::<usize>();
        if signatures_len > image.len().saturating_sub(contents_end) {
            return Err(outside(security_at + 4, "size of the signatures"));
        }
        Ok(Self {
            checksum: optional_at + 64..optional_at + 68,
            security,
            signatures_len,
            headers_end,
            sections,
        })
    }
}

/// Places of the sections' contents, in the order of the file; they must not overlap.
fn sections(
    image: &[u8],
    file_header_at: usize,
    headers_end: usize,
) -> Result<Vec<Range<usize>>, TdxError> {
    let outside = |offset, field| TdxError::PeRange { offset, field };
    let count_at = file_header_at + 2;
    let count = u16_at(image, count_at)
        .filter(|count| *count <= MAX_SECTIONS)
        .ok_or(outside(count_at, "number of sections"))?;
    let size_at_offset = file_header_at + 16;
    let optional_len = u16_at(image, size_at_offset)
        .ok_or(outside(size_at_offset, "size of the optional header"))?;
    let table_at = file_header_at + FILE_HEADER_LEN + usize::from(optional_len);
    let mut sections = Vec::new();
    for index in 0..usize::from(count) {
        let at = table_at + index * SECTION_HEADER_LEN;
        let size = size_at(image, at + 16).ok_or(outside(at, "section header"))?;
        let start = size_at(image, at + 20).ok_or(outside(at, "section header"))?;
        if size == 0 {
            continue;
        }
        let end = start
            .checked_add(size)
            .filter(|end| *end <= image.len() && start >= headers_end)
            .ok_or(outside(at + 16, "contents of a section"))?;
        sections.push((start..end, at));
    }
    sections.sort_by_key(|(range, _)| range.start);
    for pair in sections.windows(2) {
        if let [(before, _), (after, at)] = pair
            && after.start < before.end
        {
            return Err(outside(at + 20, "contents of a section, which overlap,"));
        }
    }
    Ok(sections.into_iter().map(|(range, _)| range).collect())
}
