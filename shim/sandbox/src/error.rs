//! What can go wrong between a launch plan and a talking agent.

use std::io;
use std::path::PathBuf;

use redoubt_errors::{ErrorCode, UserError};
use redoubt_id_block::IdBlockError;
use redoubt_snp_simulator::SimulatorError;

use crate::network::NetworkError;

/// A sandbox that could not be launched, driven or taken down.
#[expect(
    clippy::doc_markdown,
    reason = "the documentation is the message, with its fields' names"
)]
#[derive(Debug, thiserror::Error, displaydoc::Display)]
pub enum SandboxError {
    /// sandbox id {0:?} is not 1 to 76 letters, digits, '-', '_' or '.'
    BadId(String),
    /// sandbox {id} exists already: {path}
    AlreadyExists {
        /// The sandbox.
        id: String,
        /// Its state directory.
        path: PathBuf,
    },
    /// cannot {action} {path}
    State {
        /// What was tried, a verb.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// sandbox state {path} is not readable as this version's state: {reason}
    StateFormat {
        /// The state file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// cannot start {program}
    Spawn {
        /// The executable.
        program: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// cannot put the sandbox's processes into control group {path}
    Cgroup {
        /// The group.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// cannot open network namespace {path}
    NetworkNamespace {
        /// The namespace's path.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// cannot set up the pod's network
    Network(#[from] NetworkError),
    /// cannot open {path}
    Device {
        /// The device node.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// found no free vsock context id after {tries} tries
    NoFreeCid {
        /// How many were tried.
        tries: u32,
    },
    /// the vsock daemon {program} ended ({exit}): {stderr}
    VsockDaemonExited {
        /// The daemon.
        program: PathBuf,
        /// How it ended.
        exit: String,
        /// The end of what it wrote to standard error.
        stderr: String,
    },
    /// the vsock daemon {program} did not listen within {timeout_ms} ms
    VsockDaemonSilent {
        /// The daemon.
        program: PathBuf,
        /// How long it had.
        timeout_ms: u64,
    },
    /// the simulated SEV-SNP needs a vsock device of its own, which the kernel's is not
    SimulationNeedsDaemon,
    /// the simulated launch has an unusable ID block
    IdBlock(#[source] IdBlockError),
    /// cannot start the software PSP of the simulated SEV-SNP
    Simulation(#[source] SimulatorError),
    /// QEMU ended before the agent answered ({exit}): {stderr}
    QemuExited {
        /// How it ended.
        exit: String,
        /// The end of what it wrote to standard error.
        stderr: String,
    },
    /// the virtual machine stopped before the agent answered ({exit}); console: {console}
    GuestStopped {
        /// How QEMU ended.
        exit: String,
        /// The console's last lines.
        console: String,
    },
    /// QEMU did not take the QMP command {command}
    Qmp {
        /// The command.
        command: &'static str,
        /// What QEMU or the connection said.
        #[source]
        source: io::Error,
    },
    /// QEMU did not answer the QMP command {command} within {timeout_ms} ms
    QmpTimeout {
        /// The command.
        command: &'static str,
        /// How long it had.
        timeout_ms: u64,
    },
    /// QEMU cannot go on with the virtual machine ({status}): {stderr}
    CannotRun {
        /// QEMU's name for the machine's status.
        status: String,
        /// What it wrote to standard error.
        stderr: String,
    },
    /// the firmware refused kernel, initrd or command line (they differ from the measured ones): {evidence}; console: {console}
    FirmwareRefused {
        /// How this is known.
        evidence: String,
        /// The console's last lines.
        console: String,
    },
    /// the firmware found nothing that it could boot; console: {console}
    FirmwareBootedNothing {
        /// The console's last lines.
        console: String,
    },
    /// the guest ran out of memory while booting (it has {memory_mib} MiB); console: {console}
    GuestOutOfMemory {
        /// The guest's memory.
        memory_mib: u32,
        /// The console's last lines.
        console: String,
    },
    /// the guest kernel panicked: {panic}; console: {console}
    KernelPanic {
        /// The kernel's own line.
        panic: String,
        /// The console's last lines.
        console: String,
    },
    /// the guest agent gave up: {message}
    AgentFatal {
        /// The agent's own line.
        message: String,
    },
    /// the agent did not answer within {timeout_ms} ms; console: {console}
    AgentTimeout {
        /// How long it had.
        timeout_ms: u64,
        /// The console's last lines.
        console: String,
    },
    /// the virtual machine is gone ({exit})
    VmGone {
        /// How QEMU ended.
        exit: String,
    },
    /// process {pid} of the sandbox survives SIGKILL
    Unkillable {
        /// Its process id.
        pid: i32,
    },
}

impl UserError for SandboxError {
    fn code(&self) -> ErrorCode {
        ErrorCode(match self {
            Self::BadId(_) => "RDT-VMM-001",
            Self::AlreadyExists { .. } => "RDT-VMM-002",
            Self::State { .. } => "RDT-VMM-003",
            Self::StateFormat { .. } => "RDT-VMM-004",
            Self::Spawn { .. } => "RDT-VMM-005",
            Self::NetworkNamespace { .. } => "RDT-VMM-006",
            Self::Network(error) => return error.code(),
            Self::Device { .. } => "RDT-VMM-007",
            Self::NoFreeCid { .. } => "RDT-VMM-008",
            Self::VsockDaemonExited { .. } => "RDT-VMM-009",
            Self::VsockDaemonSilent { .. } => "RDT-VMM-010",
            Self::Simulation(_) => "RDT-VMM-011",
            Self::QemuExited { .. } => "RDT-VMM-012",
            Self::GuestStopped { .. } => "RDT-VMM-013",
            Self::Qmp { .. } => "RDT-VMM-014",
            Self::QmpTimeout { .. } => "RDT-VMM-015",
            Self::FirmwareRefused { .. } => "RDT-VMM-016",
            Self::FirmwareBootedNothing { .. } => "RDT-VMM-017",
            Self::GuestOutOfMemory { .. } => "RDT-VMM-018",
            Self::KernelPanic { .. } => "RDT-VMM-019",
            Self::AgentFatal { .. } => "RDT-VMM-020",
            Self::AgentTimeout { .. } => "RDT-VMM-021",
            Self::VmGone { .. } => "RDT-VMM-022",
            Self::Unkillable { .. } => "RDT-VMM-023",
            Self::SimulationNeedsDaemon => "RDT-VMM-024",
            Self::CannotRun { .. } => "RDT-VMM-025",
            Self::IdBlock(_) => "RDT-VMM-026",
            Self::Cgroup { .. } => "RDT-VMM-027",
        })
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::AlreadyExists { .. } => {
                "run the shim's delete for this sandbox, or choose another id"
            }
            Self::Spawn { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                "check the path in configuration.toml"
            }
            Self::Device { path, .. } if path.ends_with("vhost-vsock") => {
                "modprobe vhost_vsock, or set hypervisor.qemu.vhost_user_vsock"
            }
            Self::Device { path, .. } if path.ends_with("vhost-net") => {
                "modprobe vhost_net, or set hypervisor.qemu.disable_vhost_net = true"
            }
            Self::Network(error) => return error.hint(),
            Self::Cgroup { .. } => {
                "with runtime.sandbox_cgroup_only = false the sandbox runs without a control group of its own"
            }
            Self::SimulationNeedsDaemon => {
                "set hypervisor.qemu.vhost_user_vsock to the path of vhost-device-vsock"
            }
            Self::Simulation(_) => "create the identity with: redoubt simulator init DIR",
            Self::CannotRun { .. } => {
                "this host's KVM cannot run the guest: choose another host, or hypervisor.qemu.accelerator = \"tcg\""
            }
            Self::FirmwareRefused { .. } => {
                "compare the files on the host with those that were measured: redoubt plan"
            }
            Self::FirmwareBootedNothing { .. } => {
                "check that the kernel is a bzImage and that default_memory is large enough"
            }
            Self::GuestOutOfMemory { .. } => {
                "raise default_memory, the pod's memory limit or io.katacontainers.config.hypervisor.default_memory"
            }
            _ => return None,
        };
        Some(hint.to_owned())
    }
}
