//! Which image a container runs, and how the guest is told to pull it. Pure.

use std::collections::BTreeMap;

use redoubt_agent_api::agent::Storage;
use serde_json::json;

use crate::error::{Result, ShimError};
use crate::oci::{ContainerKind, Spec, guest_rootfs};

/// Annotations that carry the image reference: CRI of containerd, CRI-O, and this
/// project's own for callers without CRI.
const IMAGE_KEYS: [&str; 3] = [
    "io.kubernetes.cri.image-name",
    "io.kubernetes.cri-o.ImageName",
    "io.redoubt.image",
];

/// The longest reference that is passed on.
const MAX_REFERENCE_BYTES: usize = 1024;

/// The reference under which the guest knows its own pause image.
const PAUSE: &str = "pause";

/// The reference of the image that a container runs.
pub fn image_reference(kind: &ContainerKind, spec: &Spec) -> Result<String> {
    if *kind == ContainerKind::Sandbox {
        return Ok(PAUSE.to_owned());
    }
    IMAGE_KEYS
        .iter()
        .find_map(|key| spec.annotation(key))
        .filter(|reference| is_plausible(reference))
        .map(str::to_owned)
        .ok_or(ShimError::NoImage)
}

fn is_plausible(reference: &str) -> bool {
    reference.len() <= MAX_REFERENCE_BYTES && reference.chars().all(|c| c.is_ascii_graphic())
}

/// The storage that makes the guest pull `reference` as the root of `container`.
/// `annotations` are those of the specification that the guest gets.
pub fn guest_pull(
    container: &str,
    reference: &str,
    annotations: &BTreeMap<String, String>,
) -> Storage {
    let options = json!({ "metadata": annotations });
    Storage {
        driver: "image_guest_pull".to_owned(),
        driver_options: vec![format!("image_guest_pull={options}")],
        source: reference.to_owned(),
        fstype: "overlay".to_owned(),
        mount_point: guest_rootfs(container),
        ..Storage::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(annotations: &[(&str, &str)]) -> Spec {
        let annotations = annotations
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Spec {
            annotations: annotations.collect(),
            ..Spec::default()
        }
    }

    #[test]
    fn the_reference_comes_from_cri_or_from_our_annotation() {
        let single = ContainerKind::Single;
        for key in IMAGE_KEYS {
            let reference = image_reference(&single, &spec(&[(key, "r/i@sha256:00")])).unwrap();
            assert_eq!(reference, "r/i@sha256:00");
        }
        assert!(matches!(
            image_reference(&single, &spec(&[])),
            Err(ShimError::NoImage)
        ));
        let broken = spec(&[("io.redoubt.image", "a b\n")]);
        assert!(matches!(
            image_reference(&single, &broken),
            Err(ShimError::NoImage)
        ));
    }

    #[test]
    fn a_sandbox_runs_the_guests_own_pause_image() {
        let annotated = spec(&[("io.kubernetes.cri.image-name", "evil/pause")]);
        assert_eq!(
            image_reference(&ContainerKind::Sandbox, &annotated).unwrap(),
            "pause"
        );
    }

    #[test]
    fn the_storage_has_katas_shape() {
        let annotations = BTreeMap::from([("a".to_owned(), "b\"".to_owned())]);
        let storage = guest_pull("web", "r/i@sha256:00", &annotations);
        assert_eq!(
            storage.driver_options,
            [r#"image_guest_pull={"metadata":{"a":"b\""}}"#]
        );
        assert_eq!(storage.mount_point, "/run/kata-containers/web/rootfs");
        assert_eq!(
            (
                storage.fstype.as_str(),
                storage.options.len(),
                storage.shared
            ),
            ("overlay", 0, false)
        );
    }
}
