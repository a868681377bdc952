//! Which image a request names. Pure.
//!
//! The host writes the image's name and the container's kind in several places:
//! the storage's source, the specification's annotations, and a second copy of
//! these in the storage's options. A policy may have looked at any of them, so
//! all copies must agree.

use std::collections::{BTreeMap, BTreeSet};

use redoubt_agent_api::agent::{CreateContainerRequest, Storage};
use serde::Deserialize;

use crate::error::{AgentError, Result};

/// The driver of the storage that asks for an image.
pub(crate) const GUEST_PULL: &str = "image_guest_pull";
/// The source under which the guest's own pause program runs.
const PAUSE: &str = "pause";
const MAX_OPTION_BYTES: usize = 1 << 20;

/// Annotations that repeat the image's name.
const NAME_KEYS: [&str; 3] = [
    "io.kubernetes.cri.image-name",
    "io.kubernetes.cri-o.ImageName",
    "io.redoubt.image",
];

/// Annotations with the container's kind, and the value that means a sandbox.
const KIND_KEYS: [(&str, &str); 3] = [
    ("io.kubernetes.cri.container-type", "sandbox"),
    ("io.kubernetes.cri-o.ContainerType", "sandbox"),
    ("io.katacontainers.pkg.oci.container_type", "pod_sandbox"),
];

type Annotations = BTreeMap<String, String>;

/// The image of one container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ImageIdentity {
    /// The guest's own pause program, for a pod's sandbox container.
    Pause,
    /// An image in a registry, as `name@sha256:<digest>`.
    Registry(String),
}

#[derive(Default, Deserialize)]
struct PullOption {
    #[serde(default)]
    metadata: Annotations,
}

impl ImageIdentity {
    /// The image that a request asks for, when all that it says about it agrees.
    pub(crate) fn of(request: &CreateContainerRequest) -> Result<Self> {
        let storage = guest_pull_storage(request)?;
        let metadata = metadata(storage)?;
        let annotations: Annotations = request
            .OCI
            .Annotations
            .iter()
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        let copies = [&annotations, &metadata];
        let kinds: BTreeSet<bool> = copies.iter().flat_map(|copy| sandbox_marks(copy)).collect();
        if kinds.len() > 1 {
            return Err(AgentError::ContainerKind {
                reason: "one place calls it a sandbox, another does not",
            });
        }
        match (kinds.contains(&true), storage.source == PAUSE) {
            (true, true) => Ok(Self::Pause),
            (true, false) => Err(AgentError::ContainerKind {
                reason: "a pod's sandbox runs the guest's own pause program only",
            }),
            (false, true) => Err(AgentError::ContainerKind {
                reason: "the pause program is for a pod's sandbox only",
            }),
            (false, false) => registry(&storage.source, &copies),
        }
    }
}

/// The one storage that asks for an image.
fn guest_pull_storage(request: &CreateContainerRequest) -> Result<&Storage> {
    let mut storages = request
        .storages
        .iter()
        .filter(|storage| storage.driver == GUEST_PULL);
    match (storages.next(), storages.next()) {
        (Some(storage), None) => Ok(storage),
        (None, _) => Err(AgentError::request(
            "no storage brings the root file system",
        )),
        (Some(_), Some(_)) => Err(AgentError::request("two storages ask for an image")),
    }
}

fn metadata(storage: &Storage) -> Result<Annotations> {
    let option = match storage.driver_options.as_slice() {
        [] => return Ok(Annotations::new()),
        [option] => option,
        _ => return Err(AgentError::request("the image storage has many options")),
    };
    let json = option
        .strip_prefix("image_guest_pull=")
        .filter(|json| json.len() <= MAX_OPTION_BYTES)
        .ok_or_else(|| AgentError::request("the image storage has an unknown option"))?;
    serde_json::from_str::<PullOption>(json)
        .map(|option| option.metadata)
        .map_err(|_| AgentError::request("the image storage's option is not the expected JSON"))
}

fn sandbox_marks(annotations: &Annotations) -> Vec<bool> {
    KIND_KEYS
        .iter()
        .filter_map(|(key, sandbox)| annotations.get(*key).map(|value| value == sandbox))
        .collect()
}

fn registry(reference: &str, copies: &[&Annotations]) -> Result<ImageIdentity> {
    let names = copies
        .iter()
        .flat_map(|copy| NAME_KEYS.iter().filter_map(|key| copy.get(*key)));
    for name in names {
        if name != reference {
            return Err(AgentError::ImageNamesDisagree {
                first: bounded(reference),
                second: bounded(name),
            });
        }
    }
    if is_pinned(reference) {
        Ok(ImageIdentity::Registry(reference.to_owned()))
    } else {
        Err(AgentError::ImageNotPinned {
            reference: bounded(reference),
        })
    }
}

fn is_pinned(reference: &str) -> bool {
    reference.split_once('@').is_some_and(|(name, digest)| {
        !name.is_empty()
            && digest.strip_prefix("sha256:").is_some_and(|hex| {
                hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
            })
    })
}

fn bounded(text: &str) -> String {
    text.chars().take(256).collect()
}

#[cfg(test)]
mod tests {
    use redoubt_agent_api::oci;
    use serde_json::json;

    use super::*;

    const PINNED: &str =
        "r:5000/i@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    type List<'a> = &'a [(&'a str, &'a str)];

    fn request(source: &str, spec: List<'_>, metadata: List<'_>) -> CreateContainerRequest {
        let map = |list: List<'_>| -> std::collections::HashMap<String, String> {
            list.iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect()
        };
        let options = json!({ "metadata": map(metadata) });
        let storage = Storage {
            driver: GUEST_PULL.to_owned(),
            source: source.to_owned(),
            driver_options: vec![format!("image_guest_pull={options}")],
            ..Storage::default()
        };
        let mut oci = oci::Spec::new();
        oci.Annotations.extend(map(spec));
        CreateContainerRequest {
            storages: vec![storage],
            OCI: Some(oci).into(),
            ..CreateContainerRequest::default()
        }
    }

    fn identity(source: &str, spec: List<'_>, metadata: List<'_>) -> Result<ImageIdentity> {
        ImageIdentity::of(&request(source, spec, metadata))
    }

    #[test]
    fn an_image_that_all_copies_name_is_taken() {
        let cri = [
            ("io.kubernetes.cri.image-name", PINNED),
            ("io.kubernetes.cri.container-type", "container"),
            ("io.katacontainers.pkg.oci.container_type", "pod_container"),
        ];
        let ours = [
            ("io.redoubt.image", PINNED),
            (
                "io.katacontainers.pkg.oci.container_type",
                "single_container",
            ),
        ];
        for list in [&cri[..], &ours[..], &[]] {
            let expected = ImageIdentity::Registry(PINNED.to_owned());
            assert_eq!(identity(PINNED, list, list).unwrap(), expected);
        }
    }

    #[test]
    fn a_copy_that_names_another_image_is_refused() {
        let other = PINNED.replace("/i@", "/evil@");
        for key in NAME_KEYS {
            let list = [(key, other.as_str())];
            for (spec, metadata) in [(&list[..], &[][..]), (&[], &list)] {
                let error = identity(PINNED, spec, metadata).unwrap_err();
                assert!(
                    matches!(error, AgentError::ImageNamesDisagree { .. }),
                    "{error}"
                );
            }
        }
    }

    #[test]
    fn the_pause_program_is_for_sandboxes_and_only_for_them() {
        let sandbox = [("io.kubernetes.cri.container-type", "sandbox")];
        let kata = [("io.katacontainers.pkg.oci.container_type", "pod_sandbox")];
        let container = [("io.kubernetes.cri.container-type", "container")];
        assert_eq!(
            identity("pause", &sandbox, &kata).unwrap(),
            ImageIdentity::Pause
        );
        for (source, spec, metadata) in [
            ("pause", &[][..], &[][..]),
            ("pause", &container, &[]),
            ("pause", &container, &sandbox),
            ("pause", &sandbox, &container),
            (PINNED, &sandbox, &[]),
            (PINNED, &[], &kata),
        ] {
            let error = identity(source, spec, metadata).unwrap_err();
            assert!(
                matches!(error, AgentError::ContainerKind { .. }),
                "{source}: {error}"
            );
        }
    }

    #[test]
    fn a_tag_or_a_broken_digest_is_no_identity() {
        for source in [
            "r/i:v1",
            "r/i@sha256:00",
            "r/i@sha512:00",
            "",
            &PINNED.to_uppercase(),
            &format!("{PINNED}@{PINNED}"),
            PINNED.strip_prefix("r:5000/i").unwrap(),
        ] {
            let error = identity(source, &[], &[]).unwrap_err();
            assert!(
                matches!(error, AgentError::ImageNotPinned { .. }),
                "{source}"
            );
        }
    }

    #[test]
    fn there_is_exactly_one_well_formed_image_storage() {
        let good = request(PINNED, &[], &[]);
        let mut none = good.clone();
        none.storages.clear();
        let mut two = good.clone();
        two.storages.push(two.storages[0].clone());
        let mut broken = good.clone();
        broken.storages[0].driver_options = vec!["image_guest_pull={".to_owned()];
        let mut wrong = good.clone();
        wrong.storages[0].driver_options =
            vec!["image_guest_pull={\"metadata\":{\"a\":1}}".to_owned()];
        let mut twice = good;
        let option = twice.storages[0].driver_options[0].clone();
        twice.storages[0].driver_options.push(option);
        for request in [none, two, broken, wrong, twice] {
            let error = ImageIdentity::of(&request).unwrap_err();
            assert!(matches!(error, AgentError::Request { .. }), "{error}");
        }
    }
}
