//! What the launcher opened or created for one launch: inputs of the QEMU arguments.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Descriptors and paths of one launch. Descriptor numbers are those seen by QEMU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchResources {
    /// The vsock device's other end.
    pub vsock: VsockResource,
    /// Where the serial console goes.
    pub console: ConsoleResource,
    /// Where QEMU listens for QMP.
    pub qmp: QmpResource,
    /// The initdata disk image, written from [`crate::InitdataPlan::disk_image`].
    pub initdata_disk: Option<PathBuf>,
    /// The kernel-hash table of a simulated launch, written from [`crate::SimulatedLaunch::hash_table`].
    pub hash_table: Option<PathBuf>,
    /// Network interfaces in the order in which the guest sees them.
    pub interfaces: Vec<NetworkInterface>,
    /// Where QEMU writes its process id.
    pub pid_file: Option<PathBuf>,
}

/// What a run of QEMU needs that is to show its ACPI tables.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcpiRunResources {
    /// Firmware in the place of the plan's.
    pub firmware: Option<PathBuf>,
    /// Number of network interfaces.
    pub interfaces: usize,
    /// Physical address bits of the TDX host's processors, as guests see them.
    pub phys_bits: u8,
    /// File to which QEMU writes what the firmware prints.
    pub console: PathBuf,
    /// Where QEMU listens for QMP.
    pub qmp: PathBuf,
    /// Where QEMU listens for commands of its test protocol.
    pub qtest: PathBuf,
}

/// The host's end of the vsock device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum VsockResource {
    /// An inherited descriptor of `/dev/vhost-vsock` with its CID set.
    Vhost {
        /// Number of the inherited descriptor.
        fd: i32,
        /// The guest's context id.
        guest_cid: u32,
    },
    /// The vhost-user socket of a `vhost-device-vsock` process.
    VhostUser {
        /// Path of the vhost-user control socket.
        socket: PathBuf,
    },
}

/// Where the serial console goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConsoleResource {
    /// QEMU listens on this unix socket; what was printed before a connect is lost.
    Socket(PathBuf),
    /// QEMU listens on this unix socket and also appends everything to the file.
    SocketWithLog {
        /// Path of the listening socket.
        socket: PathBuf,
        /// Path of the log file.
        log: PathBuf,
    },
    /// QEMU writes to this file.
    File(PathBuf),
}

/// Where QEMU listens for QMP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum QmpResource {
    /// An inherited, already listening unix socket.
    Fd(i32),
    /// QEMU creates the socket at this path.
    Socket(PathBuf),
}

/// One virtio-net interface behind a tap device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkInterface {
    /// MAC address that the guest sees.
    pub mac: [u8; 6],
    /// Inherited tap descriptors, one per queue.
    pub tap_fds: Vec<i32>,
    /// Inherited `/dev/vhost-net` descriptors, one per queue; empty without vhost-net.
    pub vhost_fds: Vec<i32>,
}
