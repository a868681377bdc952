//! A blob on its way from the registry to a file.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use redoubt_ocicrypt::{LayerVerifier, PrivateOptions, PublicOptions};
use reqwest::header::{CONTENT_RANGE, RANGE};
use reqwest::{Method, Response, StatusCode, Url};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use zeroize::Zeroizing;

use crate::digest::{Digest, Hasher};
use crate::errors::ImageError;
use crate::image::Descriptor;
use crate::staging::Staging;

use super::client::Registry;
use super::retry::Failure;

/// Pieces between the network and the disk; bounds memory per layer.
const QUEUE: usize = 4;
/// Ciphertext is turned into plaintext in steps that stay in the processor's cache.
const STEP_BYTES: usize = 64 * 1024;
/// Progress after which failed attempts count from one again.
const FRESH_START_BYTES: u64 = 4 << 20;

/// A file whose content came with the digest and size of its descriptor.
#[derive(Debug)]
pub(crate) struct StagedBlob {
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
    /// For an encrypted layer: what has seen all of the ciphertext and must
    /// agree before the file, which holds the plaintext, is read.
    pub(crate) verifier: Option<LayerVerifier>,
}

/// The options that open an encrypted layer while it comes.
#[derive(Debug)]
pub(crate) struct LayerKeys {
    pub(crate) public: PublicOptions,
    pub(crate) private: PrivateOptions,
}

impl LayerKeys {
    fn verifier(&self) -> LayerVerifier {
        LayerVerifier::new(&self.public, &self.private)
    }
}

/// What the writer is told.
enum Piece {
    Data(Bytes),
    /// The registry begins again: forget what came.
    Restart,
}

struct Writer {
    pieces: mpsc::Sender<Piece>,
    task: JoinHandle<Result<Written, ImageError>>,
}

/// What the writer has seen.
struct Written {
    /// Digest of what came, which for an encrypted layer is not what was written.
    digest: Digest,
    verifier: Option<LayerVerifier>,
}

impl Writer {
    /// The staging directory lives at least as long as the thread: also when
    /// the pull is given up, nothing is written into a directory that goes.
    fn start(path: PathBuf, staging: Staging, keys: Option<LayerKeys>) -> Self {
        let (pieces, received) = mpsc::channel(QUEUE);
        let task = tokio::task::spawn_blocking(move || {
            let result = write_pieces(&path, received, keys.as_ref());
            drop(staging);
            result
        });
        Self { pieces, task }
    }

    async fn send(&self, piece: Piece) -> Result<(), Gone> {
        self.pieces.send(piece).await.map_err(|_| Gone)
    }

    async fn finish(self) -> Result<Written, ImageError> {
        drop(self.pieces);
        self.task.await.map_err(|_| ImageError::Task)?
    }
}

/// The writer ended; its own result says why.
struct Gone;

fn write_pieces(
    path: &Path,
    mut pieces: mpsc::Receiver<Piece>,
    keys: Option<&LayerKeys>,
) -> Result<Written, ImageError> {
    let failed = |what| move |error| ImageError::io(what, path, error);
    let mut file = File::create_new(path).map_err(failed("create"))?;
    let mut hasher = Hasher::default();
    let mut verifier = keys.map(LayerKeys::verifier);
    let mut scratch = Zeroizing::new(Vec::new());
    while let Some(piece) = pieces.blocking_recv() {
        match piece {
            Piece::Data(data) => {
                hasher.update(&data);
                let Some(verifier) = &mut verifier else {
                    file.write_all(&data).map_err(failed("write"))?;
                    continue;
                };
                for step in data.chunks(STEP_BYTES) {
                    scratch.clear();
                    scratch.extend_from_slice(step);
                    verifier.update_in_place(&mut scratch);
                    file.write_all(&scratch).map_err(failed("write"))?;
                }
            }
            Piece::Restart => {
                hasher = Hasher::default();
                verifier = keys.map(LayerKeys::verifier);
                drop(file);
                file = File::create(path).map_err(failed("truncate"))?;
            }
        }
    }
    Ok(Written {
        digest: hasher.finish(),
        verifier,
    })
}

/// How an attempt ended early.
enum Stop {
    Failed(Failure),
    WriterGone,
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<Gone> for Stop {
    fn from(_: Gone) -> Self {
        Self::WriterGone
    }
}

impl Registry<'_> {
    /// Fetches a blob into a new file and checks size and digest. A broken
    /// transfer goes on where it stopped. `received` shows the progress.
    ///
    /// With `keys` the file gets the plaintext, so that the layer is read and
    /// written once; nobody may look at it before the verifier agreed.
    pub(crate) async fn stage_blob(
        &self,
        descriptor: &Descriptor,
        staging: &Staging,
        name: &str,
        received: &AtomicU64,
        keys: Option<LayerKeys>,
    ) -> Result<StagedBlob, ImageError> {
        let path = staging.path().join(name);
        let what = format!("blob {}", descriptor.digest);
        let url = self.url(&format!("blobs/{}", descriptor.digest))?;
        let writer = Writer::start(path.clone(), staging.clone(), keys);
        let (mut attempt, mut counted_from) = (1, 0);
        loop {
            match self.transfer(&url, descriptor, &writer, received).await {
                Ok(()) | Err(Stop::WriterGone) => break,
                Err(Stop::Failed(failure)) => {
                    let now = received.load(Ordering::Relaxed);
                    if now.saturating_sub(counted_from) >= FRESH_START_BYTES {
                        (attempt, counted_from) = (1, now);
                    }
                    if let Err(error) = self.pause_or_fail(&what, attempt, failure).await {
                        // The file belongs to the staging directory, which
                        // goes; the writer must not outlive it.
                        let _ = writer.finish().await;
                        return Err(error);
                    }
                    attempt += 1;
                }
            }
        }
        let written = writer.finish().await?;
        if written.digest != descriptor.digest {
            return Err(ImageError::DigestMismatch {
                what,
                expected: descriptor.digest,
                actual: written.digest,
            });
        }
        Ok(StagedBlob {
            path,
            bytes: descriptor.size,
            verifier: written.verifier,
        })
    }

    async fn transfer(
        &self,
        url: &Url,
        descriptor: &Descriptor,
        writer: &Writer,
        received: &AtomicU64,
    ) -> Result<(), Stop> {
        let size = descriptor.size;
        let have = received.load(Ordering::Relaxed);
        if have == size && have > 0 {
            return Ok(());
        }
        let request = || {
            let request = self.request(Method::GET, url.clone());
            if have > 0 {
                request.header(RANGE, format!("bytes={have}-"))
            } else {
                request
            }
        };
        let mut response = self.send_authorized(request).await?;
        let mut have = match response.status() {
            StatusCode::OK => {
                if have > 0 {
                    received.store(0, Ordering::Relaxed);
                    writer.send(Piece::Restart).await?;
                }
                0
            }
            StatusCode::PARTIAL_CONTENT if have > 0 && continues_at(&response, have) => have,
            // The range cannot be had (any more): begin again next time.
            StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE if have > 0 => {
                received.store(0, Ordering::Relaxed);
                writer.send(Piece::Restart).await?;
                return Err(passing(truncated(descriptor, 0)).into());
            }
            _ => {
                let what = format!("blob {}", descriptor.digest);
                return Err(Failure::from_status(self.name(), &what, &response).into());
            }
        };
        let wrong_size = |claimed| {
            let digest = descriptor.digest;
            Failure::Final(ImageError::BlobSize {
                digest,
                claimed,
                expected: size,
            })
        };
        if let Some(announced) = response.content_length()
            && announced != size - have
        {
            return Err(wrong_size(have.saturating_add(announced)).into());
        }
        while let Some(chunk) = self.next_chunk(&mut response).await? {
            have += chunk.len() as u64;
            if have > size {
                return Err(wrong_size(have).into());
            }
            writer.send(Piece::Data(chunk)).await?;
            received.store(have, Ordering::Relaxed);
        }
        if have < size {
            return Err(passing(truncated(descriptor, have)).into());
        }
        Ok(())
    }
}

fn passing(error: ImageError) -> Failure {
    Failure::Passing(error, None)
}

fn truncated(descriptor: &Descriptor, received: u64) -> ImageError {
    ImageError::BlobTruncated {
        digest: descriptor.digest,
        received,
        expected: descriptor.size,
    }
}

/// Whether a partial answer begins where we asked (`bytes FROM-TO/TOTAL`).
fn continues_at(response: &Response, offset: u64) -> bool {
    response
        .headers()
        .get(CONTENT_RANGE)
        .and_then(|header| header.to_str().ok())
        .and_then(|header| header.strip_prefix("bytes "))
        .and_then(|range| range.split('-').next())
        .is_some_and(|from| from.trim().parse() == Ok(offset))
}
