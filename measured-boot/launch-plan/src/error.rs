//! Why no launch plan can be made.

#![expect(clippy::doc_markdown, reason = "the doc comments are the messages")]

use std::path::PathBuf;

use redoubt_dm_verity::VerityError;
use redoubt_errors::{ErrorCode, UserError};
use redoubt_firmware::FirmwareError;
use redoubt_id_block::{IdBlockError, IdPart};
use redoubt_initdata::InitdataError;
use redoubt_launch_digest::{DigestError, LaunchDigest};

use crate::config::ConfigError;

/// Why no launch plan can be made.
#[derive(Debug, thiserror::Error, displaydoc::Display)]
pub enum PlanError {
    /// configuration of the sandbox
    Config(#[source] ConfigError),
    /// configuration key {key} is not set
    NotSet {
        /// The key with its table.
        key: &'static str,
    },
    /// {key} = {path:?} does not exist
    Missing {
        /// The key with its table.
        key: &'static str,
        /// The path it names.
        path: PathBuf,
    },
    /// cannot read {key} = {path:?}
    Read {
        /// The key with its table.
        key: &'static str,
        /// The path it names.
        path: PathBuf,
        /// Why it cannot be read.
        #[source]
        cause: std::io::Error,
    },
    /// {key} = {path:?} is larger than {limit_mib} MiB
    TooLarge {
        /// The key with its table.
        key: &'static str,
        /// The path it names.
        path: PathBuf,
        /// The limit in MiB.
        limit_mib: u64,
    },
    /// hypervisor.qemu.path = {path:?} is not an executable file
    NotExecutable {
        /// The path.
        path: PathBuf,
    },
    /// hypervisor.qemu.kernel = {path:?} cannot be booted
    NotBzImage {
        /// The path.
        path: PathBuf,
        /// What of it is wrong, and where.
        #[source]
        cause: DigestError,
    },
    /// firmware {path:?} cannot be used
    Firmware {
        /// The path.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        cause: FirmwareError,
    },
    /// the launch needs kernel, initrd and command line to be measured
    NoKernelHashes(#[source] FirmwareError),
    /// the launch digest cannot be computed
    Digest(#[source] DigestError),
    /// initdata of the sandbox
    Initdata(#[source] InitdataError),
    /// the files measured are not those of the configuration: {key} is {configured:?}, measured was {measured:?}
    OtherFiles {
        /// The key with its table.
        key: &'static str,
        /// The path it names.
        configured: PathBuf,
        /// The path that was measured.
        measured: PathBuf,
    },
    /// confidential_guest is true, but this host has no TEE
    NoTee,
    /// confidential_guest is true, but guests are not launched on Intel TDX yet
    TdxUnsupported,
    /// confidential_guest is true and sev_snp_guest false, but plain SEV is not supported
    PlainSev,
    /// snp_simulation is set, but confidential_guest is false
    SimulationWithoutGuest,
    /// accelerator = "kvm", but this host has no usable /dev/kvm
    NoKvm,
    /// SEV-SNP needs accelerator = "kvm"
    SnpNeedsKvm,
    /// TDX needs accelerator = "kvm"
    TdxNeedsKvm,
    /// firmware {path:?} cannot start a TDX guest
    NoTdxMetadata {
        /// The path.
        path: PathBuf,
        /// What it lacks.
        #[source]
        cause: FirmwareError,
    },
    /// this host has no /dev/vhost-net
    NoVhostNet,
    /// this host has no /dev/vhost-vsock
    NoVhostVsock,
    /// machine_type {machine_type:?} is not supported
    MachineType {
        /// The type asked for.
        machine_type: String,
    },
    /// [factory] enable_template is true, but virtual machines are never cloned from templates
    Template,
    /// guest memory too small: {memory_mib} MiB ({origin}), this guest needs {needed_mib} MiB
    MemoryTooSmall {
        /// Memory asked for in MiB.
        memory_mib: u32,
        /// Memory needed in MiB.
        needed_mib: u32,
        /// What asked for it.
        origin: String,
    },
    /// {vcpus} vCPUs ({origin}) are not possible: 1 to 1024 are
    VcpuCount {
        /// Number asked for.
        vcpus: String,
        /// What asked for it.
        origin: String,
    },
    /// {queues} network queues are not possible: 1 to 256 are
    NetworkQueues {
        /// Number asked for.
        queues: u32,
    },
    /// sandbox id {sandbox_id:?} is not usable as a name
    SandboxId {
        /// The id.
        sandbox_id: String,
    },
    /// OCI specification: {message}
    Spec {
        /// What is wrong with it.
        message: String,
    },
    /// kernel parameters from {origin}: {problem}
    KernelParams {
        /// What set them.
        origin: String,
        /// What is wrong with them.
        problem: &'static str,
    },
    /// kernel parameter {name} from {origin} is reserved
    ReservedParam {
        /// The parameter's name.
        name: String,
        /// What set it.
        origin: String,
    },
    /// kernel command line of {len} bytes is longer than the 2047 that the kernel keeps
    CmdlineTooLong {
        /// Length in bytes.
        len: usize,
    },
    /// option {key} must not contain {character:?}
    OptionText {
        /// The key with its table.
        key: &'static str,
        /// The character in question.
        character: char,
    },
    /// snp_guest_policy {policy:#x} is not possible: bit 17 must be set and bits 26 to 63 clear
    GuestPolicy {
        /// The policy.
        policy: u64,
    },
    /// snp_id_block and snp_id_auth go together, but only {given} is set
    IdBlockPair {
        /// The key that is set.
        given: &'static str,
    },
    /// {key} is not {expected} bytes in base64
    IdBlockFormat {
        /// The key.
        key: &'static str,
        /// Length in bytes that it must have.
        expected: usize,
    },
    /// snp_id_block is for launch digest {expected}, but this launch has {actual}
    IdBlockDigest {
        /// The digest in the ID block.
        expected: LaunchDigest,
        /// The predicted digest.
        actual: LaunchDigest,
    },
    /// snp_id_block is for guest policy {expected:#x}, but snp_guest_policy is {actual:#x}
    IdBlockPolicy {
        /// The policy in the ID block.
        expected: u64,
        /// The configured policy.
        actual: u64,
    },
    /// kernel_verity_params is set, but image is not
    NoRootDisk,
    /// kernel_verity_params cannot be used
    VerityParams(#[source] VerityError),
    /// hypervisor.qemu.image = {path:?} has {size_bytes} bytes, fewer than the {needed_bytes} that kernel_verity_params needs
    RootDiskSize {
        /// The path.
        path: PathBuf,
        /// Its length in bytes.
        size_bytes: u64,
        /// Length of data, superblock and tree in bytes.
        needed_bytes: u64,
    },
    /// snp_id_block or snp_id_auth cannot be used
    IdBlock(#[source] IdBlockError),
}

impl UserError for PlanError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Config(error) => error.code(),
            Self::NoKernelHashes(error) => error.code(),
            Self::Initdata(error) => error.code(),
            Self::IdBlock(error) => error.code(),
            Self::VerityParams(error) => error.code(),
            _ => ErrorCode(self.number()),
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Config(error) => return error.hint(),
            Self::NoKernelHashes(error) => return error.hint(),
            Self::Initdata(error) => return error.hint(),
            Self::IdBlock(error) => return error.hint(),
            Self::VerityParams(error) => return error.hint(),
            Self::NoRootDisk => "name the disk in image, or remove kernel_verity_params",
            Self::RootDiskSize { .. } => "take image and kernel_verity_params from the same build",
            Self::Firmware { cause, .. } => return cause.hint(),
            Self::Digest(error) => return error.hint(),
            Self::NoTee => {
                "enable SEV-SNP in the host's firmware and kernel (kvm_amd sev_snp=Y); for tests, \
                 name a simulated identity in snp_simulation"
            }
            Self::SimulationWithoutGuest => {
                "set confidential_guest = true, or remove snp_simulation"
            }
            Self::NoKvm => "load kvm_amd or kvm_intel, or set accelerator = \"tcg\"",
            Self::NoVhostNet => "run `modprobe vhost_net`, or set disable_vhost_net = true",
            Self::NoVhostVsock => {
                "run `modprobe vhost_vsock`, or name the vhost-device-vsock binary in \
                 vhost_user_vsock"
            }
            Self::MachineType { .. } => "set machine_type = \"q35\"",
            Self::MemoryTooSmall { .. } => "raise default_memory in [hypervisor.qemu]",
            Self::TdxUnsupported => "use an SEV-SNP host",
            Self::TdxNeedsKvm => "set accelerator = \"kvm\"",
            Self::NoTdxMetadata { .. } => {
                "use a build of OVMF for TDX, such as /usr/share/ovmf/OVMF.inteltdx.ms.fd of the \
                 package ovmf-inteltdx"
            }
            Self::PlainSev => "set sev_snp_guest = true",
            Self::NotSet { .. } => "set it in configuration.toml",
            Self::Missing { .. } => "install the file, or correct the key in configuration.toml",
            Self::IdBlockDigest { .. } | Self::IdBlockPolicy { .. } => {
                "sign a new ID block for this launch with `redoubt id-block create`"
            }
            _ => return None,
        };
        Some(hint.to_owned())
    }
}

impl PlanError {
    /// Says it by the names of the configuration's keys.
    pub(crate) fn id_block(error: IdBlockError) -> Self {
        match error {
            IdBlockError::Format { part, expected } => Self::IdBlockFormat {
                key: match part {
                    IdPart::Block => "snp_id_block",
                    IdPart::Auth => "snp_id_auth",
                },
                expected,
            },
            IdBlockError::OtherDigest { expected, actual } => {
                Self::IdBlockDigest { expected, actual }
            }
            IdBlockError::OtherPolicy { expected, actual } => {
                Self::IdBlockPolicy { expected, actual }
            }
            other => Self::IdBlock(other),
        }
    }

    fn number(&self) -> &'static str {
        match self {
            // These carry the code of their cause.
            Self::Config(_)
            | Self::NoKernelHashes(_)
            | Self::Initdata(_)
            | Self::IdBlock(_)
            | Self::VerityParams(_) => "RDT-PLAN-000",
            Self::NoRootDisk => "RDT-PLAN-038",
            Self::RootDiskSize { .. } => "RDT-PLAN-039",
            Self::NotSet { .. } => "RDT-PLAN-001",
            Self::Missing { .. } => "RDT-PLAN-002",
            Self::Read { .. } => "RDT-PLAN-003",
            Self::TooLarge { .. } => "RDT-PLAN-004",
            Self::NotExecutable { .. } => "RDT-PLAN-005",
            Self::NotBzImage { .. } => "RDT-PLAN-006",
            Self::Firmware { .. } => "RDT-PLAN-007",
            Self::Digest(_) => "RDT-PLAN-008",
            Self::OtherFiles { .. } => "RDT-PLAN-009",
            Self::NoTee => "RDT-PLAN-010",
            Self::TdxUnsupported => "RDT-PLAN-011",
            Self::PlainSev => "RDT-PLAN-012",
            Self::SimulationWithoutGuest => "RDT-PLAN-013",
            Self::NoKvm => "RDT-PLAN-014",
            Self::SnpNeedsKvm => "RDT-PLAN-015",
            Self::NoVhostNet => "RDT-PLAN-016",
            Self::NoVhostVsock => "RDT-PLAN-017",
            Self::MachineType { .. } => "RDT-PLAN-018",
            Self::Template => "RDT-PLAN-019",
            Self::MemoryTooSmall { .. } => "RDT-PLAN-020",
            Self::VcpuCount { .. } => "RDT-PLAN-021",
            Self::NetworkQueues { .. } => "RDT-PLAN-022",
            Self::SandboxId { .. } => "RDT-PLAN-023",
            Self::Spec { .. } => "RDT-PLAN-024",
            Self::KernelParams { .. } => "RDT-PLAN-025",
            Self::ReservedParam { .. } => "RDT-PLAN-026",
            Self::CmdlineTooLong { .. } => "RDT-PLAN-027",
            Self::OptionText { .. } => "RDT-PLAN-028",
            Self::GuestPolicy { .. } => "RDT-PLAN-029",
            Self::IdBlockPair { .. } => "RDT-PLAN-030",
            Self::IdBlockFormat { .. } => "RDT-PLAN-031",
            Self::IdBlockDigest { .. } => "RDT-PLAN-032",
            Self::IdBlockPolicy { .. } => "RDT-PLAN-033",
            Self::TdxNeedsKvm => "RDT-PLAN-034",
            Self::NoTdxMetadata { .. } => "RDT-PLAN-035",
        }
    }
}
