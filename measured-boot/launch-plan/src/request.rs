//! What containerd asks for: the sandbox's id, annotations and limits.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::PlanError;

/// One request for a sandbox, freed of everything that does not shape the virtual machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxRequest {
    /// containerd's id of the sandbox (or of the single container).
    pub sandbox_id: String,
    /// The annotations of the OCI specification.
    pub annotations: BTreeMap<String, String>,
    /// CPU and memory limits of the workload.
    pub limits: ResourceLimits,
}

/// Limits of a workload, as Linux cgroups word them; `None` where no limit is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceLimits {
    /// CPU time in microseconds that the workload may use in each period; negative means unlimited.
    pub cpu_quota_us: Option<i64>,
    /// Length of a CPU period in microseconds.
    pub cpu_period_us: Option<u64>,
    /// Relative CPU weight, 1024 for one CPU.
    pub cpu_shares: Option<u64>,
    /// Memory limit in bytes; zero or negative means unlimited.
    pub memory_bytes: Option<i64>,
}

/// The parts of an OCI runtime specification that shape the virtual machine.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Spec {
    annotations: Option<BTreeMap<String, String>>,
    linux: Option<Linux>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Linux {
    resources: Option<Resources>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Resources {
    cpu: Option<Cpu>,
    memory: Option<Memory>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Cpu {
    quota: Option<i64>,
    period: Option<u64>,
    shares: Option<u64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Memory {
    limit: Option<i64>,
}

/// Names under which the container managers say that a container is a pod's sandbox.
const SANDBOX_MARKS: [(&str, &str); 3] = [
    ("io.kubernetes.cri.container-type", "sandbox"),
    ("io.kubernetes.cri-o.ContainerType", "sandbox"),
    ("io.katacontainers.pkg.oci.container_type", "pod_sandbox"),
];

impl SandboxRequest {
    /// Reads an OCI `config.json`.
    ///
    /// A pod's sandbox brings the sum of its containers' limits in annotations;
    /// for a single container its own resources count.
    pub fn from_oci_spec(sandbox_id: &str, config_json: &[u8]) -> Result<Self, PlanError> {
        let spec: Spec = serde_json::from_slice(config_json).map_err(|error| PlanError::Spec {
            message: error.to_string(),
        })?;
        let annotations = spec.annotations.unwrap_or_default();
        let is_sandbox = SANDBOX_MARKS
            .iter()
            .any(|(name, value)| annotations.get(*name).is_some_and(|found| found == value));
        if is_sandbox {
            return Self::from_sandbox_annotations(sandbox_id, annotations);
        }
        let resources = spec.linux.and_then(|linux| linux.resources);
        Ok(Self {
            sandbox_id: sandbox_id.to_owned(),
            annotations,
            limits: container_limits(resources.unwrap_or_default()),
        })
    }

    /// The request for a pod's sandbox whose OCI specification has these annotations.
    pub fn from_sandbox_annotations(
        sandbox_id: &str,
        annotations: BTreeMap<String, String>,
    ) -> Result<Self, PlanError> {
        Ok(Self {
            sandbox_id: sandbox_id.to_owned(),
            limits: sandbox_limits(&annotations)?,
            annotations,
        })
    }
}

fn container_limits(resources: Resources) -> ResourceLimits {
    let cpu = resources.cpu.unwrap_or_default();
    ResourceLimits {
        cpu_quota_us: cpu.quota,
        cpu_period_us: cpu.period,
        cpu_shares: cpu.shares,
        memory_bytes: resources.memory.and_then(|memory| memory.limit),
    }
}

fn sandbox_limits(annotations: &BTreeMap<String, String>) -> Result<ResourceLimits, PlanError> {
    Ok(ResourceLimits {
        cpu_quota_us: number(annotations, "io.kubernetes.cri.sandbox-cpu-quota")?,
        cpu_period_us: number(annotations, "io.kubernetes.cri.sandbox-cpu-period")?,
        cpu_shares: number(annotations, "io.kubernetes.cri.sandbox-cpu-shares")?,
        memory_bytes: number(annotations, "io.kubernetes.cri.sandbox-memory")?,
    })
}

fn number<T: std::str::FromStr>(
    annotations: &BTreeMap<String, String>,
    name: &str,
) -> Result<Option<T>, PlanError> {
    annotations
        .get(name)
        .map(|text| {
            text.parse().map_err(|_| PlanError::Spec {
                message: format!("annotation {name} is not a number: {text:?}"),
            })
        })
        .transpose()
}
