//! What containerd asks for: the sandbox's id, annotations and limits.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

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
