//! Doors for fuzz targets to parsers that are private otherwise.

use std::path::Path;
use std::time::Duration;

use redoubt_ocicrypt::Compression;

use crate::errors::ImageError;
use crate::interrupt::Interrupt;
use crate::layer::decompress;
use crate::options::UnpackOptions;
use crate::registry::Challenge;
use crate::unpack::{ArchiveStream, TarReader, extract};

const ALLOWED: Duration = Duration::from_secs(60);

/// Walks over an archive without creating anything; returns the number of entries.
pub fn read_archive(bytes: &[u8], options: &UnpackOptions) -> Result<u64, ImageError> {
    let interrupt = Interrupt::after(ALLOWED);
    let stream = ArchiveStream::new(Box::new(bytes), length(bytes), options, &interrupt);
    let mut reader = TarReader::new(stream);
    let mut entries = 0;
    while reader.next_entry()?.is_some() {
        entries += 1;
        while !reader.data()?.is_empty() {}
    }
    reader.into_stream().finish()?;
    Ok(entries)
}

/// Decompresses a layer and unpacks it into `root`, as a pull does.
pub fn unpack_layer(
    bytes: &[u8],
    compression: Compression,
    root: &Path,
    trash: &Path,
    options: &UnpackOptions,
) -> Result<u64, ImageError> {
    let interrupt = Interrupt::after(ALLOWED);
    let source = decompress(bytes, compression)?;
    let stream = ArchiveStream::new(source, length(bytes), options, &interrupt);
    Ok(extract(stream, root, trash, options)?.entries)
}

/// Reads a `WWW-Authenticate` header; tells whether it is a known challenge.
pub fn read_challenge(header: &str) -> bool {
    Challenge::parse(header).is_some()
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}
