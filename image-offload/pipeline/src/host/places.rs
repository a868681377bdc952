//! Opens and fills the places that the command line names.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Component, Path};
use std::sync::atomic::AtomicU64;

use tempfile::TempDir;

use crate::digest::Digest;
use crate::errors::ImageError;
use crate::events::NoObserver;
use crate::image::{MAX_CONFIG_BYTES, MAX_MANIFEST_BYTES};
use crate::interrupt::Interrupt;
use crate::options::{Platform, RegistryOptions, RetryOptions};
use crate::reference::AnyReference;
use crate::registry::{Access, DocumentKind, Registry};
use crate::resolve::resolve_manifest;
use crate::staging::Staging;

use super::layout::{LayoutImage, OciLayout};
use super::location::ImageLocation;
use super::push::push_layout;

/// Files of an archived layout: blobs of one image, and its two documents.
const MAX_ARCHIVE_ENTRIES: usize = 4096;

/// How registries are reached from the command line.
#[derive(Clone, Debug, Default)]
pub struct RegistryAccess {
    /// Trust, credentials, plain HTTP.
    pub registries: RegistryOptions,
    /// Times and attempts.
    pub retry: RetryOptions,
}

impl RegistryAccess {
    pub(super) fn open(&self, reference: &AnyReference) -> Result<Registry<'_>, ImageError> {
        Registry::new(
            reference.registry(),
            reference.repository(),
            Access::Pull,
            &self.registries,
            self.retry,
            Interrupt::after(self.retry.deadline),
            &NoObserver,
        )
    }
}

/// How much of an image is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    Manifest,
    Everything,
}

/// An image that can be read from a directory.
pub(super) struct Source {
    pub(super) layout: OciLayout,
    pub(super) image: LayoutImage,
    /// Holds the layout if it is a copy.
    _scratch: Option<TempDir>,
}

impl Source {
    pub(super) async fn open(
        location: &ImageLocation,
        platform: &Platform,
        access: &RegistryAccess,
        extent: Extent,
    ) -> Result<Self, ImageError> {
        match location {
            ImageLocation::Layout { path, tag } => {
                let layout = OciLayout::open(path)?;
                let image = layout.find(tag.as_deref(), platform)?;
                Ok(Self {
                    layout,
                    image,
                    _scratch: None,
                })
            }
            ImageLocation::Archive { path, tag } => {
                let scratch = scratch()?;
                unpack_archive(path, scratch.path())?;
                let layout = OciLayout::open(scratch.path())?;
                let image = layout.find(tag.as_deref(), platform)?;
                Ok(Self {
                    layout,
                    image,
                    _scratch: Some(scratch),
                })
            }
            ImageLocation::Registry(reference) => {
                let scratch = scratch()?;
                let layout = OciLayout::create(scratch.path())?;
                let digest = fetch(reference, &layout, platform, access, extent).await?;
                let image = layout.read_image(digest)?;
                Ok(Self {
                    layout,
                    image,
                    _scratch: Some(scratch),
                })
            }
        }
    }
}

fn scratch() -> Result<TempDir, ImageError> {
    tempfile::tempdir()
        .map_err(|error| ImageError::io("create a directory in", std::env::temp_dir(), error))
}

/// From the reference to the digest that everything hangs on.
pub(super) async fn resolve(
    registry: &Registry<'_>,
    reference: &AnyReference,
) -> Result<Digest, ImageError> {
    match reference {
        AnyReference::Pinned(pinned) => Ok(pinned.digest()),
        AnyReference::Tagged { tag, .. } => registry.resolve_tag(tag).await,
    }
}

async fn fetch(
    reference: &AnyReference,
    layout: &OciLayout,
    platform: &Platform,
    access: &RegistryAccess,
    extent: Extent,
) -> Result<Digest, ImageError> {
    let registry = access.open(reference)?;
    let pinned = resolve(&registry, reference).await?;
    let (digest, manifest) = resolve_manifest(&registry, pinned, platform).await?;
    let json = registry
        .document(DocumentKind::Manifest, digest, MAX_MANIFEST_BYTES)
        .await?;
    layout.write_blob(&json)?;
    if extent == Extent::Manifest {
        return Ok(digest);
    }
    let config = registry
        .document(
            DocumentKind::Config,
            manifest.config.digest,
            MAX_CONFIG_BYTES,
        )
        .await?;
    layout.write_blob(&config)?;
    let staging = Staging::create(&layout.path().join("staging"))?;
    for (index, layer) in manifest.layers.iter().enumerate() {
        let target = layout.blob_path(layer.digest);
        if target.exists() {
            continue;
        }
        let name = index.to_string();
        let staged = registry
            .stage_blob(layer, &staging, &name, &AtomicU64::new(0), None)
            .await?;
        std::fs::rename(&staged.path, &target)
            .map_err(|error| ImageError::io("write", target, error))?;
    }
    Ok(digest)
}

/// Unpacks the files of a layout and nothing else.
fn unpack_archive(path: &Path, into: &Path) -> Result<(), ImageError> {
    let failed = |what| move |error| ImageError::io(what, path, error);
    let invalid = |reason: &str| ImageError::Layout {
        path: path.to_owned(),
        reason: reason.to_owned(),
    };
    let file = File::open(path).map_err(failed("open"))?;
    let mut archive = tar::Archive::new(BufReader::with_capacity(128 * 1024, file));
    let blobs = into.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).map_err(|error| ImageError::io("create", blobs, error))?;
    for (count, entry) in archive.entries().map_err(failed("read"))?.enumerate() {
        if count >= MAX_ARCHIVE_ENTRIES {
            return Err(invalid("it has too many entries"));
        }
        let mut entry = entry.map_err(failed("read"))?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let name = entry.path().map_err(failed("read"))?.into_owned();
        let Some(target) = layout_member(&name) else {
            continue;
        };
        let target = into.join(target);
        let mut output =
            File::create(&target).map_err(|error| ImageError::io("create", &target, error))?;
        std::io::copy(&mut entry.by_ref(), &mut output)
            .map_err(|error| ImageError::io("write", &target, error))?;
    }
    Ok(())
}

/// The place of a file in a layout; `None` for what is no part of one.
fn layout_member(name: &Path) -> Option<String> {
    let parts: Vec<&str> = name
        .components()
        .filter(|part| !matches!(part, Component::CurDir))
        .map(|part| match part {
            Component::Normal(text) => text.to_str(),
            _ => None,
        })
        .collect::<Option<_>>()?;
    match parts[..] {
        [document @ ("index.json" | "oci-layout")] => Some(document.to_owned()),
        ["blobs", "sha256", hex] => {
            let digest: Digest = format!("sha256:{hex}").parse().ok()?;
            Some(format!("blobs/sha256/{}", digest.hex()))
        }
        _ => None,
    }
}

/// A layout that an image is written into, on its way to where it belongs.
pub(super) struct Destination<'a> {
    pub(super) layout: OciLayout,
    location: &'a ImageLocation,
    _scratch: Option<TempDir>,
}

impl<'a> Destination<'a> {
    pub(super) fn prepare(location: &'a ImageLocation) -> Result<Self, ImageError> {
        let (layout, scratch) = match location {
            ImageLocation::Layout { path, .. } => (OciLayout::create(path)?, None),
            ImageLocation::Archive { path, .. } if path.exists() => {
                return Err(ImageError::Location {
                    text: location.to_string(),
                    reason: "the file exists",
                });
            }
            ImageLocation::Registry(AnyReference::Pinned(_)) => {
                return Err(ImageError::Location {
                    text: location.to_string(),
                    reason: "a place to push to has no digest",
                });
            }
            _ => {
                let scratch = scratch()?;
                (OciLayout::create(scratch.path())?, Some(scratch))
            }
        };
        Ok(Self {
            layout,
            location,
            _scratch: scratch,
        })
    }

    /// Makes the image with this manifest visible at its place.
    pub(super) async fn deliver(
        &self,
        manifest: &[u8],
        access: &RegistryAccess,
    ) -> Result<Digest, ImageError> {
        let digest = self.layout.write_blob(manifest)?;
        let bytes = manifest.len() as u64;
        match self.location {
            ImageLocation::Layout { tag, .. } => {
                self.layout.add_manifest(digest, bytes, tag.as_deref())?;
            }
            ImageLocation::Archive { path, tag } => {
                self.layout.add_manifest(digest, bytes, tag.as_deref())?;
                write_archive(self.layout.path(), path)?;
            }
            ImageLocation::Registry(reference) => {
                let tag = match reference {
                    AnyReference::Tagged { tag, .. } => Some(tag.as_str()),
                    AnyReference::Pinned(_) => None,
                };
                push_layout(
                    &self.layout,
                    digest,
                    reference.registry(),
                    reference.repository(),
                    tag,
                    access,
                )
                .await?;
            }
        }
        Ok(digest)
    }
}

fn write_archive(layout: &Path, path: &Path) -> Result<(), ImageError> {
    let failed = |error| ImageError::io("write", path, error);
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let output = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    let mut builder = tar::Builder::new(std::io::BufWriter::new(output));
    builder.mode(tar::HeaderMode::Deterministic);
    for name in ["oci-layout", "index.json"] {
        builder
            .append_path_with_name(layout.join(name), name)
            .map_err(failed)?;
    }
    builder
        .append_dir_all("blobs", layout.join("blobs"))
        .map_err(failed)?;
    let output = builder.into_inner().map_err(failed)?;
    let output = output.into_inner().map_err(|error| failed(error.into()))?;
    output.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_members_of_a_layout_are_taken_from_an_archive() {
        let hex = "0".repeat(64);
        for (name, place) in [
            ("index.json".to_owned(), Some("index.json".to_owned())),
            ("./oci-layout".to_owned(), Some("oci-layout".to_owned())),
            (
                format!("blobs/sha256/{hex}"),
                Some(format!("blobs/sha256/{hex}")),
            ),
            ("blobs/sha256/../../../etc/passwd".to_owned(), None),
            ("blobs/sha256/short".to_owned(), None),
            (format!("/blobs/sha256/{hex}"), None),
            ("manifest.json".to_owned(), None),
        ] {
            assert_eq!(layout_member(Path::new(&name)), place, "{name}");
        }
    }
}
