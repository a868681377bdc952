//! Compression with limits: a few bytes from outside must not fill the memory.

use std::io::Read;

use flate2::{Compression, bufread::GzDecoder, read::GzEncoder};

use crate::error::InitdataError;

/// The largest document in bytes.
pub const MAX_DOCUMENT_BYTES: usize = 4 << 20;
/// The largest compressed document in bytes.
pub const MAX_COMPRESSED_BYTES: usize = 1 << 20;

/// Compresses without a file name or a time, so that equal inputs give equal bytes.
pub(crate) fn compress(document: &[u8]) -> Vec<u8> {
    let mut compressed = Vec::new();
    let mut encoder = GzEncoder::new(document, Compression::best());
    // Reading from a slice into a vector has no way to fail.
    let _ = encoder.read_to_end(&mut compressed);
    compressed
}

/// Decompresses exactly one gzip stream.
pub(crate) fn decompress(compressed: &[u8]) -> Result<Vec<u8>, InitdataError> {
    if !compressed.starts_with(&[0x1f, 0x8b]) {
        return Err(InitdataError::NotGzip);
    }
    let mut decoder = GzDecoder::new(compressed);
    let mut document = Vec::new();
    let limit = MAX_DOCUMENT_BYTES as u64 + 1;
    decoder
        .by_ref()
        .take(limit)
        .read_to_end(&mut document)
        .map_err(|_| InitdataError::DamagedGzip)?;
    if document.len() > MAX_DOCUMENT_BYTES {
        return Err(InitdataError::DocumentTooLarge);
    }
    let rest = decoder.into_inner();
    if rest.is_empty() {
        return Ok(document);
    }
    Err(InitdataError::TrailingBytes { extra: rest.len() })
}
