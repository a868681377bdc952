//! The raw disk image that carries initdata into the guest.

use crate::error::InitdataError;
use crate::gzip::{self, MAX_COMPRESSED_BYTES};

/// First bytes of the disk.
pub const DISK_MAGIC: [u8; 8] = *b"initdata";
/// Length of magic and compressed length in bytes.
pub const DISK_HEADER_LEN: usize = 16;
/// The image's length is a multiple of this many bytes.
pub const SECTOR_LEN: usize = 512;

/// Builds a disk image around a document.
pub fn pack(document: &[u8]) -> Vec<u8> {
    let compressed = gzip::compress(document);
    let mut image = DISK_MAGIC.to_vec();
    image.extend_from_slice(&(compressed.len() as u64).to_le_bytes());
    image.extend_from_slice(&compressed);
    image.resize(image.len().next_multiple_of(SECTOR_LEN), 0);
    image
}

/// Length of the gzip stream that follows a disk's header, checked against the limit.
///
/// Lets a reader of a block device fetch only as much as it needs.
pub fn compressed_len(header: &[u8; DISK_HEADER_LEN]) -> Result<usize, InitdataError> {
    let [m0, m1, m2, m3, m4, m5, m6, m7, len @ ..] = *header;
    if [m0, m1, m2, m3, m4, m5, m6, m7] != DISK_MAGIC {
        return Err(InitdataError::DiskMagic);
    }
    let len = u64::from_le_bytes(len);
    usize::try_from(len)
        .ok()
        .filter(|len| (1..=MAX_COMPRESSED_BYTES).contains(len))
        .ok_or(InitdataError::DiskLength { len })
}

/// Takes the document out of a disk image.
pub fn unpack(image: &[u8]) -> Result<Vec<u8>, InitdataError> {
    let (header, rest) = image
        .split_first_chunk::<DISK_HEADER_LEN>()
        .ok_or(InitdataError::DiskMagic)?;
    let len = compressed_len(header)?;
    let (compressed, padding) = rest
        .split_at_checked(len)
        .ok_or(InitdataError::DiskLength { len: len as u64 })?;
    if let Some(at) = padding.iter().position(|byte| *byte != 0) {
        return Err(InitdataError::DiskPadding {
            offset: DISK_HEADER_LEN + len + at,
        });
    }
    gzip::decompress(compressed)
}
