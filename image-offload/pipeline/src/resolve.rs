//! From the pinned digest to the manifest for this platform.

use std::collections::HashSet;

use crate::digest::Digest;
use crate::errors::ImageError;
use crate::image::{MAX_MANIFEST_BYTES, Manifest, ManifestDocument};
use crate::options::Platform;
use crate::registry::{DocumentKind, Registry};

/// Indexes inside indexes; real images have one level, rarely two.
const MAX_INDEX_DEPTH: usize = 4;

/// Follows indexes until an image manifest is found.
pub(crate) async fn resolve_manifest(
    registry: &Registry<'_>,
    pinned: Digest,
    platform: &Platform,
) -> Result<(Digest, Manifest), ImageError> {
    let mut digest = pinned;
    let mut seen = HashSet::new();
    loop {
        // Digests make a true loop impossible to build, but not impossible
        // to claim; the walk must not depend on the strength of a hash.
        if !seen.insert(digest) || seen.len() > MAX_INDEX_DEPTH + 1 {
            return Err(ImageError::IndexLoop {
                digest,
                limit: MAX_INDEX_DEPTH,
            });
        }
        let bytes = registry
            .document(DocumentKind::Manifest, digest, MAX_MANIFEST_BYTES)
            .await?;
        match ManifestDocument::parse(&bytes)? {
            ManifestDocument::Image(manifest) => return Ok((digest, manifest)),
            ManifestDocument::Index(index) => {
                digest = index
                    .select(platform)
                    .ok_or_else(|| ImageError::NoPlatform {
                        digest,
                        platform: platform.to_string(),
                    })?
                    .digest;
            }
        }
    }
}
