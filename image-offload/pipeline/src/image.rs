//! Manifests and image configurations (image-spec, manifest.md,
//! image-index.md, config.md), read from bytes whose digest is verified.

use std::collections::BTreeMap;

use serde::Deserialize;

use redoubt_ocicrypt::{Compression, LayerMediaType};

use crate::digest::Digest;
use crate::errors::ImageError;
use crate::options::Platform;

/// Largest manifest or index that is read, as registries limit it too.
pub const MAX_MANIFEST_BYTES: u64 = 4 << 20;
/// Largest image configuration that is read.
pub const MAX_CONFIG_BYTES: u64 = 8 << 20;
/// Most layers of an image: the kernel's overlay stacks no more.
pub const MAX_LAYERS: usize = 500;
/// Most entries of an index.
const MAX_INDEX_ENTRIES: usize = 4096;

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";

/// A signed document of cosign, and the annotation with its signature.
pub(crate) const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
pub(crate) const SIGNATURE_ANNOTATION: &str = "dev.cosignproject.cosign/signature";

/// The media types that are asked for, for the `Accept` header.
pub(crate) const MANIFEST_TYPES: [&str; 4] =
    [OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_INDEX];

/// A document that stands under an image's reference.
#[derive(Debug)]
pub enum ManifestDocument {
    /// One image.
    Image(Manifest),
    /// A choice of images by platform.
    Index(Index),
}

/// A reference from one document to a blob or another document.
#[derive(Clone, Debug)]
pub struct Descriptor {
    /// What the content is.
    pub media_type: String,
    /// The content's digest.
    pub digest: Digest,
    /// The content's size in bytes.
    pub size: u64,
    /// Free-form text; holds the wrapped keys of encrypted layers.
    pub annotations: BTreeMap<String, String>,
}

/// An image manifest.
#[derive(Debug)]
pub struct Manifest {
    /// The image configuration.
    pub config: Descriptor,
    /// The layers, lowest first.
    pub layers: Vec<Descriptor>,
}

/// An image index (manifest list).
#[derive(Debug)]
pub struct Index {
    entries: Vec<IndexEntry>,
}

#[derive(Debug)]
struct IndexEntry {
    descriptor: Descriptor,
    platform: Option<PlatformDocument>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AnyDocument {
    #[serde(default)]
    schema_version: u32,
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    config: Option<DescriptorDocument>,
    #[serde(default)]
    layers: Option<Vec<DescriptorDocument>>,
    #[serde(default)]
    manifests: Option<Vec<DescriptorDocument>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DescriptorDocument {
    media_type: String,
    digest: String,
    size: u64,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
    #[serde(default)]
    platform: Option<PlatformDocument>,
}

#[derive(Debug, Deserialize)]
struct PlatformDocument {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
}

impl ManifestDocument {
    /// Reads a manifest or index. The bytes' digest must be verified before.
    ///
    /// The kind is what the members say; a media type that says otherwise is
    /// refused, so that no two readers can see two different images.
    pub fn parse(bytes: &[u8]) -> Result<Self, ImageError> {
        let digest = Digest::of(bytes);
        let invalid = |reason: &str| ImageError::ManifestInvalid {
            digest,
            reason: reason.to_owned(),
        };
        let document: AnyDocument =
            serde_json::from_slice(bytes).map_err(|error| ImageError::ManifestInvalid {
                digest,
                reason: format!("not the expected JSON: {error}"),
            })?;
        if document.schema_version != 2 {
            return Err(invalid("the schema version is not 2"));
        }
        let media_type = document.media_type.as_deref();
        match (document.config, document.layers, document.manifests) {
            (Some(config), Some(layers), None) => {
                if !matches!(media_type, None | Some(OCI_MANIFEST | DOCKER_MANIFEST)) {
                    return Err(invalid("its media type is not that of an image"));
                }
                if layers.len() > MAX_LAYERS {
                    return Err(ImageError::TooManyLayers {
                        count: layers.len(),
                        limit: MAX_LAYERS,
                    });
                }
                if layers.is_empty() {
                    return Err(ImageError::NoLayers);
                }
                let config = config.read()?.0;
                if !matches!(config.media_type.as_str(), OCI_CONFIG | DOCKER_CONFIG) {
                    return Err(ImageError::MediaType {
                        media_type: config.media_type,
                    });
                }
                let layers = layers
                    .into_iter()
                    .map(|layer| layer.read().map(|(descriptor, _)| descriptor))
                    .collect::<Result<_, _>>()?;
                Ok(Self::Image(Manifest { config, layers }))
            }
            (None, None, Some(manifests)) => {
                if !matches!(media_type, None | Some(OCI_INDEX | DOCKER_INDEX)) {
                    return Err(invalid("its media type is not that of an index"));
                }
                if manifests.len() > MAX_INDEX_ENTRIES {
                    return Err(invalid("the index has too many entries"));
                }
                let entries = manifests
                    .into_iter()
                    .map(|entry| {
                        let (descriptor, platform) = entry.read()?;
                        Ok(IndexEntry {
                            descriptor,
                            platform,
                        })
                    })
                    .collect::<Result<_, ImageError>>()?;
                Ok(Self::Index(Index { entries }))
            }
            _ => Err(invalid("it is neither an image nor an index")),
        }
    }
}

impl DescriptorDocument {
    fn read(self) -> Result<(Descriptor, Option<PlatformDocument>), ImageError> {
        let descriptor = Descriptor {
            media_type: self.media_type,
            digest: self.digest.parse()?,
            size: self.size,
            annotations: self.annotations.unwrap_or_default(),
        };
        Ok((descriptor, self.platform))
    }
}

impl Descriptor {
    /// How a layer is compressed and whether it is encrypted.
    pub fn layer_type(&self) -> Result<LayerMediaType, ImageError> {
        let docker = |compression| {
            Some(LayerMediaType {
                compression,
                encrypted: false,
                nondistributable: false,
            })
        };
        match self.media_type.as_str() {
            DOCKER_LAYER => docker(Compression::None),
            DOCKER_LAYER_GZIP => docker(Compression::Gzip),
            other => LayerMediaType::parse(other),
        }
        .ok_or_else(|| ImageError::MediaType {
            media_type: self.media_type.chars().take(200).collect(),
        })
    }
}

impl Index {
    /// The first entry for a platform.
    pub fn select(&self, platform: &Platform) -> Option<&Descriptor> {
        let wanted = |entry: &&IndexEntry| match &entry.platform {
            Some(found) => found.os == platform.os && found.architecture == platform.architecture,
            // A nested index, or an entry of an index with one image only.
            None => {
                self.entries.len() == 1
                    || matches!(
                        entry.descriptor.media_type.as_str(),
                        OCI_INDEX | DOCKER_INDEX
                    )
            }
        };
        self.entries
            .iter()
            .find(wanted)
            .map(|entry| &entry.descriptor)
    }
}

/// What an image says about the process to run in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageConfig {
    /// Environment, as `NAME=value`.
    pub env: Vec<String>,
    /// The command or the arguments of the entry point.
    pub cmd: Vec<String>,
    /// The entry point, before the command.
    pub entrypoint: Vec<String>,
    /// The working directory; empty means `/`.
    pub working_dir: String,
    /// User and group, by name or number; empty means root.
    pub user: String,
    /// The signal that asks the process to end, such as `SIGQUIT`; may be empty.
    pub stop_signal: String,
    /// Paths that the image declares as volumes.
    pub volumes: Vec<String>,
    /// The image's labels.
    pub labels: BTreeMap<String, String>,
    /// Digest of each layer's uncompressed archive, lowest first.
    pub diff_ids: Vec<Digest>,
}

#[derive(Deserialize)]
struct ConfigDocument {
    #[serde(default)]
    config: Option<ProcessDocument>,
    rootfs: RootfsDocument,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ProcessDocument {
    env: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    entrypoint: Option<Vec<String>>,
    working_dir: Option<String>,
    user: Option<String>,
    stop_signal: Option<String>,
    volumes: Option<BTreeMap<String, serde_json::Value>>,
    labels: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct RootfsDocument {
    #[serde(rename = "type")]
    kind: String,
    diff_ids: Vec<String>,
}

impl ImageConfig {
    /// Reads an image configuration. The bytes' digest must be verified before.
    pub fn parse(bytes: &[u8]) -> Result<Self, ImageError> {
        let digest = Digest::of(bytes);
        let document: ConfigDocument =
            serde_json::from_slice(bytes).map_err(|error| ImageError::ConfigInvalid {
                digest,
                reason: format!("not the expected JSON: {error}"),
            })?;
        if document.rootfs.kind != "layers" {
            let reason = "rootfs is not made of layers".to_owned();
            return Err(ImageError::ConfigInvalid { digest, reason });
        }
        let diff_ids = document
            .rootfs
            .diff_ids
            .iter()
            .map(|text| text.parse())
            .collect::<Result<Vec<Digest>, _>>()?;
        let process = document.config.unwrap_or_default();
        Ok(Self {
            env: process.env.unwrap_or_default(),
            cmd: process.cmd.unwrap_or_default(),
            entrypoint: process.entrypoint.unwrap_or_default(),
            working_dir: process.working_dir.unwrap_or_default(),
            user: process.user.unwrap_or_default(),
            stop_signal: process.stop_signal.unwrap_or_default(),
            volumes: process.volumes.unwrap_or_default().into_keys().collect(),
            labels: process.labels.unwrap_or_default(),
            diff_ids,
        })
    }
}
