//! Images that this guest pulls itself: identity, keys, root file systems.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use redoubt_agent_api::agent::{CreateContainerRequest, Storage};
use redoubt_agent_api::stage::Stage;
use redoubt_image_offload::{
    ImageReference, ImageStore, KeySource, KeySourceError, PullEvent, PullObserver, PullOptions,
    PulledImage,
};
use redoubt_kbs_client::{Attested, KbsClient, KbsClientConfig, KbsObserver};
use redoubt_kbs_protocol::ResourcePath;
use zeroize::Zeroizing;

use crate::console;
use crate::error::{AgentError, Result};
use crate::params::Parameters;
use crate::trust::Trust;

/// The driver of the storage that asks for an image.
pub(crate) const GUEST_PULL: &str = "image_guest_pull";
/// Where layers are kept: memory, so that the host sees nothing of them.
const STORE: &str = "/run/redoubt/images";

/// Annotations that repeat the image's name.
const IMAGE_ANNOTATIONS: [&str; 3] = [
    "io.kubernetes.cri.image-name",
    "io.kubernetes.cri-o.ImageName",
    "io.redoubt.image",
];

/// Pulls images and fetches their keys.
#[derive(Debug)]
pub(crate) struct Images {
    store: ImageStore,
    keys: BrokerKeys,
    options: PullOptions,
}

impl Images {
    /// Opens the layer store and prepares the key broker's client.
    pub(crate) fn open(trust: &Trust, parameters: &Parameters) -> Result<Self> {
        let store = ImageStore::open(STORE).map_err(|source| AgentError::Image {
            container: "-".to_owned(),
            source,
        })?;
        let mut options = PullOptions::default();
        options.registries.trust = trust.settings.trust.clone();
        options
            .registries
            .insecure
            .clone_from(&trust.settings.insecure_registries);
        options
            .registries
            .https_proxy
            .clone_from(&trust.settings.https_proxy);
        options.retry.deadline = parameters.image_pull_timeout;
        Ok(Self {
            store,
            keys: BrokerKeys::new(trust, parameters)?,
            options,
        })
    }

    /// Pulls the image of a container and mounts its root file system.
    pub(crate) async fn root_file_system(
        &self,
        container: &str,
        reference: &str,
        bundle: &Path,
    ) -> Result<(PathBuf, PulledImage)> {
        let failed = |source| AgentError::Image {
            container: container.to_owned(),
            source,
        };
        let image = self
            .store
            .pull(reference, &self.options, &self.keys, &Trail)
            .await
            .map_err(failed)?;
        let root = self.store.mount_rootfs(&image, bundle).map_err(failed)?;
        Ok((root, image))
    }

    /// Undoes the mount.
    pub(crate) fn release(&self, container: &str, bundle: &Path) -> Result<()> {
        self.store
            .unmount_rootfs(bundle)
            .map_err(|source| AgentError::Image {
                container: container.to_owned(),
                source,
            })
    }
}

/// The one storage that asks for an image, when there is one.
pub(crate) fn guest_pull_storage(request: &CreateContainerRequest) -> Result<Option<&Storage>> {
    let mut storages = request
        .storages
        .iter()
        .filter(|storage| storage.driver == GUEST_PULL);
    let first = storages.next();
    if storages.next().is_some() {
        return Err(AgentError::request("two storages ask for an image"));
    }
    Ok(first)
}

/// The image of a request, when all places that name it agree and it is pinned by a digest.
///
/// The storage's source, the annotations and the storage's metadata are three
/// copies that the host wrote; a policy may have looked at any of them.
pub(crate) fn agreed_reference(
    request: &CreateContainerRequest,
    storage: &Storage,
) -> Result<String> {
    let reference = storage.source.as_str();
    let metadata = storage_metadata(storage)?;
    for key in IMAGE_ANNOTATIONS {
        let copies = [
            request.OCI.Annotations.get(key).map(String::as_str),
            metadata.get(key).and_then(serde_json::Value::as_str),
        ];
        for copy in copies
            .into_iter()
            .flatten()
            .filter(|copy| *copy != reference)
        {
            return Err(AgentError::ImageNamesDisagree {
                first: bounded(reference),
                second: bounded(copy),
            });
        }
    }
    if !reference.contains("@sha256:") {
        return Err(AgentError::ImageNotPinned {
            reference: bounded(reference),
        });
    }
    Ok(reference.to_owned())
}

/// Refuses an image whose digest the measured policy does not name.
pub(crate) fn check_allowed(trust: &Trust, reference: &str) -> Result<()> {
    if !trust.is_confidential() {
        return Ok(());
    }
    let pinned = ImageReference::parse(reference).map_err(|source| AgentError::Image {
        container: "-".to_owned(),
        source,
    })?;
    let digest = format!("sha256:{}", pinned.digest().hex());
    let allowed = trust.policy.image_digests()?.unwrap_or_default();
    if allowed.contains(&digest) {
        Ok(())
    } else {
        Err(AgentError::ImageNotAllowed { digest })
    }
}

fn storage_metadata(storage: &Storage) -> Result<serde_json::Map<String, serde_json::Value>> {
    let Some(option) = storage.driver_options.first() else {
        return Ok(serde_json::Map::new());
    };
    let json = option
        .strip_prefix("image_guest_pull=")
        .ok_or_else(|| AgentError::request("the image storage has an unknown option"))?;
    let document: serde_json::Value = serde_json::from_str(json)
        .map_err(|_| AgentError::request("the image storage's option is not JSON"))?;
    Ok(document
        .get("metadata")
        .and_then(|value| value.as_object())
        .cloned()
        .unwrap_or_default())
}

fn bounded(text: &str) -> String {
    text.chars().take(256).collect()
}

/// Keys of encrypted layers, from the key broker of initdata.
#[derive(Debug)]
struct BrokerKeys {
    client: Option<KbsClient>,
}

impl BrokerKeys {
    fn new(trust: &Trust, parameters: &Parameters) -> Result<Self> {
        let (Some(broker), Some(attester)) = (&trust.settings.broker, &trust.attester) else {
            return Ok(Self { client: None });
        };
        let mut config = KbsClientConfig::new(&broker.url);
        config.pinned_cert_pem.clone_from(&broker.certificate);
        config.initdata.clone_from(&trust.initdata);
        config.deadline = parameters.broker_timeout;
        config.observer = Some(Arc::new(Trail));
        Ok(Self {
            client: Some(KbsClient::new(config, Arc::clone(attester))?),
        })
    }
}

#[async_trait]
impl KeySource for BrokerKeys {
    async fn key(&self, kid: &str) -> std::result::Result<Zeroizing<Vec<u8>>, KeySourceError> {
        let Some(client) = &self.client else {
            return Err(KeySourceError::new(kid, AgentError::NoBroker));
        };
        let path = ResourcePath::from_uri(kid)
            .map_err(|_| KeySourceError::new(kid, AgentError::KeyId { kid: bounded(kid) }))?;
        client
            .get_resource(&path)
            .await
            .map_err(|error| KeySourceError::new(kid, error))
    }
}

/// Tells the console how far a pull and a handshake are.
struct Trail;

impl KbsObserver for Trail {
    fn on_attested(&self, attested: &Attested) {
        console::stage(Stage::EvidenceAccepted, &format!("by {}", attested.url));
    }

    fn on_resource(&self, path: &ResourcePath) {
        console::stage(Stage::KeyReleased, &path.to_string());
    }
}

impl PullObserver for Trail {
    fn event(&self, event: PullEvent) {
        match event {
            PullEvent::Finished {
                layers,
                decrypted,
                cached,
                blob_bytes,
                ..
            } => {
                let cached = if cached == 0 {
                    String::new()
                } else {
                    format!(", {cached} at hand")
                };
                let detail = format!(
                    "{layers} layers, {decrypted} decrypted{cached}, {} KiB",
                    blob_bytes.div_ceil(1024)
                );
                console::stage(Stage::LayersVerified, &detail);
            }
            PullEvent::Retrying {
                what,
                attempt,
                reason,
                ..
            } => {
                tracing::warn!(what, attempt, reason, "fetching again");
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PINNED: &str =
        "r:5000/i@sha256:0000000000000000000000000000000000000000000000000000000000000000";

    fn request(source: &str, annotation: &str, metadata: &str) -> CreateContainerRequest {
        let mut request = CreateContainerRequest::new();
        let mut spec = redoubt_agent_api::oci::Spec::new();
        spec.Annotations
            .insert("io.redoubt.image".to_owned(), annotation.to_owned());
        request.OCI = Some(spec).into();
        let options = serde_json::json!({"metadata": {"io.redoubt.image": metadata}});
        request.storages.push(Storage {
            driver: GUEST_PULL.to_owned(),
            source: source.to_owned(),
            driver_options: vec![format!("image_guest_pull={options}")],
            ..Storage::default()
        });
        request
    }

    fn agreed(request: &CreateContainerRequest) -> Result<String> {
        agreed_reference(request, guest_pull_storage(request)?.unwrap())
    }

    #[test]
    fn copies_that_agree_give_the_reference() {
        assert_eq!(agreed(&request(PINNED, PINNED, PINNED)).unwrap(), PINNED);
    }

    #[test]
    fn copies_that_disagree_are_refused() {
        for (annotation, metadata) in [("other", PINNED), (PINNED, "other")] {
            let error = agreed(&request(PINNED, annotation, metadata)).unwrap_err();
            assert!(
                matches!(error, AgentError::ImageNamesDisagree { .. }),
                "{error}"
            );
        }
    }

    #[test]
    fn a_tag_is_no_identity() {
        let error = agreed(&request("r/i:v1", "r/i:v1", "r/i:v1")).unwrap_err();
        assert!(
            matches!(error, AgentError::ImageNotPinned { .. }),
            "{error}"
        );
    }

    #[test]
    fn a_second_image_in_one_request_is_refused() {
        let mut twice = request(PINNED, PINNED, PINNED);
        twice.storages.push(twice.storages[0].clone());
        assert!(matches!(agreed(&twice), Err(AgentError::Request { .. })));
    }
}
