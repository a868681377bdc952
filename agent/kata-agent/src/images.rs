//! Images that this guest pulls itself: identity, keys, root file systems.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
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

/// Pulls images and fetches their keys.
#[derive(Debug)]
pub(crate) struct Images {
    store: ImageStore,
    keys: BrokerKeys,
    options: PullOptions,
}

impl Images {
    /// Opens the layer store in `folder`, which is memory so that the host sees nothing
    /// of it, and prepares the key broker's client.
    pub(crate) fn open(folder: &Path, trust: &Trust, parameters: &Parameters) -> Result<Self> {
        let store = ImageStore::open(folder).map_err(|source| AgentError::Image {
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

/// Refuses an image whose digest the measured policy does not name.
///
/// A policy that names images is obeyed in every guest; a confidential guest
/// needs one that does.
pub(crate) fn check_allowed(trust: &Trust, reference: &str) -> Result<()> {
    let pinned = ImageReference::parse(reference).map_err(|source| AgentError::Image {
        container: "-".to_owned(),
        source,
    })?;
    let digest = format!("sha256:{}", pinned.digest().hex());
    let is_allowed = match trust.policy.image_digests()? {
        Some(allowed) => allowed.contains(&digest),
        None => !trust.is_confidential(),
    };
    if is_allowed {
        Ok(())
    } else {
        Err(AgentError::ImageNotAllowed { digest })
    }
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
    use redoubt_agent_policy::PolicyEngine;

    use super::*;
    use crate::settings::Settings;

    const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn trust(policy: &str) -> Trust {
        Trust {
            attester: None,
            policy: PolicyEngine::lenient(&format!("package agent_policy\n{policy}")).unwrap(),
            settings: Settings::default(),
            initdata: None,
        }
    }

    #[test]
    fn a_policy_that_names_images_is_obeyed_in_every_guest() {
        let reference = format!("r:5000/i@sha256:{HEX}");
        let named = trust(&format!("image_digests := [\"sha256:{HEX}\"]"));
        check_allowed(&named, &reference).unwrap();
        let other = trust(&format!("image_digests := [\"sha256:{}\"]", "0".repeat(64)));
        let error = check_allowed(&other, &reference).unwrap_err();
        assert!(
            matches!(error, AgentError::ImageNotAllowed { .. }),
            "{error}"
        );
        let none = trust("image_digests := []");
        assert!(check_allowed(&none, &reference).is_err());
        // Without the rule, a guest that is not confidential takes any image.
        check_allowed(&trust(""), &reference).unwrap();
    }

    #[test]
    fn a_rule_that_names_no_digests_allows_no_image() {
        let broken = trust("image_digests := \"all\"");
        assert!(check_allowed(&broken, &format!("r/i@sha256:{HEX}")).is_err());
    }
}
