//! Every key of the configuration file, declared once.

use std::path::PathBuf;

use super::spec::{AnnotationGate, KeySpec, Shape, settings};
use super::value::{LogLevel, SettingValue, Timeout};
use crate::plan::{Accelerator, NetworkModel};

settings! {
    /// `[hypervisor.qemu]`: the virtual machine.
    HypervisorSettings, "hypervisor.qemu";

    /// The QEMU binary.
    path: PathBuf = PathBuf::from("/usr/bin/qemu-system-x86_64"), Gated;
    /// Binaries that an annotation may name as `path`, as glob patterns; `path` itself is always allowed.
    valid_hypervisor_paths: Vec<String> = Vec::new(), Never;
    /// The guest kernel, a bzImage. Measured.
    kernel: PathBuf = PathBuf::new(), Gated;
    /// The initial RAM disk that holds the agent. Measured.
    initrd: PathBuf = PathBuf::new(), Gated;
    /// A root disk that the guest verifies block by block, with an initrd that opens it; empty for a root in the initrd. Needs `kernel_verity_params`.
    image: PathBuf = PathBuf::new(), Gated;
    /// Root hash and format of `image`: `root_hash=…,salt=…,data_blocks=…,data_block_size=…,hash_block_size=…`. Measured.
    kernel_verity_params: String = String::new(), Gated;
    /// The OVMF image. A confidential guest needs an AmdSev build. Measured.
    firmware: PathBuf = PathBuf::new(), Gated;
    /// QEMU's machine type; only `q35` is supported.
    machine_type: String = "q35".to_owned(), Gated;
    /// Options appended to `-machine`.
    machine_accelerators: String = String::new(), Gated;
    /// Features appended to `-cpu`.
    cpu_features: String = "pmu=off".to_owned(), Gated;
    /// CPU model by QEMU's name; empty for `EPYC-v4` on SEV-SNP, else `host` under KVM and `max` under TCG. Measured on SEV-SNP.
    cpu_model: String = String::new(), Never;
    /// What executes guest instructions: `kvm`, or `tcg` for emulation.
    accelerator: Accelerator = Accelerator::Kvm, Never;
    /// Protect the guest from the host; without a TEE the launch fails.
    confidential_guest: bool = false, Never;
    /// Use SEV-SNP on AMD hosts. Plain SEV is not supported.
    sev_snp_guest: bool = true, Never;
    /// Folder of a simulated SEV-SNP identity. Makes every confidential guest a simulated one, which protects nothing; empty turns simulation off.
    snp_simulation: PathBuf = PathBuf::new(), Never;
    /// SEV-SNP guest policy as a number (AMD 56860, table 10).
    snp_guest_policy: u64 = 0x30000, Never;
    /// SEV-SNP ID block in base64; goes with `snp_id_auth`.
    snp_id_block: String = String::new(), Never;
    /// SEV-SNP ID authentication information in base64; goes with `snp_id_block`.
    snp_id_auth: String = String::new(), Never;
    /// Vsock port of Intel's quote generation service on the host; 0 for its Unix socket, where that exists, or port 4050.
    tdx_quote_generation_service_socket_port: u32 = 0, Never;
    /// Regular expressions for the names of hypervisor annotations that pods may use. An expression must match the whole name.
    enable_annotations: Vec<String> = Vec::new(), Never;
    /// Kernel parameters. Those of an annotation replace those of the same name. Measured.
    kernel_params: String = String::new(), Gated;
    /// Initdata document as TOML text, or as in the annotation. Its digest is reported as `HOST_DATA`.
    initdata: String = String::new(), Gated, annotation ["cc_init_data"];
    /// Virtual CPUs of a sandbox without a CPU limit. Measured on SEV-SNP.
    default_vcpus: f64 = 1.0, Gated;
    /// CPUs added to a CPU limit before rounding up.
    overhead_vcpus: f64 = 0.4, Never;
    /// Memory in MiB of a sandbox without a memory limit.
    default_memory: u32 = 2048, Gated;
    /// Memory in MiB added to a memory limit.
    overhead_memory: u32 = 128, Never;
    /// Back guest memory with huge pages.
    enable_hugepages: bool = false, Gated;
    /// Allocate guest memory before the guest starts.
    enable_mem_prealloc: bool = false, Gated;
    /// Path of the `vhost-device-vsock` binary; empty to use `/dev/vhost-vsock`.
    vhost_user_vsock: PathBuf = PathBuf::new(), Never;
    /// Do without vhost-net.
    disable_vhost_net: bool = false, Gated;
    /// Queues of each network interface.
    network_queues: u32 = 1, Gated;
    /// Source of the random number device of plain virtual machines; confidential guests have none.
    entropy_source: PathBuf = PathBuf::from("/dev/urandom"), Never;
    /// Value of QEMU's `-sandbox`; empty for none.
    seccompsandbox: String = String::new(), Never, also ["hypervisor.qemu.seccomp_sandbox"];
    /// Let the kernel print its messages. Measured.
    enable_debug: bool = false, Never;

    unused {
        "rootfs_type": Text = "", Never, "root disks hold EROFS";
        "vm_rootfs_driver": Text = "", Never, "root disks are virtio-blk devices";
        "guest_extension_images": Tables = "", Never, "the guest's components are in the measured initrd";
        "disable_image_nvdimm": Bool = "true", Gated, "root disks are virtio-blk devices";
        "firmware_volume": Text = "", Gated, "the firmware keeps no variables";
        "pflashes": List = "[]", Never, "the firmware keeps no variables";
        "kernel_hash": Text = "", Gated, "the launch digest covers the kernel";
        "image_hash": Text = "", Gated, "the launch digest covers the root hash";
        "initrd_hash": Text = "", Gated, "the launch digest covers the initrd";
        "firmware_hash": Text = "", Gated, "the launch digest covers the firmware";
        "firmware_volume_hash": Text = "", Gated, "the firmware keeps no variables";
        "hypervisor_hash": Text = "", Gated, annotation ["hypervisor_hash", "path_hash"], "the host's programs are not trusted";
        "jailer_hash": Text = "", Gated, "there is no jailer";
        "asset_hash_type": Text = "", Gated, "the launch digest covers all assets";
        "measurement_algo": Text = "", Never, "the algorithm is fixed by the TEE";
        "jailer_path": Text = "", Gated, "there is no jailer";
        "ctlpath": Text = "", Gated, "it belongs to another hypervisor";
        "rootless": Bool = "false", Gated, "QEMU runs as the shim's user";
        "rootless_user": Text = "", Never, "QEMU runs as the shim's user";
        "default_maxvcpus": Number = "0", Gated, annotation ["default_max_vcpus"], "sandboxes are sized before they start";
        "default_maxmemory": Number = "0", Never, "sandboxes are sized before they start";
        "memory_slots": Number = "10", Gated, "sandboxes are sized before they start";
        "memory_offset": Number = "0", Gated, "sandboxes are sized before they start";
        "enable_virtio_mem": Bool = "false", Gated, "sandboxes are sized before they start";
        "reclaim_guest_freed_memory": Bool = "false", Gated, "a confidential guest does not give memory back";
        "enable_guest_swap": Bool = "false", Gated, "a confidential guest does not swap to the host";
        "guest_swap_path": Text = "", Never, "a confidential guest does not swap to the host";
        "guest_swap_size_percent": Number = "0", Never, "a confidential guest does not swap to the host";
        "guest_swap_create_threshold_secs": Number = "0", Never, "a confidential guest does not swap to the host";
        "hugepage_type": Text = "", Gated, "huge pages come from /dev/hugepages";
        "default_bridges": Number = "1", Never, "devices sit on the root bus";
        "pcie_root_port": Number = "0", Gated, "devices are not plugged in later";
        "pcie_switch_port": Number = "0", Gated, "devices are not plugged in later";
        "hotplug_vfio_on_root_bus": Bool = "false", Never, "devices are not plugged in later";
        "hot_plug_vfio": Text = "no-port", Gated, "devices are not plugged in later";
        "cold_plug_vfio": Text = "no-port", Gated, "device assignment is not supported yet";
        "default_gpus": Number = "0", Gated, "device assignment is not supported yet";
        "default_gpu_model": Text = "", Gated, "device assignment is not supported yet";
        "enable_iommu": Bool = "false", Gated, "device assignment is not supported yet";
        "enable_iommu_platform": Bool = "false", Gated, "confidential guests always use it";
        "enable_numa": Bool = "false", Never, "the guest has one node";
        "numa_mapping": List = "[]", Gated, "the guest has one node";
        "shared_fs": Text = "none", Gated, "nothing of the host's files is shared with the guest";
        "virtio_fs_daemon": Text = "", Gated, "nothing of the host's files is shared with the guest";
        "valid_virtio_fs_daemon_paths": List = "[]", Never, "nothing of the host's files is shared with the guest";
        "virtio_fs_cache": Text = "auto", Gated, "nothing of the host's files is shared with the guest";
        "virtio_fs_cache_size": Number = "0", Gated, "nothing of the host's files is shared with the guest";
        "virtio_fs_queue_size": Number = "1024", Never, "nothing of the host's files is shared with the guest";
        "virtio_fs_extra_args": List = "[]", Gated, "nothing of the host's files is shared with the guest";
        "virtio_fs_is_dax": Bool = "false", Never, "nothing of the host's files is shared with the guest";
        "msize_9p": Number = "8192", Gated, "nothing of the host's files is shared with the guest";
        "prefetch_list_path": Text = "", Gated, annotation ["prefetch_files.list"], "nothing of the host's files is shared with the guest";
        "block_device_driver": Text = "virtio-scsi", Gated, "the guest has no block device but initdata";
        "block_device_aio": Text = "io_uring", Gated, "the guest has no block device but initdata";
        "disable_block_device_use": Bool = "false", Gated, "the guest has no block device but initdata";
        "block_device_cache_set": Bool = "false", Gated, "the guest has no block device but initdata";
        "block_device_cache_direct": Bool = "false", Gated, "the guest has no block device but initdata";
        "block_device_cache_noflush": Bool = "false", Gated, "the guest has no block device but initdata";
        "block_device_logical_sector_size": Number = "0", Gated, annotation ["blk_logical_sector_size"], "the guest has no block device but initdata";
        "block_device_physical_sector_size": Number = "0", Gated, annotation ["blk_physical_sector_size"], "the guest has no block device but initdata";
        "queue_size": Number = "0", Gated, annotation ["block_device_queue_size"], "the guest has no block device but initdata";
        "num_queues": Number = "0", Gated, annotation ["block_device_num_queues"], "the guest has no block device but initdata";
        "enable_iothreads": Bool = "false", Gated, "the guest has no block device but initdata";
        "indep_iothreads": Number = "0", Gated, "the guest has no block device but initdata";
        "enable_vhost_user_store": Bool = "false", Gated, "vhost-user block devices are not supported";
        "vhost_user_store_path": Text = "", Gated, "vhost-user block devices are not supported";
        "valid_vhost_user_store_paths": List = "[]", Never, "vhost-user block devices are not supported";
        "vhost_user_reconnect_timeout_sec": Number = "0", Gated, "vhost-user block devices are not supported";
        "rx_rate_limiter_max_rate": Number = "0", Gated, "traffic is not shaped";
        "tx_rate_limiter_max_rate": Number = "0", Gated, "traffic is not shaped";
        "disk_rate_limiter_bw_max_rate": Number = "0", Never, "traffic is not shaped";
        "disk_rate_limiter_bw_one_time_burst": Number = "0", Never, "traffic is not shaped";
        "disk_rate_limiter_ops_max_rate": Number = "0", Never, "traffic is not shaped";
        "disk_rate_limiter_ops_one_time_burst": Number = "0", Never, "traffic is not shaped";
        "net_rate_limiter_bw_max_rate": Number = "0", Never, "traffic is not shaped";
        "net_rate_limiter_bw_one_time_burst": Number = "0", Never, "traffic is not shaped";
        "net_rate_limiter_ops_max_rate": Number = "0", Never, "traffic is not shaped";
        "net_rate_limiter_ops_one_time_burst": Number = "0", Never, "traffic is not shaped";
        "valid_entropy_sources": List = "[]", Never, "annotations cannot set entropy_source";
        "valid_jailer_paths": List = "[]", Never, "there is no jailer";
        "valid_ctlpaths": List = "[]", Never, "it belongs to another hypervisor";
        "guest_hook_path": Text = "", Gated, "hooks from the host have no place in the guest";
        "guest_memory_dump_path": Text = "", Never, "guest memory is not dumped";
        "guest_memory_dump_paging": Bool = "false", Never, "guest memory is not dumped";
        "extra_monitor_socket": Text = "", Never, "QEMU has one monitor, the shim's";
        "use_legacy_serial": Bool = "true", Gated, "the console is always a serial port";
        "disable_nesting_checks": Bool = "true", Never, "devices are always modern virtio";
        "disable_selinux": Bool = "false", Never, "QEMU keeps the shim's context";
        "selinux_label": Text = "", Never, "SELinux labels are not used in the guest";
        "disable_guest_selinux": Bool = "true", Never, "SELinux labels are not used in the guest";
        "disable_seccomp": Bool = "false", Never, "it belongs to another hypervisor";
        "hypervisor_loglevel": Number = "0", Never, also ["hypervisor.qemu.log_level"], "QEMU's messages are always kept";
        "remote_hypervisor_socket": Text = "", Never, "it belongs to another hypervisor";
        "remote_hypervisor_timeout": Number = "0", Never, "it belongs to another hypervisor";
        "factory": Tables = "", Never, "virtual machines are not cloned from templates";
    }
}

settings! {
    /// `[agent.kata]`: talking to the agent in the guest.
    AgentSettings, "agent.kata";

    /// The agent logs at debug level, on the console. Measured.
    enable_debug: bool = false, Never;
    /// The agent's log level; empty for its own default. Measured.
    log_level: LogLevel = LogLevel::Default, Never;
    /// How long the agent may take to answer after QEMU started.
    dial_timeout: Timeout = Timeout::seconds(90), Never, also ["agent.kata.reconnect_timeout_ms"];
    /// How long the guest may take to answer requests for resources. Measured unless it is the default.
    cdh_api_timeout: Timeout = Timeout::seconds(12), Always, also ["agent.kata.cdh_api_timeout_ms"], annotation ["cdh_api_timeout", "cdh_api_timeout_ms"];

    unused {
        "debug_console_enabled": Bool = "false", Never, "the guest offers no shell";
        "container_pipe_size": Number = "0", Always, "pipes have the kernel's default size";
        "kernel_modules": List = "[]", Always, "the guest loads the modules of its initrd";
        "dial_timeout_ms": Number = "100", Never, "the agent is reached as soon as it listens";
        "launch_process_timeout": Number = "6", Never, "the agent starts no helper processes";
        "enable_tracing": Bool = "false", Always, "the agent writes no traces";
        "server_port": Number = "1024", Never, "the agent's ports are fixed";
        "log_port": Number = "1025", Never, "the agent's ports are fixed";
        "passfd_listener_port": Number = "0", Never, "the agent's ports are fixed";
        "health_check_request_timeout_ms": Number = "0", Never, "health checks have a fixed limit";
        "visible_cdi_devices": Text = "", Never, "device assignment is not supported yet";
        "mem_agent": Tables = "", Never, "the guest's memory is not managed from outside";
    }
}

settings! {
    /// `[runtime]`: the shim.
    RuntimeSettings, "runtime";

    /// The shim logs at debug level.
    enable_debug: bool = false, Never;
    /// How the sandbox joins the pod's network.
    internetworking_model: NetworkModel = NetworkModel::TcFilter, Always;
    /// Leave the network namespace alone.
    disable_new_netns: bool = false, Always;
    /// Refuse to run where the sandbox's processes cannot be put into a control group beside the containers' (else: warn).
    sandbox_cgroup_only: bool = false, Always;
    /// How long creating a container may take, image pull included.
    create_container_timeout: Timeout = Timeout::seconds(60), Always, also ["agent.kata.create_container_timeout"];
    /// File to which each sandbox appends the stages of its start, one JSON document a line; empty for none.
    trail_path: PathBuf = PathBuf::new(), Never;

    unused {
        "name": Text = "", Never, "there is one runtime";
        "hypervisor_name": Text = "qemu", Never, "there is one hypervisor";
        "agent_name": Text = "kata", Never, "there is one agent";
        "log_level": Text = "", Never, "see enable_debug";
        "disable_guest_seccomp": Bool = "true", Always, "the guest applies no seccomp profiles";
        "static_sandbox_resource_mgmt": Bool = "true", Never, "sandboxes are always sized before they start";
        "experimental_force_guest_pull": Bool = "true", Always, "images are always pulled inside the guest";
        "experimental": List = "[]", Always, "nothing is experimental";
        "emptydir_mode": Text = "shared-fs", Never, "emptyDir volumes live in the guest's memory";
        "disable_guest_empty_dir": Bool = "false", Never, "emptyDir volumes live in the guest's memory";
        "kubelet_root_dir": Text = "/var/lib/kubelet", Never, "nothing of the host's files is shared with the guest";
        "sandbox_bind_mounts": List = "[]", Never, "nothing of the host's files is shared with the guest";
        "shared_mounts": List = "[]", Never, "nothing of the host's files is shared with the guest";
        "enable_vcpus_pinning": Bool = "false", Always, "virtual CPUs are not pinned";
        "guest_selinux_label": Text = "", Always, "SELinux labels are not used in the guest";
        "enable_tracing": Bool = "false", Never, "the shim writes no traces";
        "jaeger_endpoint": Text = "", Never, "the shim writes no traces";
        "jaeger_user": Text = "", Never, "the shim writes no traces";
        "jaeger_password": Text = "", Never, "the shim writes no traces";
        "enable_pprof": Bool = "false", Always, "the shim has no profiler";
        "vfio_mode": Text = "guest-kernel", Always, "device assignment is not supported yet";
        "pod_resource_api_sock": Text = "", Never, "device assignment is not supported yet";
        "dan_conf": Text = "", Never, "interfaces are found by scanning the network namespace";
        "keep_abnormal": Bool = "false", Never, "a failed sandbox leaves nothing behind";
        "use_passfd_io": Bool = "false", Never, "output goes through the agent's API";
    }
}

settings! {
    /// `[image]`: container images.
    ImageSettings, "image";

    /// How long the guest may take to pull an image; 0 to leave it to the agent. Measured unless it is 0.
    pull_timeout: u32 = 0, Never;

    unused {
        "service_offload": Bool = "true", Never, "images are always pulled inside the guest";
        "provision": Text = "", Never, "images are always pulled inside the guest";
    }
}

settings! {
    /// `[factory]`: clones of virtual machines, which do not exist for confidential guests.
    FactorySettings, "factory";

    /// Start virtual machines as clones of a template. Refused: a clone shares memory with its template.
    enable_template: bool = false, Never;

    unused {
        "template_path": Text = "", Never, "virtual machines are not cloned from templates";
        "vm_cache_number": Number = "0", Never, "virtual machines are not cloned from templates";
        "vm_cache_endpoint": Text = "", Never, "virtual machines are not cloned from templates";
    }
}
