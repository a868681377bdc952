//! The parts of an OCI runtime specification that reach the guest.
//!
//! Texts stay texts and lists keep their order, because policies compare them with
//! what containerd wrote. Unknown fields are ignored, null counts as absent.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer};

/// Takes JSON's null for the default value.
fn nullable<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// Declares structures of which every field may be absent or null.
macro_rules! lenient {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $kind:ty = $wire:literal,)+ })+) => {
        $($(#[$doc])*
        #[derive(Clone, Default, PartialEq, Eq, Deserialize)]
        #[serde(default)]
        pub struct $name {
            $($(#[$field_doc])*
            #[serde(rename = $wire, deserialize_with = "nullable")]
            pub $field: $kind,)+
        })+
    };
}

lenient! {
    /// `config.json`.
    Spec {
        /// Version of the OCI runtime specification.
        version: String = "ociVersion",
        /// The container's process.
        process: Option<Process> = "process",
        /// The root file system.
        root: Option<Root> = "root",
        /// Host name.
        hostname: String = "hostname",
        /// Mounts in their order.
        mounts: Vec<Mount> = "mounts",
        /// Annotations.
        annotations: BTreeMap<String, String> = "annotations",
        /// What only Linux has.
        linux: Option<Linux> = "linux",
    }

    /// A process.
    Process {
        /// It gets a terminal.
        terminal: bool = "terminal",
        /// The terminal's first size.
        console_size: Option<ConsoleSize> = "consoleSize",
        /// Who it runs as.
        user: User = "user",
        /// Program and arguments.
        args: Vec<String> = "args",
        /// Environment.
        env: Vec<String> = "env",
        /// Working directory.
        cwd: String = "cwd",
        /// Capabilities.
        capabilities: Option<Capabilities> = "capabilities",
        /// Resource limits.
        rlimits: Vec<Rlimit> = "rlimits",
        /// It can gain no privileges.
        no_new_privileges: bool = "noNewPrivileges",
        /// `AppArmor` profile.
        apparmor_profile: String = "apparmorProfile",
        /// OOM score adjustment.
        oom_score_adj: Option<i64> = "oomScoreAdj",
        /// `SELinux` label.
        selinux_label: String = "selinuxLabel",
    }

    /// A terminal's size in characters.
    ConsoleSize {
        /// Rows.
        height: u32 = "height",
        /// Columns.
        width: u32 = "width",
    }

    /// A user.
    User {
        /// User id.
        uid: u32 = "uid",
        /// Group id.
        gid: u32 = "gid",
        /// More groups.
        additional_gids: Vec<u32> = "additionalGids",
        /// Name.
        username: String = "username",
    }

    /// Capability sets by name.
    Capabilities {
        /// Bounding set.
        bounding: Vec<String> = "bounding",
        /// Effective set.
        effective: Vec<String> = "effective",
        /// Inheritable set.
        inheritable: Vec<String> = "inheritable",
        /// Permitted set.
        permitted: Vec<String> = "permitted",
        /// Ambient set.
        ambient: Vec<String> = "ambient",
    }

    /// A resource limit.
    Rlimit {
        /// Name, `RLIMIT_NOFILE`.
        kind: String = "type",
        /// Hard limit.
        hard: u64 = "hard",
        /// Soft limit.
        soft: u64 = "soft",
    }

    /// The root file system.
    Root {
        /// Path on the host.
        path: String = "path",
        /// It is read-only.
        readonly: bool = "readonly",
    }

    /// A mount.
    Mount {
        /// Path in the container.
        destination: String = "destination",
        /// Type of file system, or `bind`.
        kind: String = "type",
        /// What is mounted.
        source: String = "source",
        /// Options.
        options: Vec<String> = "options",
    }

    /// What only Linux has.
    Linux {
        /// User id mappings.
        uid_mappings: Vec<IdMapping> = "uidMappings",
        /// Group id mappings.
        gid_mappings: Vec<IdMapping> = "gidMappings",
        /// Kernel parameters.
        sysctl: BTreeMap<String, String> = "sysctl",
        /// Limits.
        resources: Option<LinuxResources> = "resources",
        /// Path of the control group.
        cgroups_path: String = "cgroupsPath",
        /// Namespaces.
        namespaces: Vec<Namespace> = "namespaces",
        /// Propagation of mounts.
        rootfs_propagation: String = "rootfsPropagation",
        /// Hidden paths.
        masked_paths: Vec<String> = "maskedPaths",
        /// Read-only paths.
        readonly_paths: Vec<String> = "readonlyPaths",
        /// `SELinux` label of mounts.
        mount_label: String = "mountLabel",
    }

    /// A range of mapped ids.
    IdMapping {
        /// First id in the container.
        container_id: u32 = "containerID",
        /// First id outside.
        host_id: u32 = "hostID",
        /// Number of ids.
        size: u32 = "size",
    }

    /// A namespace.
    Namespace {
        /// `network`, `pid`, …
        kind: String = "type",
        /// Path of an existing one.
        path: String = "path",
    }

    /// Limits that reach the guest.
    LinuxResources {
        /// Memory.
        memory: Option<Memory> = "memory",
        /// CPU.
        cpu: Option<Cpu> = "cpu",
        /// Huge pages.
        hugepage_limits: Vec<HugepageLimit> = "hugepageLimits",
    }

    /// Memory limits in bytes; zero where none is set, −1 for unlimited.
    Memory {
        /// Hard limit.
        limit: i64 = "limit",
        /// Soft limit.
        reservation: i64 = "reservation",
        /// Memory and swap together.
        swap: i64 = "swap",
        /// Kernel memory.
        kernel: i64 = "kernel",
        /// TCP buffers.
        kernel_tcp: i64 = "kernelTCP",
        /// How eagerly to swap.
        swappiness: u64 = "swappiness",
        /// Do not kill when out of memory.
        disable_oom_killer: bool = "disableOOMKiller",
    }

    /// CPU limits; times in microseconds.
    Cpu {
        /// Relative weight.
        shares: Option<u64> = "shares",
        /// Time in each period.
        quota: Option<i64> = "quota",
        /// Length of a period.
        period: Option<u64> = "period",
        /// Real-time time in each period.
        realtime_runtime: i64 = "realtimeRuntime",
        /// Length of a real-time period.
        realtime_period: u64 = "realtimePeriod",
    }

    /// A limit on huge pages.
    HugepageLimit {
        /// Size of the pages, `2MB`.
        page_size: String = "pageSize",
        /// Bytes.
        limit: u64 = "limit",
    }
}

/// Prints the kind of thing only: arguments, environment and annotations of a workload
/// belong in no log.
macro_rules! silent_debug {
    ($($name:ident),+) => {
        $(impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name)).finish_non_exhaustive()
            }
        })+
    };
}

silent_debug!(
    Spec,
    Process,
    ConsoleSize,
    User,
    Capabilities,
    Rlimit,
    Root,
    Mount,
    Linux,
    IdMapping,
    Namespace,
    LinuxResources,
    Memory,
    Cpu,
    HugepageLimit
);

impl Spec {
    /// An annotation that is set to something.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations
            .get(key)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    /// The path of the control group; empty where the specification names none.
    pub fn cgroups_path(&self) -> &str {
        self.linux
            .as_ref()
            .map_or("", |linux| linux.cgroups_path.as_str())
    }

    /// The path of the network namespace, where containerd made one.
    pub fn network_namespace(&self) -> Option<&str> {
        let linux = self.linux.as_ref()?;
        let network = linux
            .namespaces
            .iter()
            .find(|namespace| namespace.kind == "network")?;
        (!network.path.is_empty()).then_some(network.path.as_str())
    }
}
