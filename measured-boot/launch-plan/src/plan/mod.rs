//! The launch plan: plain data that the QEMU arguments, the launch digest, the
//! explanation and the simulated launch are read from.

mod cmdline;
mod explain;
mod make;
mod protection;
mod root_disk;
mod sizing;
mod tdx;

use std::path::PathBuf;

use redoubt_firmware::GuestArea;
use redoubt_launch_digest::LaunchDigest;
use serde::{Deserialize, Serialize};

pub use make::plan;

use crate::error::PlanError;
use crate::files::MeasuredFile;
use crate::host::SnpHost;

/// Everything that decides how one sandbox's virtual machine is launched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchPlan {
    /// containerd's id of the sandbox.
    pub sandbox_id: String,
    /// What protects the guest from the host.
    pub protection: Protection,
    /// The QEMU binary.
    pub qemu: PathBuf,
    /// What executes guest instructions.
    pub accelerator: Accelerator,
    /// QEMU's machine type, `q35`.
    pub machine_type: String,
    /// Options appended to `-machine`.
    pub machine_accelerators: String,
    /// Model given to `-cpu`.
    pub cpu_model: String,
    /// Features appended to `-cpu`.
    pub cpu_features: String,
    /// Number of virtual CPUs.
    pub vcpus: u32,
    /// Guest memory in MiB.
    pub memory_mib: u32,
    /// How the host provides guest memory.
    pub memory: MemoryBacking,
    /// The guest kernel.
    pub kernel: MeasuredFile,
    /// The initial RAM disk.
    pub initrd: MeasuredFile,
    /// The disk that holds the guest's root, where it is not in the initrd. The guest verifies it
    /// by the root hash on the command line.
    #[serde(default)]
    pub root_disk: Option<PathBuf>,
    /// The firmware; QEMU's own when absent.
    pub firmware: Option<MeasuredFile>,
    /// The kernel command line.
    pub cmdline: String,
    /// How host and guest talk.
    pub vsock: VsockPlan,
    /// Network interfaces use vhost-net.
    pub vhost_net: bool,
    /// Queues of each network interface.
    pub network_queues: u32,
    /// How the sandbox joins the pod's network.
    pub network_model: NetworkModel,
    /// Source of the random number device of a plain virtual machine.
    pub entropy_source: PathBuf,
    /// Value of QEMU's `-sandbox`; empty for none.
    pub seccomp_sandbox: String,
    /// The initdata document and its disk.
    pub initdata: Option<InitdataPlan>,
    /// Settings for talking to the agent.
    pub agent: AgentPlan,
    /// Settings of the shim itself.
    pub shim: ShimPlan,
    /// What the user should know although the launch goes on.
    pub warnings: Vec<String>,
    /// Where each value came from, for the explanation.
    pub origins: Vec<Origin>,
}

/// How the host provides guest memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryBacking {
    /// Use huge pages.
    pub huge_pages: bool,
    /// Allocate everything before the guest starts.
    pub preallocate: bool,
}

/// What protects the guest's memory and state from the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Protection {
    /// Nothing: a plain virtual machine.
    None,
    /// SEV-SNP by the CPU.
    Snp {
        /// Memory encryption properties of the host.
        host: SnpHost,
        /// What the CPU measures and reports.
        launch: SnpLaunchPlan,
    },
    /// A simulation of SEV-SNP, named by the configuration; protects nothing.
    SimulatedSnp {
        /// Folder of the simulated identity (ARK, ASK, VCEK).
        identity_dir: PathBuf,
        /// Where the firmware expects the kernel-hash table.
        hash_area: GuestArea,
        /// The table's bytes.
        #[serde(with = "crate::hex_bytes")]
        hash_table: Vec<u8>,
        /// What a CPU would measure and report.
        launch: SnpLaunchPlan,
    },
    /// Intel TDX.
    Tdx {
        /// What the guest's report repeats, and who signs it.
        launch: TdxLaunchPlan,
    },
}

/// The properties of a TDX launch that are not in the measured files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TdxLaunchPlan {
    /// `MRCONFIGID`: the initdata digest, zero without initdata.
    #[serde(with = "crate::hex_bytes")]
    pub mr_config_id: [u8; 48],
    /// Who turns the guest's reports into quotes.
    pub quote_service: QuoteService,
}

/// Where Intel's quote generation service listens on the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum QuoteService {
    /// A Unix socket.
    Unix {
        /// Path of the socket.
        path: PathBuf,
    },
    /// A vsock port of the host.
    Vsock {
        /// The port.
        port: u32,
    },
}

/// The measured and reported properties of an SNP launch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnpLaunchPlan {
    /// Guest policy (AMD 56860, table 10).
    pub policy: u64,
    /// Predicted MEASUREMENT.
    pub launch_digest: LaunchDigest,
    /// `HOST_DATA`: the initdata digest, zero without initdata.
    #[serde(with = "crate::hex_bytes")]
    pub host_data: [u8; 32],
    /// CPU model that the digest was computed for.
    pub measured_cpu_model: String,
    /// What the guest's owner signed, if anything.
    pub id_block: Option<IdBlockPlan>,
}

/// A signed ID block as given to QEMU; it agrees with the launch and its signatures hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdBlockPlan {
    /// ID block in base64.
    pub block: String,
    /// ID authentication information in base64.
    pub auth: String,
    /// An author key vouches for the ID key, and the CPU is told to look at it.
    pub author_key: bool,
}

/// What executes guest instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// The kernel's virtual machine support.
    Kvm,
    /// QEMU's emulation.
    Tcg,
}

impl std::fmt::Display for Accelerator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        })
    }
}

/// How host and guest talk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum VsockPlan {
    /// The kernel's `/dev/vhost-vsock`.
    Vhost,
    /// A `vhost-device-vsock` process.
    VhostUser {
        /// Path of the daemon's binary.
        daemon: PathBuf,
    },
}

/// How the sandbox joins the pod's network (`internetworking_model`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkModel {
    /// Tap device with traffic-control redirection.
    TcFilter,
    /// No interface at all.
    None,
}

/// The initdata document as it reaches the guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitdataPlan {
    /// The TOML document's text.
    pub toml: String,
    /// The disk image to write for QEMU.
    #[serde(with = "crate::hex_bytes")]
    pub disk_image: Vec<u8>,
}

/// Settings for talking to the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentPlan {
    /// How long the agent may take to answer after QEMU started, in milliseconds.
    pub connect_timeout_ms: u64,
    /// How long creating a container may take, image pull included, in milliseconds.
    pub create_container_timeout_ms: u64,
}

/// Settings of the shim itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShimPlan {
    /// Log at debug level.
    pub debug: bool,
    /// File to append the trail to.
    pub trail_path: Option<PathBuf>,
    /// Leave the network namespace alone.
    pub disable_new_netns: bool,
    /// Refuse to run where the sandbox's processes get no control group of their own.
    pub sandbox_cgroup_only: bool,
}

/// Where a value of the plan came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The key, `hypervisor.qemu.default_memory`.
    pub key: String,
    /// The value as text.
    pub value: String,
    /// The file, annotation or rule that set it.
    pub source: String,
}

/// What the launcher of a simulated TEE and its software PSP need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimulatedLaunch {
    /// Folder of the simulated identity (ARK, ASK, VCEK).
    pub identity_dir: PathBuf,
    /// Where the firmware expects the kernel-hash table.
    pub hash_area: GuestArea,
    /// Bytes to place at [`SimulatedLaunch::hash_area`].
    pub hash_table: Vec<u8>,
    /// The MEASUREMENT to report.
    pub launch_digest: LaunchDigest,
    /// The `HOST_DATA` to report.
    pub host_data: [u8; 32],
    /// The guest policy to report.
    pub policy: u64,
    /// The ID block and its authentication.
    pub id_block: Option<IdBlockPlan>,
}

impl LaunchPlan {
    /// The predicted launch digest; `None` for a plain virtual machine.
    pub fn launch_digest(&self) -> Option<LaunchDigest> {
        self.snp().map(|launch| launch.launch_digest)
    }

    /// The SNP part of the plan, real or simulated.
    pub fn snp(&self) -> Option<&SnpLaunchPlan> {
        match &self.protection {
            Protection::None | Protection::Tdx { .. } => None,
            Protection::Snp { launch, .. } | Protection::SimulatedSnp { launch, .. } => {
                Some(launch)
            }
        }
    }

    /// The TDX part of the plan.
    pub fn tdx(&self) -> Option<&TdxLaunchPlan> {
        match &self.protection {
            Protection::Tdx { launch } => Some(launch),
            _ => None,
        }
    }

    /// Refuses what can be planned and measured, but not run yet.
    pub fn require_launchable(&self) -> Result<(), PlanError> {
        match self.tdx() {
            Some(_) => Err(PlanError::TdxUnsupported),
            None => Ok(()),
        }
    }

    /// True when the guest is to be protected, by a TEE or by a simulation of one.
    pub fn is_confidential(&self) -> bool {
        !matches!(self.protection, Protection::None)
    }

    /// What a simulated launch needs; `None` unless the configuration asked for simulation.
    pub fn simulation(&self) -> Option<SimulatedLaunch> {
        let Protection::SimulatedSnp {
            identity_dir,
            hash_area,
            hash_table,
            launch,
        } = &self.protection
        else {
            return None;
        };
        Some(SimulatedLaunch {
            identity_dir: identity_dir.clone(),
            hash_area: *hash_area,
            hash_table: hash_table.clone(),
            launch_digest: launch.launch_digest,
            host_data: launch.host_data,
            policy: launch.policy,
            id_block: launch.id_block.clone(),
        })
    }
}
