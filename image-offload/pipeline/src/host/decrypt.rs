//! Opens the encrypted layers of an image and writes it as a plain one.

use redoubt_ocicrypt::{LayerEncryption, LayerVerifier, PrivateKey, is_encryption_annotation};
use serde_json::Value;

use crate::digest::Digest;
use crate::errors::ImageError;
use crate::image::{Descriptor, MAX_CONFIG_BYTES};
use crate::interrupt::Interrupt;
use crate::keys::{KeyCache, KeySource};
use crate::opening::open_key;
use crate::options::Platform;

use super::layout::OciLayout;
use super::location::ImageLocation;
use super::places::{Destination, Extent, RegistryAccess, Source};

/// What to decrypt, with which keys, and where to put it.
#[derive(Debug)]
pub struct DecryptRequest {
    /// The image to decrypt.
    pub source: ImageLocation,
    /// Where the plain image goes.
    pub destination: ImageLocation,
    /// Private keys of JWE and PKCS #7 recipients.
    pub private_keys: Vec<PrivateKey>,
    /// Which image of an index to take.
    pub platform: Platform,
    /// How registries are reached.
    pub access: RegistryAccess,
}

/// What was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecryptedImage {
    /// Digest of the plain image's manifest.
    pub manifest_digest: Digest,
    /// Layers that were decrypted.
    pub layers: usize,
}

/// Decrypts all encrypted layers and writes or pushes the result. Nothing of
/// a layer is kept whose HMAC or plaintext digest is wrong.
pub async fn decrypt_image(
    request: &DecryptRequest,
    keys: &dyn KeySource,
) -> Result<DecryptedImage, ImageError> {
    let DecryptRequest {
        source,
        destination,
        platform,
        access,
        ..
    } = request;
    let source = Source::open(source, platform, access, Extent::Everything).await?;
    let destination = Destination::prepare(destination)?;
    let config = source.image.manifest.config.digest;
    let config = source.layout.read_blob(config, MAX_CONFIG_BYTES)?;
    destination.layout.write_blob(&config)?;
    let opening = Opening {
        source: &source.layout,
        destination: &destination.layout,
        private_keys: &request.private_keys,
        keys: KeyCache::new(keys),
        interrupt: Interrupt::after(access.retry.deadline),
    };
    let mut json = source.image.json.clone();
    let mut layers = 0;
    for (index, layer) in source.image.manifest.layers.iter().enumerate() {
        let decrypted = opening
            .layer(layer, &mut json["layers"][index])
            .await
            .map_err(|source| ImageError::Layer {
                index,
                digest: layer.digest,
                progress: "while it was decrypted".to_owned(),
                source: Box::new(source),
            })?;
        layers += usize::from(decrypted);
    }
    let manifest = json.to_string().into_bytes();
    Ok(DecryptedImage {
        manifest_digest: destination.deliver(&manifest, access).await?,
        layers,
    })
}

struct Opening<'a> {
    source: &'a OciLayout,
    destination: &'a OciLayout,
    private_keys: &'a [PrivateKey],
    keys: KeyCache<'a>,
    interrupt: Interrupt,
}

impl Opening<'_> {
    /// Copies a layer, decrypted if it was encrypted, and says which it was.
    async fn layer(&self, layer: &Descriptor, json: &mut Value) -> Result<bool, ImageError> {
        let media_type = layer.layer_type()?;
        let path = self.source.blob_path(layer.digest);
        if !media_type.encrypted {
            let copied = self.destination.copy_blob(&path, |_| {})?;
            copied.check(layer)?;
            copied.keep(self.destination)?;
            return Ok(false);
        }
        let encryption = LayerEncryption::from_annotations(&layer.annotations)?;
        let (private, _) =
            open_key(&encryption, self.private_keys, &self.keys, &self.interrupt).await?;
        let mut verifier = LayerVerifier::new(&encryption.public, &private);
        let copied = self
            .destination
            .copy_blob(&path, |data| verifier.update_in_place(data))?;
        copied.check(layer)?;
        verifier.finish()?;
        json["mediaType"] = media_type.with_encryption(false).to_string().into();
        json["digest"] = copied.digest.to_string().into();
        json["size"] = copied.bytes.into();
        if let Some(annotations) = json["annotations"].as_object_mut() {
            annotations.retain(|name, _| !is_encryption_annotation(name));
        }
        copied.keep(self.destination)?;
        Ok(true)
    }
}
