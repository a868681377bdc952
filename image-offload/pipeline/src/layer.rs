//! One layer on its way: staged, verified, decrypted, unpacked.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::MultiGzDecoder;
use redoubt_ocicrypt::{Compression, LayerEncryption, LayerMediaType, PrivateKey};

use crate::digest::Digest;
use crate::errors::ImageError;
use crate::events::{PullEvent, PullObserver};
use crate::image::Descriptor;
use crate::interrupt::Interrupt;
use crate::keys::KeyCache;
use crate::opening::open_key;
use crate::options::UnpackOptions;
use crate::registry::{LayerKeys, Registry, StagedBlob};
use crate::staging::Staging;
use crate::unpack::{ArchiveStream, extract};

/// The layer's files below its directory.
pub(crate) const FILES: &str = "fs";
/// List of directories without an entry of their own, each ended by NUL.
pub(crate) const IMPLICIT: &str = "implicit";

/// Exists beside the files of a layer that hides something of those below.
#[cfg(feature = "host")]
pub(crate) const MARKED: &str = "marked";

/// What all layers of one pull share.
pub(crate) struct LayerContext<'a> {
    pub(crate) registry: &'a Registry<'a>,
    pub(crate) keys: &'a KeyCache<'a>,
    pub(crate) private_keys: &'a [PrivateKey],
    pub(crate) observer: &'a dyn PullObserver,
    pub(crate) staging: &'a Staging,
    pub(crate) unpack: UnpackOptions,
    pub(crate) interrupt: &'a Interrupt,
}

/// One layer of the manifest with what the configuration says about it.
pub(crate) struct Job<'a> {
    pub(crate) index: usize,
    pub(crate) descriptor: &'a Descriptor,
    pub(crate) diff_id: Digest,
}

/// A layer whose `diff_id` matched, still in the staging directory.
pub(crate) struct Prepared {
    pub(crate) diff_id: Digest,
    pub(crate) directory: PathBuf,
    pub(crate) encrypted: bool,
}

/// How far a layer got, for its error.
struct Progress {
    phase: Mutex<&'static str>,
    received: AtomicU64,
    size: u64,
}

impl Progress {
    fn enter(&self, phase: &'static str) {
        if let Ok(mut current) = self.phase.lock() {
            *current = phase;
        }
    }

    fn describe(&self) -> String {
        let phase = self.phase.lock().map_or("", |phase| *phase);
        let received = self.received.load(Ordering::Relaxed);
        if received < self.size {
            return format!("{phase} (after {received} of {} bytes)", self.size);
        }
        format!("{phase} (all {received} bytes had come)")
    }
}

impl LayerContext<'_> {
    /// Takes a layer through all steps. An error names the layer and how far
    /// it got.
    pub(crate) async fn prepare(&self, job: &Job<'_>) -> Result<Prepared, ImageError> {
        let progress = Progress {
            phase: Mutex::new("while it was fetched"),
            received: AtomicU64::new(0),
            size: job.descriptor.size,
        };
        self.prepare_steps(job, &progress)
            .await
            .map_err(|source| ImageError::Layer {
                index: job.index,
                digest: job.descriptor.digest,
                progress: progress.describe(),
                source: Box::new(source),
            })
    }

    async fn prepare_steps(
        &self,
        job: &Job<'_>,
        progress: &Progress,
    ) -> Result<Prepared, ImageError> {
        let Job {
            index,
            descriptor,
            diff_id,
        } = *job;
        let media_type = descriptor.layer_type()?;
        // What cannot be opened in the end is not fetched.
        let mut recipient = None;
        let keys = if media_type.encrypted {
            progress.enter("while its key was fetched");
            let encryption = LayerEncryption::from_annotations(&descriptor.annotations)?;
            let (private, kind) =
                open_key(&encryption, self.private_keys, self.keys, self.interrupt).await?;
            recipient = Some(kind);
            let public = encryption.public;
            Some(LayerKeys { public, private })
        } else {
            None
        };
        progress.enter("while it was fetched");
        let name = format!("{index}.blob");
        let mut blob = self
            .registry
            .stage_blob(descriptor, self.staging, &name, &progress.received, keys)
            .await?;
        let (digest, blob_bytes) = (descriptor.digest, blob.bytes);
        self.observer.event(PullEvent::LayerVerified {
            index,
            digest,
            blob_bytes,
        });
        if let (Some(recipient), Some(verifier)) = (recipient, blob.verifier.take()) {
            progress.enter("while it was verified with its key");
            verifier.finish()?;
            self.observer.event(PullEvent::LayerDecrypted {
                index,
                recipient,
                plain_bytes: blob_bytes,
            });
        }
        progress.enter("while it was unpacked");
        let encrypted = recipient.is_some();
        let directory = self.unpack(job, blob, media_type).await?;
        Ok(Prepared {
            diff_id,
            directory,
            encrypted,
        })
    }

    async fn unpack(
        &self,
        job: &Job<'_>,
        blob: StagedBlob,
        media_type: LayerMediaType,
    ) -> Result<PathBuf, ImageError> {
        let staging = self.staging.clone();
        let interrupt = self.interrupt.clone();
        let options = self.unpack;
        let (index, diff_id) = (job.index, job.diff_id);
        let (directory, archive_bytes, entries) = blocking(move || {
            let unpacking = Unpacking {
                staging: staging.path(),
                index,
                options,
                interrupt: &interrupt,
            };
            unpacking.run(&blob, media_type.compression, diff_id)
        })
        .await?;
        self.observer.event(PullEvent::LayerUnpacked {
            index,
            diff_id,
            archive_bytes,
            entries,
        });
        Ok(directory)
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ImageError> + Send + 'static,
) -> Result<T, ImageError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| ImageError::Task)?
}

struct Unpacking<'a> {
    staging: &'a Path,
    index: usize,
    options: UnpackOptions,
    interrupt: &'a Interrupt,
}

impl Unpacking<'_> {
    fn run(
        &self,
        blob: &StagedBlob,
        compression: Compression,
        diff_id: Digest,
    ) -> Result<(PathBuf, u64, u64), ImageError> {
        let directory = self.staging.join(self.index.to_string());
        let files = directory.join(FILES);
        let trash = self.staging.join(format!("{}.trash", self.index));
        for path in [&directory, &files, &trash] {
            std::fs::create_dir(path).map_err(|error| ImageError::io("create", path, error))?;
        }
        let file =
            File::open(&blob.path).map_err(|error| ImageError::io("open", &blob.path, error))?;
        let extraction = ArchiveStream::side_by_side(
            || decompress(file, compression),
            blob.bytes,
            &self.options,
            self.interrupt,
            |stream| extract(stream, &files, &trash, &self.options),
        )?;
        if extraction.diff_id != diff_id {
            return Err(ImageError::DiffId {
                expected: diff_id,
                actual: extraction.diff_id,
            });
        }
        let mut list = Vec::new();
        for path in &extraction.implicit_directories {
            list.extend_from_slice(path);
            list.push(0);
        }
        let path = directory.join(IMPLICIT);
        std::fs::write(&path, list).map_err(|error| ImageError::io("write", path, error))?;
        #[cfg(feature = "host")]
        if extraction.hides {
            let path = directory.join(MARKED);
            std::fs::write(&path, []).map_err(|error| ImageError::io("write", path, error))?;
        }
        // Free the space now: the other layers need it.
        std::fs::remove_file(&blob.path)
            .map_err(|error| ImageError::io("remove", &blob.path, error))?;
        Ok((directory, extraction.archive_bytes, extraction.entries))
    }
}

/// The greatest window that a Zstandard frame may ask for: what `zstd --long`
/// uses, so that ordinary images open and memory stays bounded.
const ZSTD_WINDOW_LOG: u32 = 27;

pub(crate) fn decompress<'a>(
    source: impl Read + 'a,
    compression: Compression,
) -> Result<Box<dyn Read + 'a>, ImageError> {
    let source = BufReader::with_capacity(64 * 1024, source);
    Ok(match compression {
        Compression::None => Box::new(source),
        Compression::Gzip => Box::new(MultiGzDecoder::new(source)),
        Compression::Zstd => {
            let mut decoder = zstd::Decoder::with_buffer(source).map_err(ImageError::Decompress)?;
            decoder
                .window_log_max(ZSTD_WINDOW_LOG)
                .map_err(ImageError::Decompress)?;
            Box::new(decoder)
        }
    })
}
