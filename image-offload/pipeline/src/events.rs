//! What a pull tells its observer, for progress and for the trail.

use std::time::Duration;

use crate::digest::Digest;

/// One step of a pull. Sizes are bytes; layers count from 0.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PullEvent {
    /// The manifest for this platform is known and its digest verified.
    ManifestVerified {
        /// The manifest's digest.
        digest: Digest,
        /// Layers in it.
        layers: usize,
        /// Sum of the layers' blobs.
        blob_bytes: u64,
    },
    /// The signature policy accepts the image.
    PolicyChecked {
        /// Requirements that a signature met; 0 when the policy asks for none.
        signed: usize,
    },
    /// An attempt failed and will be repeated.
    Retrying {
        /// What is fetched.
        what: String,
        /// Number of the attempt that failed, from 1.
        attempt: u32,
        /// Pause before the next.
        pause: Duration,
        /// Why, on one line.
        reason: String,
    },
    /// A layer was found in the store.
    LayerCached {
        /// Position in the manifest.
        index: usize,
        /// Its `diff_id`.
        diff_id: Digest,
    },
    /// A layer's blob is staged and its digest matches the manifest.
    LayerVerified {
        /// Position in the manifest.
        index: usize,
        /// The blob's digest.
        digest: Digest,
        /// Size of the blob.
        blob_bytes: u64,
    },
    /// A layer's HMAC and plaintext digest were checked with its key.
    LayerDecrypted {
        /// Position in the manifest.
        index: usize,
        /// How the key was wrapped: `provider` or `jwe`.
        recipient: &'static str,
        /// Size of the compressed plaintext.
        plain_bytes: u64,
    },
    /// A layer is unpacked and its `diff_id` matches the configuration.
    LayerUnpacked {
        /// Position in the manifest.
        index: usize,
        /// Its `diff_id`.
        diff_id: Digest,
        /// Size of the uncompressed archive.
        archive_bytes: u64,
        /// Entries in the archive.
        entries: u64,
    },
    /// All layers are in the store.
    Finished {
        /// The manifest's digest.
        digest: Digest,
        /// Layers, of which `decrypted` were encrypted and `cached` at hand.
        layers: usize,
        /// Encrypted layers among them.
        decrypted: usize,
        /// Layers that were in the store before.
        cached: usize,
        /// Bytes fetched from the registry.
        blob_bytes: u64,
        /// Time from the start of the pull.
        elapsed: Duration,
    },
}

/// Hears about a pull while it runs. Called from several threads.
pub trait PullObserver: Send + Sync {
    /// One step was taken.
    fn event(&self, event: PullEvent);
}

/// Ignores all events.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoObserver;

impl PullObserver for NoObserver {
    fn event(&self, _event: PullEvent) {}
}
