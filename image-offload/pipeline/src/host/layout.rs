//! OCI image layouts (image-spec, image-layout.md): blobs in a directory.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::digest::{Digest, Hasher};
use crate::errors::ImageError;
use crate::image::{Descriptor, MAX_MANIFEST_BYTES, Manifest, ManifestDocument};
use crate::options::Platform;

const MARKER: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;
const REF_NAME: &str = "org.opencontainers.image.ref.name";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// A directory in OCI layout.
#[derive(Clone, Debug)]
pub struct OciLayout {
    path: PathBuf,
}

impl OciLayout {
    /// Opens an existing layout.
    pub fn open(path: &Path) -> Result<Self, ImageError> {
        let layout = Self {
            path: path.to_owned(),
        };
        if !path.join("index.json").is_file() {
            return Err(layout.invalid("it has no index.json"));
        }
        Ok(layout)
    }

    /// Opens a layout, or makes an empty one.
    pub fn create(path: &Path) -> Result<Self, ImageError> {
        let blobs = path.join("blobs/sha256");
        std::fs::create_dir_all(&blobs).map_err(|error| ImageError::io("create", blobs, error))?;
        let layout = Self {
            path: path.to_owned(),
        };
        if !path.join("index.json").exists() {
            layout.write("oci-layout", MARKER.as_bytes())?;
            layout.write("index.json", br#"{"schemaVersion":2,"manifests":[]}"#)?;
        }
        Ok(layout)
    }

    fn invalid(&self, reason: impl Into<String>) -> ImageError {
        ImageError::Layout {
            path: self.path.clone(),
            reason: reason.into(),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where a blob is or would be.
    pub fn blob_path(&self, digest: Digest) -> PathBuf {
        self.path.join("blobs/sha256").join(digest.hex())
    }

    /// Reads a small blob and checks its digest.
    pub fn read_blob(&self, digest: Digest, limit_bytes: u64) -> Result<Vec<u8>, ImageError> {
        let path = self.blob_path(digest);
        let file = File::open(&path).map_err(|error| ImageError::io("open", &path, error))?;
        let mut bytes = Vec::new();
        file.take(limit_bytes + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| ImageError::io("read", &path, error))?;
        let what = format!("blob {digest}");
        if bytes.len() as u64 > limit_bytes {
            return Err(ImageError::DocumentTooLarge { what, limit_bytes });
        }
        let actual = Digest::of(&bytes);
        if actual != digest {
            return Err(ImageError::DigestMismatch {
                what,
                expected: digest,
                actual,
            });
        }
        Ok(bytes)
    }

    /// Adds a small blob.
    pub fn write_blob(&self, bytes: &[u8]) -> Result<Digest, ImageError> {
        let digest = Digest::of(bytes);
        let path = self.blob_path(digest);
        std::fs::write(&path, bytes).map_err(|error| ImageError::io("write", path, error))?;
        Ok(digest)
    }

    /// Copies a blob piece by piece; `transform` changes the bytes on their
    /// way. It is part of the layout when it is kept.
    pub(super) fn copy_blob(
        &self,
        source: &Path,
        mut transform: impl FnMut(&mut [u8]),
    ) -> Result<CopiedBlob, ImageError> {
        let mut input =
            File::open(source).map_err(|error| ImageError::io("open", source, error))?;
        let mut output = tempfile::NamedTempFile::new_in(self.path.join("blobs/sha256"))
            .map_err(|error| ImageError::io("create a file in", &self.path, error))?;
        let (mut before, mut after) = (Hasher::default(), Hasher::default());
        let mut buffer = vec![0; 128 * 1024];
        loop {
            let count = input
                .read(&mut buffer)
                .map_err(|error| ImageError::io("read", source, error))?;
            if count == 0 {
                break;
            }
            let data = &mut buffer[..count];
            before.update(data);
            transform(data);
            after.update(data);
            output
                .write_all(data)
                .map_err(|error| ImageError::io("write", &self.path, error))?;
        }
        let bytes = after.bytes();
        Ok(CopiedBlob {
            source_digest: before.finish(),
            digest: after.finish(),
            bytes,
            file: output,
        })
    }

    /// Finds an image by tag and platform; reads its manifest as typed data
    /// and as JSON.
    pub fn find(&self, tag: Option<&str>, platform: &Platform) -> Result<LayoutImage, ImageError> {
        let mut descriptor = self.find_entry(tag)?;
        for _ in 0..4 {
            let bytes = self.read_blob(descriptor, MAX_MANIFEST_BYTES)?;
            match ManifestDocument::parse(&bytes)? {
                ManifestDocument::Image(_) => return self.read_image(descriptor),
                ManifestDocument::Index(index) => {
                    let found = index
                        .select(platform)
                        .ok_or_else(|| ImageError::NoPlatform {
                            digest: descriptor,
                            platform: platform.to_string(),
                        })?;
                    descriptor = found.digest;
                }
            }
        }
        Err(ImageError::IndexLoop {
            digest: descriptor,
            limit: 4,
        })
    }

    /// Reads the image with this manifest.
    pub(super) fn read_image(&self, digest: Digest) -> Result<LayoutImage, ImageError> {
        let bytes = self.read_blob(digest, MAX_MANIFEST_BYTES)?;
        let ManifestDocument::Image(manifest) = ManifestDocument::parse(&bytes)? else {
            return Err(self.invalid("the manifest is an index"));
        };
        let json =
            serde_json::from_slice(&bytes).map_err(|_| self.invalid("the manifest is not JSON"))?;
        Ok(LayoutImage {
            digest,
            manifest,
            json,
        })
    }

    fn find_entry(&self, tag: Option<&str>) -> Result<Digest, ImageError> {
        let index = self.index()?;
        let manifests = index["manifests"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        let matching: Vec<&Value> = manifests
            .iter()
            .filter(|entry| {
                tag.is_none_or(|tag| entry["annotations"][REF_NAME].as_str() == Some(tag))
            })
            .collect();
        match matching[..] {
            [entry] => entry["digest"].as_str().unwrap_or_default().parse(),
            [] => Err(self.invalid(tag.map_or_else(
                || "it holds no image".to_owned(),
                |tag| format!("it holds no image with the tag {tag}"),
            ))),
            _ => Err(self.invalid("it holds several images; name one as oci:DIR:TAG")),
        }
    }

    fn index(&self) -> Result<Value, ImageError> {
        let path = self.path.join("index.json");
        let bytes = std::fs::read(&path).map_err(|error| ImageError::io("read", &path, error))?;
        serde_json::from_slice(&bytes).map_err(|_| self.invalid("index.json is not JSON"))
    }

    /// Adds a manifest that is among the blobs to the index; an image that
    /// had the tag before loses it.
    pub fn add_manifest(
        &self,
        digest: Digest,
        size: u64,
        tag: Option<&str>,
    ) -> Result<(), ImageError> {
        let mut index = self.index()?;
        let mut entry =
            json!({"mediaType": OCI_MANIFEST, "digest": digest.to_string(), "size": size});
        if let Some(tag) = tag {
            entry["annotations"] = json!({ REF_NAME: tag });
        }
        let Some(manifests) = index["manifests"].as_array_mut() else {
            return Err(self.invalid("index.json has no list of manifests"));
        };
        manifests.retain(|known| known["annotations"][REF_NAME].as_str() != tag || tag.is_none());
        manifests.push(entry);
        self.write("index.json", index.to_string().as_bytes())
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), ImageError> {
        let failed = |error| ImageError::io("write", self.path.join(name), error);
        let mut file = tempfile::NamedTempFile::new_in(&self.path).map_err(failed)?;
        file.write_all(bytes).map_err(failed)?;
        file.persist(self.path.join(name))
            .map_err(|error| failed(error.error))?;
        Ok(())
    }
}

/// A blob that was copied, perhaps changed.
pub(super) struct CopiedBlob {
    pub(super) source_digest: Digest,
    pub(super) digest: Digest,
    pub(super) bytes: u64,
    file: tempfile::NamedTempFile,
}

impl CopiedBlob {
    /// Makes the copy a blob of the layout that it was made in.
    pub(super) fn keep(self, layout: &OciLayout) -> Result<(), ImageError> {
        let path = layout.blob_path(self.digest);
        self.file
            .persist(&path)
            .map_err(|error| ImageError::io("write", path, error.error))?;
        Ok(())
    }

    /// Checks that the source was what its descriptor promised.
    pub(super) fn check(&self, descriptor: &Descriptor) -> Result<(), ImageError> {
        if self.source_digest == descriptor.digest {
            return Ok(());
        }
        Err(ImageError::DigestMismatch {
            what: format!("blob {}", descriptor.digest),
            expected: descriptor.digest,
            actual: self.source_digest,
        })
    }
}

/// An image in a layout.
#[derive(Debug)]
pub struct LayoutImage {
    /// Digest of the manifest.
    pub digest: Digest,
    /// The manifest.
    pub manifest: Manifest,
    /// The manifest with all members, also those that are not known here.
    pub json: Value,
}
