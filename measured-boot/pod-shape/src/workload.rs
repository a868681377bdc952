//! One workload of a manifest: its pod, as kubelet and containerd hand it to a shim.

#![expect(
    clippy::doc_markdown,
    reason = "doc comments of remarks are their texts"
)]

use std::collections::BTreeMap;
use std::fmt;

use redoubt_launch_plan::{ANNOTATION_PREFIX, PlanError, SandboxRequest};

use crate::error::PodError;
use crate::node::Node;
use crate::resources::PodResources;

/// What annotations start with that containerd is set up to pass to the shim.
const PASSED_PREFIX: &str = "io.katacontainers.";
/// What Kubernetes allows for all annotations of an object, in bytes.
const MAX_ANNOTATIONS_BYTES: usize = 256 * 1024;
/// Where Cloud API Adaptor once took initdata from.
const HISTORIC_INITDATA: &str = "io.katacontainers.config.runtime.cc_init_data";

/// A kind of object that describes a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WorkloadKind {
    /// A pod of its own.
    Pod,
    /// A template for pods that others refer to.
    PodTemplate,
    /// Replicated pods, updated step by step.
    Deployment,
    /// Replicated pods.
    ReplicaSet,
    /// Replicated pods of the first kind.
    ReplicationController,
    /// Pods with a stable identity.
    StatefulSet,
    /// A pod on each node.
    DaemonSet,
    /// Pods that run to their end.
    Job,
    /// Jobs by the clock.
    CronJob,
}

impl WorkloadKind {
    const ALL: [Self; 9] = [
        Self::Pod,
        Self::PodTemplate,
        Self::Deployment,
        Self::ReplicaSet,
        Self::ReplicationController,
        Self::StatefulSet,
        Self::DaemonSet,
        Self::Job,
        Self::CronJob,
    ];

    /// The kind of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The name in a manifest.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pod => "Pod",
            Self::PodTemplate => "PodTemplate",
            Self::Deployment => "Deployment",
            Self::ReplicaSet => "ReplicaSet",
            Self::ReplicationController => "ReplicationController",
            Self::StatefulSet => "StatefulSet",
            Self::DaemonSet => "DaemonSet",
            Self::Job => "Job",
            Self::CronJob => "CronJob",
        }
    }

    /// The fields that lead from the object to its pod template.
    fn path(self) -> &'static [&'static str] {
        match self {
            Self::Pod => &[],
            Self::PodTemplate => &["template"],
            Self::CronJob => &["spec", "jobTemplate", "spec", "template"],
            _ => &["spec", "template"],
        }
    }
}

impl fmt::Display for WorkloadKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What the author of a manifest should know although its pod can be planned.
#[derive(Clone, Debug, PartialEq, Eq, displaydoc::Display)]
pub enum Remark {
    /// {workload} names no runtimeClassName, so that its pods run without a virtual machine unless something else adds one
    NoRuntimeClass {
        /// Kind and name.
        workload: String,
    },
    /// {workload}: annotation {annotation} stands on the {kind} instead of its pod template, where it has no effect
    MisplacedAnnotation {
        /// Kind and name.
        workload: String,
        /// The annotation's name.
        annotation: String,
        /// The object that carries it.
        kind: WorkloadKind,
    },
    /// {workload}: annotation io.katacontainers.config.runtime.cc_init_data has no effect, initdata belongs into io.katacontainers.config.hypervisor.cc_init_data
    HistoricInitdata {
        /// Kind and name.
        workload: String,
    },
}

/// A workload and the shape of its pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// The kind of object.
    pub kind: WorkloadKind,
    /// Its name; empty where the manifest has none.
    pub name: String,
    /// Its namespace; `default` where the manifest has none.
    pub namespace: String,
    /// The runtime class of its pods.
    pub runtime_class: Option<String>,
    /// All annotations of its pods.
    pub annotations: BTreeMap<String, String>,
    /// The resources of each pod.
    pub resources: PodResources,
    /// What its author should know.
    pub remarks: Vec<Remark>,
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&title(self.kind, &self.name))
    }
}

fn title(kind: WorkloadKind, name: &str) -> String {
    match name {
        "" => format!("{kind} without a name"),
        name => format!("{kind} {name}"),
    }
}

impl Workload {
    /// Reads one object of a manifest.
    pub(crate) fn read(kind: WorkloadKind, object: Node<'_>) -> Result<Self, PodError> {
        let (name, namespace) = match object.field("metadata")? {
            Some(metadata) => (
                // A generated name is known only once the pod exists.
                metadata
                    .text("name")?
                    .or(metadata.text("generateName")?)
                    .unwrap_or_default(),
                metadata.text("namespace")?.unwrap_or("default"),
            ),
            None => ("", "default"),
        };
        let title = title(kind, name);
        let object = object.named(title.clone());
        let mut template = object.clone();
        for field in kind.path() {
            template = template.required(field)?;
        }
        let spec = template.required("spec")?;
        let annotations = annotations(&template)?;
        let runtime_class = spec.text("runtimeClassName")?.map(str::to_owned);
        let mut remarks = Vec::new();
        if runtime_class.is_none() {
            remarks.push(Remark::NoRuntimeClass {
                workload: title.clone(),
            });
        }
        if annotations.contains_key(HISTORIC_INITDATA) {
            remarks.push(Remark::HistoricInitdata {
                workload: title.clone(),
            });
        }
        if !kind.path().is_empty() {
            misplaced(kind, &title, &object, &annotations, &mut remarks)?;
        }
        Ok(Self {
            kind,
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            runtime_class,
            resources: PodResources::of_pod_spec(&spec)?,
            annotations,
            remarks,
        })
    }

    /// The request that the shim gets for one of the pods.
    pub fn sandbox_request(&self, sandbox_id: &str) -> Result<SandboxRequest, PlanError> {
        SandboxRequest::from_sandbox_annotations(sandbox_id, self.sandbox_annotations(sandbox_id))
    }

    /// The annotations of the sandbox's OCI specification as containerd writes them: its own,
    /// and those of the pod that it is set up to pass (`pod_annotations = ["io.katacontainers.*"]`).
    pub fn sandbox_annotations(&self, sandbox_id: &str) -> BTreeMap<String, String> {
        let limits = self.resources.limits();
        let mut annotations: BTreeMap<String, String> = self
            .annotations
            .iter()
            .filter(|(name, _)| name.starts_with(PASSED_PREFIX))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let own = [
            ("container-type", "sandbox".to_owned()),
            ("sandbox-id", sandbox_id.to_owned()),
            ("sandbox-namespace", self.namespace.clone()),
            ("sandbox-name", self.name.clone()),
            ("sandbox-cpu-period", shown(limits.cpu_period_us)),
            ("sandbox-cpu-quota", shown(limits.cpu_quota_us)),
            ("sandbox-cpu-shares", shown(limits.cpu_shares)),
            ("sandbox-memory", shown(limits.memory_bytes)),
        ];
        for (name, value) in own {
            annotations.insert(format!("io.kubernetes.cri.{name}"), value);
        }
        annotations
    }
}

fn shown<T: fmt::Display + Default>(number: Option<T>) -> String {
    number.unwrap_or_default().to_string()
}

fn annotations(template: &Node<'_>) -> Result<BTreeMap<String, String>, PodError> {
    let Some(metadata) = template.field("metadata")? else {
        return Ok(BTreeMap::new());
    };
    let mut annotations = BTreeMap::new();
    let mut size = 0_usize;
    for (name, value) in metadata.entries("annotations")? {
        let value = value.as_text()?;
        size = size.saturating_add(name.len()).saturating_add(value.len());
        annotations.insert(name.to_owned(), value.to_owned());
    }
    if size > MAX_ANNOTATIONS_BYTES {
        return Err(PodError::AnnotationsTooLarge {
            place: format!("{}.annotations", metadata.place()),
            size,
        });
    }
    Ok(annotations)
}

/// Annotations of the object itself that only a pod can use.
fn misplaced(
    kind: WorkloadKind,
    title: &str,
    object: &Node<'_>,
    of_pod: &BTreeMap<String, String>,
    remarks: &mut Vec<Remark>,
) -> Result<(), PodError> {
    let Some(metadata) = object.field("metadata")? else {
        return Ok(());
    };
    for (name, _) in metadata.entries("annotations")? {
        if name.starts_with(ANNOTATION_PREFIX) && !of_pod.contains_key(name) {
            remarks.push(Remark::MisplacedAnnotation {
                workload: title.to_owned(),
                annotation: name.to_owned(),
                kind,
            });
        }
    }
    Ok(())
}
