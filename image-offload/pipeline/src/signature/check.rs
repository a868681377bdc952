//! Holds an image against a policy.

use crate::digest::Digest;
use crate::errors::ImageError;
use crate::image::{ManifestDocument, SIGNATURE_ANNOTATION, SIMPLE_SIGNING};
use crate::keys::KeyCache;
use crate::registry::{DocumentKind, Registry};

use super::identity::ImageIdentity;
use super::keys::{MAX_KEY_BYTES, SignerKey};
use super::payload::{MAX_PAYLOAD_BYTES, PayloadKind, SignaturePayload};
use super::policy::{KeyLocation, Requirement, SignaturePolicy, SigstoreSigned};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Signatures of one image that are looked at.
const MAX_SIGNATURES: usize = 64;
const BROKER_SCHEME: &str = "kbs://";

/// What was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Checked {
    /// Requirements that a signature met.
    pub(crate) signed: usize,
}

/// A signature as it lies in the registry: nothing of it is trusted yet.
struct Found {
    payload: Vec<u8>,
    signature: Vec<u8>,
}

/// Checks that everything holds that the policy asks of an image.
///
/// `digests` are the manifest's own and that of the index it was chosen from;
/// a signature of either counts, because the one fixes the other.
pub(crate) async fn check(
    policy: &SignaturePolicy,
    image: &ImageIdentity,
    digests: &[Digest],
    registry: &Registry<'_>,
    keys: &KeyCache<'_>,
) -> Result<Checked, ImageError> {
    let mut checked = Checked::default();
    let mut found = None;
    for requirement in policy.requirements(image) {
        match requirement {
            Requirement::AcceptAnything => {}
            Requirement::Reject => {
                return Err(ImageError::PolicyRejects {
                    image: image.shown(),
                });
            }
            Requirement::Unsupported(what) => {
                return Err(ImageError::PolicyUnsupported { what });
            }
            Requirement::Sigstore(signed) => {
                if found.is_none() {
                    found = Some(fetch(registry, digests).await?);
                }
                let found = found.as_deref().unwrap_or_default();
                let signers = load(&signed.keys, keys).await?;
                accept(signed, image, digests, found, &signers)?;
                checked.signed += 1;
            }
        }
    }
    Ok(checked)
}

/// The cosign signatures of an image: a manifest under a tag made of its digest.
async fn fetch(registry: &Registry<'_>, digests: &[Digest]) -> Result<Vec<Found>, ImageError> {
    let mut found = Vec::new();
    for digest in digests {
        let tag = format!("sha256-{}.sig", digest.hex());
        let Some(bytes) = registry.tagged_manifest(&tag).await? else {
            continue;
        };
        let ManifestDocument::Image(manifest) = ManifestDocument::parse(&bytes)? else {
            continue;
        };
        for layer in manifest.layers.iter().take(MAX_SIGNATURES) {
            let Some(signature) = layer
                .annotations
                .get(SIGNATURE_ANNOTATION)
                .and_then(|text| STANDARD.decode(text).ok())
            else {
                continue;
            };
            if layer.media_type != SIMPLE_SIGNING || layer.size > MAX_PAYLOAD_BYTES {
                continue;
            }
            let payload = registry
                .document(DocumentKind::Signature, layer.digest, MAX_PAYLOAD_BYTES)
                .await?;
            found.push(Found { payload, signature });
        }
    }
    Ok(found)
}

async fn load(
    locations: &[KeyLocation],
    keys: &KeyCache<'_>,
) -> Result<Vec<SignerKey>, ImageError> {
    let mut signers = Vec::new();
    for location in locations {
        let (pem, shown) = match location {
            KeyLocation::Inline(pem) => (pem.clone(), "keyData".to_owned()),
            KeyLocation::Path(uri) if uri.starts_with(BROKER_SCHEME) => {
                (keys.key(uri).await?.to_vec(), uri.clone())
            }
            KeyLocation::Path(path) => (read_file(path)?, path.clone()),
        };
        let keys = SignerKey::parse_pem(&pem).map_err(|reason| ImageError::PolicyKey {
            location: shown,
            reason,
        })?;
        signers.extend(keys);
    }
    Ok(signers)
}

#[cfg(feature = "host")]
fn read_file(path: &str) -> Result<Vec<u8>, ImageError> {
    use std::io::Read as _;
    let failed = |error| ImageError::io("read", path, error);
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .map_err(failed)?
        .take(MAX_KEY_BYTES as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    Ok(bytes)
}

/// A guest has no files of the policy's author.
#[cfg(not(feature = "host"))]
fn read_file(path: &str) -> Result<Vec<u8>, ImageError> {
    let _ = MAX_KEY_BYTES;
    Err(ImageError::PolicyKey {
        location: path.to_owned(),
        reason: "a guest takes keys from keyData or from the key broker (kbs:///…)",
    })
}

/// One signature must be right in everything: key, type, image and name.
fn accept(
    signed: &SigstoreSigned,
    image: &ImageIdentity,
    digests: &[Digest],
    found: &[Found],
    signers: &[SignerKey],
) -> Result<(), ImageError> {
    let mut reason = "there is none";
    for Found { payload, signature } in found {
        if !signers.iter().any(|key| key.verifies(payload, signature)) {
            reason = "none is made by a key of the policy";
            continue;
        }
        let Some((PayloadKind::Cosign, payload)) = SignaturePayload::parse_kind(payload) else {
            reason = "a signed document is not one of cosign";
            continue;
        };
        if !digests.contains(&payload.digest()) {
            reason = "the one by a key of the policy is for another image";
            continue;
        }
        if !signed.identity.accepts(image, payload.reference()) {
            reason = "the one by a key of the policy is for another name";
            continue;
        }
        return Ok(());
    }
    Err(ImageError::SignatureMissing {
        image: image.shown(),
        reason,
    })
}
