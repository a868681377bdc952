//! The uncompressed archive as a stream that counts, limits and hashes.

use std::io::Read;

use crate::digest::{Digest, Hasher};
use crate::errors::ImageError;
use crate::interrupt::Interrupt;
use crate::options::UnpackOptions;

const BUFFER_BYTES: usize = 128 * 1024;

/// Reads the output of a decompressor. Every byte is hashed for the `diff_id`
/// and counted against the limits, whether the archive's reader wants it or not.
pub(crate) struct ArchiveStream<'a> {
    source: Box<dyn Read + 'a>,
    hasher: Hasher,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    compressed_bytes: u64,
    options: &'a UnpackOptions,
    interrupt: &'a Interrupt,
}

impl<'a> ArchiveStream<'a> {
    /// `compressed_bytes` is what the expansion ratio is measured against.
    pub(crate) fn new(
        source: Box<dyn Read + 'a>,
        compressed_bytes: u64,
        options: &'a UnpackOptions,
        interrupt: &'a Interrupt,
    ) -> Self {
        Self {
            source,
            hasher: Hasher::default(),
            buffer: vec![0; BUFFER_BYTES],
            start: 0,
            end: 0,
            compressed_bytes,
            options,
            interrupt,
        }
    }

    /// The next bytes, at most `limit`; empty at the end of the stream.
    pub(crate) fn chunk(&mut self, limit: u64) -> Result<&[u8], ImageError> {
        if self.start == self.end {
            self.fill()?;
        }
        let available = self.end - self.start;
        let taken = usize::try_from(limit).unwrap_or(usize::MAX).min(available);
        let from = self.start;
        self.start += taken;
        Ok(&self.buffer[from..from + taken])
    }

    /// Fills `into` as far as the stream goes; returns the count.
    pub(crate) fn read(&mut self, into: &mut [u8]) -> Result<usize, ImageError> {
        let mut filled = 0;
        while filled < into.len() {
            let chunk = self.chunk((into.len() - filled) as u64)?;
            if chunk.is_empty() {
                break;
            }
            into[filled..filled + chunk.len()].copy_from_slice(chunk);
            filled += chunk.len();
        }
        Ok(filled)
    }

    /// Skips `count` bytes; `false` when the stream ends before.
    pub(crate) fn skip(&mut self, mut count: u64) -> Result<bool, ImageError> {
        while count > 0 {
            let chunk = self.chunk(count)?;
            if chunk.is_empty() {
                return Ok(false);
            }
            count -= chunk.len() as u64;
        }
        Ok(true)
    }

    /// Reads to the end and returns the digest and length of the whole stream.
    pub(crate) fn finish(mut self) -> Result<(Digest, u64), ImageError> {
        while !self.chunk(u64::MAX)?.is_empty() {}
        let bytes = self.hasher.bytes();
        Ok((self.hasher.finish(), bytes))
    }

    fn fill(&mut self) -> Result<(), ImageError> {
        self.interrupt.check()?;
        let count = loop {
            match self.source.read(&mut self.buffer) {
                Ok(count) => break count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(ImageError::Decompress(error)),
            }
        };
        self.start = 0;
        self.end = count;
        self.hasher.update(&self.buffer[..count]);
        self.check_limits()
    }

    fn check_limits(&self) -> Result<(), ImageError> {
        let bytes = self.hasher.bytes();
        let UnpackOptions {
            max_layer_bytes,
            max_ratio,
            ratio_free_bytes,
            ..
        } = *self.options;
        if bytes > max_layer_bytes {
            return Err(ImageError::UnpackedTooLarge {
                limit_bytes: max_layer_bytes,
            });
        }
        if bytes > ratio_free_bytes && bytes / max_ratio > self.compressed_bytes {
            return Err(ImageError::ExpansionRatio { limit: max_ratio });
        }
        Ok(())
    }
}
