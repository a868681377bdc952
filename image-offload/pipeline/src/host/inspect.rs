//! What an image's manifest says, without its layers.

use redoubt_ocicrypt::{LayerEncryption, Recipient};

use crate::digest::Digest;
use crate::errors::ImageError;
use crate::image::Descriptor;
use crate::keys::{KeyCache, KeySource};
use crate::options::Platform;
use crate::reference::AnyReference;
use crate::resolve::resolve_manifest;
use crate::signature::{SignaturePolicy, check};

use super::location::ImageLocation;
use super::places::{Extent, RegistryAccess, Source, resolve};

/// An image by its manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InspectedImage {
    /// Digest of the manifest for the platform.
    pub manifest_digest: Digest,
    /// The layers, lowest first.
    pub layers: Vec<InspectedLayer>,
}

/// One layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InspectedLayer {
    /// Digest of the blob.
    pub digest: Digest,
    /// Size of the blob in bytes.
    pub bytes: u64,
    /// The media type as the manifest has it.
    pub media_type: String,
    /// Who can open it: `jwe`, `pkcs7`, or `provider` with the key's id; none
    /// for a layer that is not encrypted.
    pub recipients: Vec<String>,
}

/// Reads an image's manifest. The layers of an image in a registry are not fetched.
pub async fn inspect_image(
    location: &ImageLocation,
    platform: &Platform,
    access: &RegistryAccess,
) -> Result<InspectedImage, ImageError> {
    let source = Source::open(location, platform, access, Extent::Manifest).await?;
    let layers = source.image.manifest.layers.iter();
    Ok(InspectedImage {
        manifest_digest: source.image.digest,
        layers: layers.map(inspect_layer).collect::<Result<_, _>>()?,
    })
}

fn inspect_layer(layer: &Descriptor) -> Result<InspectedLayer, ImageError> {
    let recipients = if layer.layer_type()?.encrypted {
        LayerEncryption::from_annotations(&layer.annotations)?
            .recipients
            .iter()
            .map(|recipient| match recipient {
                Recipient::Provider(packet) => format!("provider {}", packet.kid()),
                other => other.kind().to_owned(),
            })
            .collect()
    } else {
        Vec::new()
    };
    Ok(InspectedLayer {
        digest: layer.digest,
        bytes: layer.size,
        media_type: layer.media_type.clone(),
        recipients,
    })
}

/// An image that a policy accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcceptedImage {
    /// The digest that the reference pins or its tag stands for.
    pub digest: Digest,
    /// Requirements that a signature met.
    pub signed: usize,
}

/// Holds an image in a registry against a signature policy, without pulling it.
pub async fn check_signatures(
    reference: &str,
    policy: &SignaturePolicy,
    platform: &Platform,
    access: &RegistryAccess,
    keys: &dyn KeySource,
) -> Result<AcceptedImage, ImageError> {
    let reference = AnyReference::parse(reference)?;
    let registry = access.open(&reference)?;
    let pinned = resolve(&registry, &reference).await?;
    let (manifest, _) = resolve_manifest(&registry, pinned, platform).await?;
    let mut digests = vec![pinned, manifest];
    digests.dedup();
    let keys = KeyCache::new(keys);
    let image = reference.identity();
    let checked = check(policy, &image, &digests, &registry, &keys).await?;
    Ok(AcceptedImage {
        digest: pinned,
        signed: checked.signed,
    })
}
