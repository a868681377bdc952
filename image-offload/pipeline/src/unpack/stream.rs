//! The uncompressed archive as a stream that counts, limits and hashes.

use std::io::Read;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::digest::{Digest, Hasher};
use crate::errors::ImageError;
use crate::interrupt::Interrupt;
use crate::options::UnpackOptions;

const BLOCK_BYTES: usize = 128 * 1024;
/// Blocks on their way between the two threads of one layer.
const BLOCKS: usize = 3;

/// Reads the output of a decompressor. Every byte is hashed for the `diff_id`
/// and counted against the limits, whether the archive's reader wants it or not.
struct Meter<'a> {
    source: Box<dyn Read + 'a>,
    hasher: Hasher,
    compressed_bytes: u64,
    options: &'a UnpackOptions,
    interrupt: &'a Interrupt,
}

impl Meter<'_> {
    /// Fills a block as far as the source gives at once; 0 at its end.
    fn read(&mut self, block: &mut [u8]) -> Result<usize, ImageError> {
        self.interrupt.check()?;
        let count = loop {
            match self.source.read(block) {
                Ok(count) => break count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(ImageError::Decompress(error)),
            }
        };
        self.hasher.update(&block[..count]);
        self.check_limits()?;
        Ok(count)
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

/// What one thread tells the other.
enum Message {
    /// A block and how much of it is filled.
    Block(Vec<u8>, usize),
    /// The whole stream was read.
    End(Digest, u64),
    Failed(ImageError),
}

enum Feed<'a> {
    #[cfg_attr(
        not(any(test, feature = "fuzzing")),
        expect(dead_code, reason = "a pull always decompresses in a second thread")
    )]
    Direct(Meter<'a>),
    Channel {
        blocks: Receiver<Message>,
        spare: SyncSender<Vec<u8>>,
    },
}

/// The archive as its reader sees it.
pub(crate) struct ArchiveStream<'a> {
    feed: Feed<'a>,
    block: Vec<u8>,
    start: usize,
    end: usize,
    summary: Option<(Digest, u64)>,
}

impl<'a> ArchiveStream<'a> {
    /// Reads in the caller's thread. `compressed_bytes` is what the expansion
    /// ratio is measured against.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn new(
        source: Box<dyn Read + 'a>,
        compressed_bytes: u64,
        options: &'a UnpackOptions,
        interrupt: &'a Interrupt,
    ) -> Self {
        let meter = Meter {
            source,
            hasher: Hasher::default(),
            compressed_bytes,
            options,
            interrupt,
        };
        Self::fed_by(Feed::Direct(meter))
    }

    fn fed_by(feed: Feed<'a>) -> Self {
        Self {
            feed,
            block: vec![0; BLOCK_BYTES],
            start: 0,
            end: 0,
            summary: None,
        }
    }

    /// Decompresses and hashes in a thread of its own while `consume` runs,
    /// so that one layer keeps two processors busy.
    pub(crate) fn side_by_side<T>(
        open: impl FnOnce() -> Result<Box<dyn Read>, ImageError> + Send,
        compressed_bytes: u64,
        options: &UnpackOptions,
        interrupt: &Interrupt,
        consume: impl FnOnce(ArchiveStream<'_>) -> Result<T, ImageError>,
    ) -> Result<T, ImageError> {
        let (filled, blocks) = sync_channel(BLOCKS);
        let (spare, emptied) = sync_channel(BLOCKS + 1);
        std::thread::scope(|scope| {
            let produce = move || {
                let last = match open() {
                    Ok(source) => {
                        let meter = Meter {
                            source,
                            hasher: Hasher::default(),
                            compressed_bytes,
                            options,
                            interrupt,
                        };
                        produce(meter, &filled, &emptied)
                    }
                    Err(error) => Message::Failed(error),
                };
                // A reader that is gone has an error of its own.
                let _ = filled.send(last);
            };
            std::thread::Builder::new()
                .name("decompress".to_owned())
                .spawn_scoped(scope, produce)
                .map_err(|error| ImageError::io("start a thread for", "a layer", error))?;
            consume(ArchiveStream::fed_by(Feed::Channel { blocks, spare }))
        })
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
        Ok(&self.block[from..from + taken])
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
        self.summary.ok_or(ImageError::Task)
    }

    fn fill(&mut self) -> Result<(), ImageError> {
        (self.start, self.end) = (0, 0);
        if self.summary.is_some() {
            return Ok(());
        }
        match &mut self.feed {
            Feed::Direct(meter) => {
                self.end = meter.read(&mut self.block)?;
                if self.end == 0 {
                    let hasher = std::mem::take(&mut meter.hasher);
                    let bytes = hasher.bytes();
                    self.summary = Some((hasher.finish(), bytes));
                }
            }
            Feed::Channel { blocks, spare } => match blocks.recv() {
                Ok(Message::Block(block, filled)) => {
                    let used = std::mem::replace(&mut self.block, block);
                    self.end = filled;
                    // There is room for every block that exists; a thread
                    // that is done wants none.
                    let _ = spare.try_send(used);
                }
                Ok(Message::End(digest, bytes)) => self.summary = Some((digest, bytes)),
                Ok(Message::Failed(error)) => return Err(error),
                Err(_) => return Err(ImageError::Task),
            },
        }
        Ok(())
    }
}

/// Reads to the end of the source, or until the reader is gone.
fn produce(
    mut meter: Meter<'_>,
    filled: &SyncSender<Message>,
    emptied: &Receiver<Vec<u8>>,
) -> Message {
    loop {
        let mut block = emptied.try_recv().unwrap_or_else(|_| vec![0; BLOCK_BYTES]);
        match meter.read(&mut block) {
            Ok(0) => {
                let bytes = meter.hasher.bytes();
                return Message::End(meter.hasher.finish(), bytes);
            }
            Ok(count) => {
                if filled.send(Message::Block(block, count)).is_err() {
                    return Message::Failed(ImageError::Cancelled);
                }
            }
            Err(error) => return Message::Failed(error),
        }
    }
}
