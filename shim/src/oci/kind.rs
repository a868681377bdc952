//! What part a container plays: sandbox, member of a sandbox, or on its own. Pure.

use super::model::Spec;
use crate::cli::is_identifier;
use crate::error::{Result, ShimError};

const KIND_KEYS: [&str; 2] = [
    "io.kubernetes.cri.container-type",
    "io.kubernetes.cri-o.ContainerType",
];
const SANDBOX_KEYS: [&str; 2] = [
    "io.kubernetes.cri.sandbox-id",
    "io.kubernetes.cri-o.SandboxID",
];

/// The part that a container plays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContainerKind {
    /// The pause container of a pod: its creation launches the virtual machine.
    Sandbox,
    /// A container in the pod with this id.
    Member(String),
    /// A container with a virtual machine of its own (`ctr`, nerdctl).
    Single,
}

impl ContainerKind {
    /// The id of the sandbox to which container `id` belongs.
    pub fn sandbox_id<'a>(&'a self, id: &'a str) -> &'a str {
        match self {
            Self::Member(sandbox) => sandbox,
            Self::Sandbox | Self::Single => id,
        }
    }

    /// Kata's name for it in annotations.
    pub fn annotation(&self) -> &'static str {
        match self {
            Self::Sandbox => "pod_sandbox",
            Self::Member(_) => "pod_container",
            Self::Single => "single_container",
        }
    }

    /// True when the virtual machine lives and dies with this container.
    pub fn owns_machine(&self) -> bool {
        !matches!(self, Self::Member(_))
    }
}

/// Tells the part of container `id` from its annotations.
pub fn container_kind(id: &str, spec: &Spec) -> Result<ContainerKind> {
    let Some((key, value)) = KIND_KEYS
        .iter()
        .find_map(|key| Some((*key, spec.annotation(key)?)))
    else {
        return Ok(ContainerKind::Single);
    };
    match value {
        "sandbox" => Ok(ContainerKind::Sandbox),
        "container" => {
            let sandbox = SANDBOX_KEYS
                .iter()
                .find_map(|key| spec.annotation(key))
                .ok_or_else(|| ShimError::NoSandboxId(id.to_owned()))?;
            if !is_identifier(sandbox) {
                return Err(ShimError::BadIdentifier {
                    what: "sandbox id",
                    id: sandbox.to_owned(),
                });
            }
            Ok(ContainerKind::Member(sandbox.to_owned()))
        }
        other => Err(ShimError::UnknownContainerType {
            key,
            value: other.to_owned(),
        }),
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
    fn containerd_and_cri_o_name_the_parts() {
        assert_eq!(
            container_kind("a", &spec(&[])).unwrap(),
            ContainerKind::Single
        );
        let sandbox = spec(&[("io.kubernetes.cri.container-type", "sandbox")]);
        assert_eq!(
            container_kind("a", &sandbox).unwrap(),
            ContainerKind::Sandbox
        );
        let member = spec(&[
            ("io.kubernetes.cri-o.ContainerType", "container"),
            ("io.kubernetes.cri-o.SandboxID", "pod"),
        ]);
        let kind = container_kind("a", &member).unwrap();
        assert_eq!(kind.sandbox_id("a"), "pod");
        assert!(!kind.owns_machine());
    }

    #[test]
    fn odd_annotations_are_refused() {
        let odd = spec(&[("io.kubernetes.cri.container-type", "vm")]);
        assert!(matches!(
            container_kind("a", &odd),
            Err(ShimError::UnknownContainerType { .. })
        ));
        let homeless = spec(&[("io.kubernetes.cri.container-type", "container")]);
        assert!(matches!(
            container_kind("a", &homeless),
            Err(ShimError::NoSandboxId(_))
        ));
        let escaping = spec(&[
            ("io.kubernetes.cri.container-type", "container"),
            ("io.kubernetes.cri.sandbox-id", "../../x"),
        ]);
        assert!(matches!(
            container_kind("a", &escaping),
            Err(ShimError::BadIdentifier { .. })
        ));
    }
}
