//! From containerd's specification to the one that the agent gets. Pure.
//!
//! As Kata's shim does it: no namespaces of network and cgroup, no paths of others,
//! no hooks, no seccomp profile, no devices, and only those limits that mean
//! something in the guest.

use std::path::Path;

use protobuf::MessageField;
use redoubt_agent_api::oci;

use super::kind::ContainerKind;
use super::model;
use crate::error::{Result, ShimError};

/// Annotations that shape the virtual machine and have no place in it.
const HOST_ANNOTATIONS: [&str; 2] = [
    "io.katacontainers.config.agent.policy",
    "io.katacontainers.config.hypervisor.cc_init_data",
];

/// The root file system's place in the guest.
pub fn guest_rootfs(container: &str) -> String {
    format!("/run/kata-containers/{container}/rootfs")
}

/// The specification for the agent, with `mounts` in place of the original ones.
pub fn guest_spec(
    id: &str,
    bundle: &Path,
    kind: &ContainerKind,
    spec: &model::Spec,
    mounts: Vec<oci::Mount>,
) -> Result<oci::Spec> {
    let missing = |part| ShimError::IncompleteSpec {
        container: id.to_owned(),
        part,
    };
    let process = spec.process.as_ref().ok_or_else(|| missing("process"))?;
    let root = spec.root.as_ref().ok_or_else(|| missing("root"))?;
    Ok(oci::Spec {
        Version: spec.version.clone(),
        Process: MessageField::some(exec_process(process)),
        Root: MessageField::some(oci::Root {
            Path: guest_rootfs(id),
            Readonly: root.readonly,
            ..oci::Root::default()
        }),
        Hostname: spec.hostname.clone(),
        Mounts: mounts,
        Annotations: annotations(bundle, kind, spec),
        Linux: spec.linux.as_ref().map(linux).into(),
        ..oci::Spec::default()
    })
}

fn annotations(
    bundle: &Path,
    kind: &ContainerKind,
    spec: &model::Spec,
) -> std::collections::BTreeMap<String, String> {
    let mut annotations = spec.annotations.clone();
    for key in HOST_ANNOTATIONS {
        annotations.remove(key);
    }
    let prefix = "io.katacontainers.pkg.oci.";
    annotations.insert(format!("{prefix}bundle_path"), bundle.display().to_string());
    annotations.insert(
        format!("{prefix}container_type"),
        kind.annotation().to_owned(),
    );
    annotations
}

/// A process for the agent.
pub fn exec_process(process: &model::Process) -> oci::Process {
    oci::Process {
        Terminal: process.terminal,
        ConsoleSize: process
            .console_size
            .as_ref()
            .map(|size| oci::Box {
                Height: size.height,
                Width: size.width,
                ..oci::Box::default()
            })
            .into(),
        User: MessageField::some(oci::User {
            UID: process.user.uid,
            GID: process.user.gid,
            AdditionalGids: process.user.additional_gids.clone(),
            Username: process.user.username.clone(),
            ..oci::User::default()
        }),
        Args: process.args.clone(),
        Env: process.env.clone(),
        Cwd: process.cwd.clone(),
        Capabilities: process.capabilities.as_ref().map(capabilities).into(),
        Rlimits: process
            .rlimits
            .iter()
            .map(|limit| oci::POSIXRlimit {
                Type: limit.kind.clone(),
                Hard: limit.hard,
                Soft: limit.soft,
                ..oci::POSIXRlimit::default()
            })
            .collect(),
        NoNewPrivileges: process.no_new_privileges,
        ApparmorProfile: process.apparmor_profile.clone(),
        OOMScoreAdj: process.oom_score_adj.unwrap_or_default(),
        SelinuxLabel: process.selinux_label.clone(),
        ..oci::Process::default()
    }
}

fn capabilities(sets: &model::Capabilities) -> oci::LinuxCapabilities {
    oci::LinuxCapabilities {
        Bounding: sets.bounding.clone(),
        Effective: sets.effective.clone(),
        Inheritable: sets.inheritable.clone(),
        Permitted: sets.permitted.clone(),
        Ambient: sets.ambient.clone(),
        ..oci::LinuxCapabilities::default()
    }
}

fn linux(linux: &model::Linux) -> oci::Linux {
    oci::Linux {
        UIDMappings: linux.uid_mappings.iter().map(id_mapping).collect(),
        GIDMappings: linux.gid_mappings.iter().map(id_mapping).collect(),
        Sysctl: linux.sysctl.clone(),
        Resources: linux.resources.as_ref().map(resources).into(),
        CgroupsPath: linux.cgroups_path.clone(),
        Namespaces: linux
            .namespaces
            .iter()
            .filter(|namespace| !matches!(namespace.kind.as_str(), "network" | "cgroup"))
            .map(|namespace| oci::LinuxNamespace {
                Type: namespace.kind.clone(),
                ..oci::LinuxNamespace::default()
            })
            .collect(),
        RootfsPropagation: linux.rootfs_propagation.clone(),
        MaskedPaths: linux.masked_paths.clone(),
        ReadonlyPaths: linux.readonly_paths.clone(),
        MountLabel: linux.mount_label.clone(),
        ..oci::Linux::default()
    }
}

fn id_mapping(mapping: &model::IdMapping) -> oci::LinuxIDMapping {
    oci::LinuxIDMapping {
        HostID: mapping.host_id,
        ContainerID: mapping.container_id,
        Size: mapping.size,
        ..oci::LinuxIDMapping::default()
    }
}

/// The limits that mean something in the guest.
pub fn resources(resources: &model::LinuxResources) -> oci::LinuxResources {
    oci::LinuxResources {
        Memory: resources.memory.as_ref().map(memory).into(),
        CPU: resources.cpu.as_ref().map(cpu).into(),
        HugepageLimits: resources
            .hugepage_limits
            .iter()
            .map(|limit| oci::LinuxHugepageLimit {
                Pagesize: limit.page_size.clone(),
                Limit: limit.limit,
                ..oci::LinuxHugepageLimit::default()
            })
            .collect(),
        ..oci::LinuxResources::default()
    }
}

fn memory(memory: &model::Memory) -> oci::LinuxMemory {
    oci::LinuxMemory {
        Limit: memory.limit,
        Reservation: memory.reservation,
        Swap: memory.swap,
        Kernel: memory.kernel,
        KernelTCP: memory.kernel_tcp,
        Swappiness: memory.swappiness,
        DisableOOMKiller: memory.disable_oom_killer,
        ..oci::LinuxMemory::default()
    }
}

fn cpu(cpu: &model::Cpu) -> oci::LinuxCPU {
    oci::LinuxCPU {
        Shares: cpu.shares.unwrap_or_default(),
        Quota: cpu.quota.unwrap_or_default(),
        Period: cpu.period.unwrap_or_default(),
        RealtimeRuntime: cpu.realtime_runtime,
        RealtimePeriod: cpu.realtime_period,
        ..oci::LinuxCPU::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::parse_spec;

    /// What `ctr run` of containerd 1.6 writes, shortened.
    const CTR: &str = r#"{"ociVersion":"1.0.2-dev","process":{"user":{"uid":0,"gid":0,"additionalGids":[0]},
        "args":["echo","hi"],"env":["PATH=/bin"],"cwd":"/",
        "capabilities":{"bounding":["CAP_KILL","CAP_CHOWN"],"effective":["CAP_KILL"],"permitted":["CAP_KILL"]},
        "rlimits":[{"type":"RLIMIT_NOFILE","hard":1024,"soft":1024}],"noNewPrivileges":true},
        "root":{"path":"rootfs","readonly":true},
        "annotations":{"a":"b","io.katacontainers.config.hypervisor.cc_init_data":"H4sI","io.katacontainers.config.agent.policy":"x"},
        "hooks":{"prestart":[{"path":"/bin/evil"}]},
        "linux":{"resources":{"devices":[{"allow":false,"access":"rwm"}],"cpu":{"shares":1024,"cpus":"0-1"},"pids":{"limit":5},
                              "memory":{"limit":1048576}},
                 "cgroupsPath":"/default/demo","devices":[{"path":"/dev/fuse","type":"c"}],"seccomp":{"defaultAction":"SCMP_ACT_ERRNO"},
                 "namespaces":[{"type":"pid"},{"type":"ipc","path":"/proc/1/ns/ipc"},{"type":"network","path":"/var/run/netns/x"},{"type":"cgroup"}]}}"#;

    fn converted() -> oci::Spec {
        let spec = parse_spec(CTR.as_bytes()).unwrap();
        guest_spec(
            "demo",
            Path::new("/b/demo"),
            &ContainerKind::Single,
            &spec,
            Vec::new(),
        )
        .unwrap()
    }

    #[test]
    fn what_belongs_to_the_host_does_not_reach_the_guest() {
        let spec = converted();
        let linux = spec.Linux.as_ref().unwrap();
        let namespaces: Vec<_> = linux
            .Namespaces
            .iter()
            .map(|n| (n.Type.as_str(), n.Path.as_str()))
            .collect();
        assert_eq!(namespaces, [("pid", ""), ("ipc", "")]);
        assert!(linux.Seccomp.is_none());
        assert!(linux.Devices.is_empty());
        assert!(spec.Hooks.is_none());
        let resources = linux.Resources.as_ref().unwrap();
        assert!(resources.Devices.is_empty() && resources.Pids.is_none());
        assert_eq!(resources.CPU.Cpus, "");
        assert_eq!(resources.CPU.Shares, 1024);
        assert_eq!(resources.Memory.Limit, 1 << 20);
    }

    #[test]
    fn annotations_are_katas() {
        let annotations = converted().Annotations;
        let list: Vec<_> = annotations
            .iter()
            .map(|(k, v)| format!("{k}={v}"))
            .collect();
        insta::assert_snapshot!(list.join("\n"), @r"
        a=b
        io.katacontainers.pkg.oci.bundle_path=/b/demo
        io.katacontainers.pkg.oci.container_type=single_container
        ");
    }

    #[test]
    fn the_process_keeps_its_order_and_the_root_moves() {
        let spec = converted();
        assert_eq!(
            spec.Process.Capabilities.Bounding,
            ["CAP_KILL", "CAP_CHOWN"]
        );
        assert_eq!(spec.Process.Args, ["echo", "hi"]);
        assert_eq!(spec.Root.Path, "/run/kata-containers/demo/rootfs");
        assert!(spec.Root.Readonly);
    }

    #[test]
    fn a_specification_without_process_is_refused() {
        let spec = parse_spec(b"{}").unwrap();
        let error = guest_spec(
            "demo",
            Path::new("/b"),
            &ContainerKind::Single,
            &spec,
            Vec::new(),
        )
        .unwrap_err();
        assert_eq!(
            error.one_line(),
            "[RDT-SHIM-035] the OCI specification of container demo has no process"
        );
    }
}
