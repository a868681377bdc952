//! Pushes an image from a layout to a registry (distribution-spec, "Push").

use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use reqwest::{Body, Method, Response, StatusCode, Url};
use tokio_util::io::ReaderStream;

use crate::digest::Digest;
use crate::errors::ImageError;
use crate::events::NoObserver;
use crate::image::{Descriptor, MAX_MANIFEST_BYTES, ManifestDocument};
use crate::interrupt::Interrupt;
use crate::registry::{Access, Failure, Registry};

use super::layout::OciLayout;
use super::places::RegistryAccess;

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Pushes one image with its configuration and layers. Without a tag the
/// image can be pulled by its digest only.
pub async fn push_layout(
    layout: &OciLayout,
    manifest_digest: Digest,
    registry: &str,
    repository: &str,
    tag: Option<&str>,
    access: &RegistryAccess,
) -> Result<(), ImageError> {
    let registry = Registry::new(
        registry,
        repository,
        Access::Push,
        &access.registries,
        access.retry,
        Interrupt::after(access.retry.deadline),
        &NoObserver,
    )?;
    let manifest_json = layout.read_blob(manifest_digest, MAX_MANIFEST_BYTES)?;
    let ManifestDocument::Image(manifest) = ManifestDocument::parse(&manifest_json)? else {
        return Err(ImageError::ManifestInvalid {
            digest: manifest_digest,
            reason: "an index cannot be pushed".to_owned(),
        });
    };
    for blob in manifest.layers.iter().chain([&manifest.config]) {
        let what = format!("blob {}", blob.digest);
        retrying(&registry, &what, || push_blob(&registry, layout, blob)).await?;
    }
    let name = tag.map_or_else(|| manifest_digest.to_string(), str::to_owned);
    let url = registry.url(&format!("manifests/{name}"))?;
    let what = format!("manifest {manifest_digest}");
    retrying(&registry, &what, || {
        push_manifest(&registry, &url, &manifest_json)
    })
    .await
}

async fn retrying<F: Future<Output = Result<(), Failure>>>(
    registry: &Registry<'_>,
    what: &str,
    mut work: impl FnMut() -> F,
) -> Result<(), ImageError> {
    let mut attempt = 1;
    loop {
        match work().await {
            Ok(()) => return Ok(()),
            Err(failure) => registry.pause_or_fail(what, attempt, failure).await?,
        }
        attempt += 1;
    }
}

async fn push_blob(
    registry: &Registry<'_>,
    layout: &OciLayout,
    blob: &Descriptor,
) -> Result<(), Failure> {
    let what = format!("blob {}", blob.digest);
    let url = registry.url(&format!("blobs/{}", blob.digest))?;
    let present = registry
        .send_authorized(|| registry.request(Method::HEAD, url.clone()))
        .await?;
    if present.status() == StatusCode::OK {
        return Ok(());
    }
    let url = registry.url("blobs/uploads/")?;
    let start = || {
        registry
            .request(Method::POST, url.clone())
            .header(CONTENT_LENGTH, 0)
    };
    let begun = registry.send_authorized(start).await?;
    if begun.status() != StatusCode::ACCEPTED {
        return Err(Failure::from_status(registry.name(), &what, &begun));
    }
    let mut upload = upload_url(registry, &begun)?;
    upload
        .query_pairs_mut()
        .append_pair("digest", &blob.digest.to_string());

    // The authorization is fresh from the requests before; a body that is
    // streamed could not be sent twice.
    let path = layout.blob_path(blob.digest);
    let failed = |error| ImageError::io("read", &path, error);
    let file = tokio::fs::File::open(&path).await.map_err(failed)?;
    let length = file.metadata().await.map_err(failed)?.len();
    let put = registry
        .request(Method::PUT, upload)
        .header(CONTENT_TYPE, "application/octet-stream")
        .header(CONTENT_LENGTH, length)
        .body(Body::wrap_stream(ReaderStream::with_capacity(
            file,
            128 * 1024,
        )));
    let done = registry.send_once(put).await?;
    expect_created(registry, &what, &done)
}

async fn push_manifest(registry: &Registry<'_>, url: &Url, json: &[u8]) -> Result<(), Failure> {
    let put = || {
        registry
            .request(Method::PUT, url.clone())
            .header(CONTENT_TYPE, OCI_MANIFEST)
            .body(json.to_vec())
    };
    let done = registry.send_authorized(put).await?;
    expect_created(registry, "the manifest", &done)
}

fn expect_created(registry: &Registry<'_>, what: &str, response: &Response) -> Result<(), Failure> {
    if response.status() == StatusCode::CREATED {
        return Ok(());
    }
    Err(Failure::from_status(registry.name(), what, response))
}

/// The address of an upload, which must be at the registry itself: the
/// authorization goes there.
fn upload_url(registry: &Registry<'_>, begun: &Response) -> Result<Url, ImageError> {
    let refused = || ImageError::RegistryRedirect {
        registry: registry.name().to_owned(),
    };
    let location = begun
        .headers()
        .get(LOCATION)
        .and_then(|header| header.to_str().ok());
    let base = registry.url("")?;
    let url = base
        .join(location.ok_or_else(refused)?)
        .map_err(|_| refused())?;
    if url.origin() == base.origin() {
        Ok(url)
    } else {
        Err(refused())
    }
}
