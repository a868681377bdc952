//! Encrypts an image for a key of the key broker and for public keys.

use std::path::Path;

use redoubt_ocicrypt::{
    LayerEncryptor, LayerMediaType, PacketVersion, PublicKey, RecipientCertificate, Recipients,
    annotations_for,
};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::digest::Digest;
use crate::errors::ImageError;
use crate::image::{Descriptor, MAX_CONFIG_BYTES};
use crate::options::Platform;

use super::layout::OciLayout;
use super::location::ImageLocation;
use super::places::{Destination, Extent, RegistryAccess, Source};

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// What to encrypt, for whom, and where to put it.
#[derive(Debug)]
pub struct EncryptRequest {
    /// The image to encrypt.
    pub source: ImageLocation,
    /// Where the encrypted image goes.
    pub destination: ImageLocation,
    /// Ids and bytes of broker keys, for one provider packet each.
    pub broker_keys: Vec<BrokerKey>,
    /// Which form the provider packets have.
    pub packet_version: PacketVersion,
    /// Public keys, for one JWE recipient each.
    pub public_keys: Vec<PublicKey>,
    /// Certificates, for the recipients of one PKCS #7 message.
    pub certificates: Vec<RecipientCertificate>,
    /// Which image of an index to take.
    pub platform: Platform,
    /// How registries are reached.
    pub access: RegistryAccess,
}

/// A 32-byte key and the id under which the key broker has it.
pub struct BrokerKey {
    /// Such as `kbs:///repo/type/tag`.
    pub kid: String,
    /// 32 bytes.
    pub key: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for BrokerKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BrokerKey")
            .field("kid", &self.kid)
            .finish_non_exhaustive()
    }
}

/// What was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncryptedImage {
    /// Digest of the new manifest; a pod names the image by it.
    pub manifest_digest: Digest,
    /// Layers that were encrypted.
    pub layers: usize,
    /// Sum of their sizes in bytes.
    pub layer_bytes: u64,
}

/// Encrypts all layers of an image, each with a key of its own, and writes or
/// pushes the result.
pub async fn encrypt_image(request: &EncryptRequest) -> Result<EncryptedImage, ImageError> {
    if let Some(BrokerKey { kid, key }) = request
        .broker_keys
        .iter()
        .find(|broker_key| broker_key.key.len() != 32)
    {
        return Err(ImageError::KeyLength {
            kid: kid.clone(),
            length: key.len(),
        });
    }
    let EncryptRequest {
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
    let mut json = source.image.json.clone();
    json["mediaType"] = OCI_MANIFEST.into();
    json["config"]["mediaType"] = OCI_CONFIG.into();
    let layers = &source.image.manifest.layers;
    let mut layer_bytes = 0;
    for (index, layer) in layers.iter().enumerate() {
        let path = source.layout.blob_path(layer.digest);
        let encrypted =
            encrypt_layer(&path, layer, &destination.layout, request).map_err(|source| {
                ImageError::Layer {
                    index,
                    digest: layer.digest,
                    progress: "while it was encrypted".to_owned(),
                    source: Box::new(source),
                }
            })?;
        layer_bytes += encrypted.bytes;
        encrypted.describe(&mut json["layers"][index]);
    }
    let manifest = json.to_string().into_bytes();
    Ok(EncryptedImage {
        manifest_digest: destination.deliver(&manifest, access).await?,
        layers: layers.len(),
        layer_bytes,
    })
}

struct EncryptedBlob {
    media_type: LayerMediaType,
    digest: Digest,
    bytes: u64,
    annotations: std::collections::BTreeMap<String, String>,
}

impl EncryptedBlob {
    fn describe(self, descriptor: &mut Value) {
        descriptor["mediaType"] = self.media_type.to_string().into();
        descriptor["digest"] = self.digest.to_string().into();
        descriptor["size"] = self.bytes.into();
        if !descriptor["annotations"].is_object() {
            descriptor["annotations"] = json!({});
        }
        for (name, value) in self.annotations {
            descriptor["annotations"][name] = value.into();
        }
    }
}

fn encrypt_layer(
    path: &Path,
    layer: &Descriptor,
    destination: &OciLayout,
    request: &EncryptRequest,
) -> Result<EncryptedBlob, ImageError> {
    let media_type = layer.layer_type()?;
    if media_type.encrypted {
        return Err(ImageError::MediaType {
            media_type: layer.media_type.clone(),
        });
    }
    let mut encryptor = LayerEncryptor::generate()?;
    let copied = destination.copy_blob(path, |data| encryptor.apply(data))?;
    copied.check(layer)?;
    let made = encryptor.finish();
    let broker_keys: Vec<(&str, &[u8])> = request
        .broker_keys
        .iter()
        .map(|key| (key.kid.as_str(), key.key.as_slice()))
        .collect();
    let recipients = Recipients {
        broker_keys: &broker_keys,
        packet_version: request.packet_version,
        public_keys: &request.public_keys,
        certificates: &request.certificates,
    };
    let annotations = annotations_for(&made.public, &made.private, &recipients)?;
    let (digest, bytes) = (copied.digest, copied.bytes);
    copied.keep(destination)?;
    Ok(EncryptedBlob {
        media_type: media_type.with_encryption(true),
        digest,
        bytes,
        annotations,
    })
}
