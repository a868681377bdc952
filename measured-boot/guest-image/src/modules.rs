//! Which kernel modules the guest loads, in which order, and why.

/// Where the agent finds the list of modules in the initrd.
pub const MODULE_LIST_PATH: &str = "etc/redoubt/modules";

/// The folder of the modules in the initrd.
const MODULE_DIR: &str = "lib/modules";

/// One module of the guest kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestModule {
    /// The module's name, as its file is called without `.ko`.
    pub name: &'static str,
    /// Whether the guest cannot do without it. An optional module may be
    /// missing in the kernel (built in) or refuse to load (no such device).
    pub required: bool,
}

const fn required(name: &'static str) -> GuestModule {
    GuestModule {
        name,
        required: true,
    }
}

const fn optional(name: &'static str) -> GuestModule {
    GuestModule {
        name,
        required: false,
    }
}

/// The modules in the order in which they are loaded: each after what it needs.
pub const GUEST_MODULES: [GuestModule; 15] = [
    // Part of newer kernels.
    optional("virtio_ring"),
    optional("virtio"),
    optional("virtio_pci_modern_dev"),
    optional("virtio_pci_legacy_dev"),
    optional("virtio_pci"),
    // The line to the shim and, in a simulated launch, to the software PSP.
    required("vsock"),
    required("vmw_vsock_virtio_transport_common"),
    required("vmw_vsock_virtio_transport"),
    // The initdata disk, the pod's network, root file systems of containers.
    required("virtio_blk"),
    required("failover"),
    required("net_failover"),
    required("virtio_net"),
    required("overlay"),
    // Evidence of SEV-SNP: configfs-tsm and the device that it stands on.
    optional("tsm"),
    optional("sev-guest"),
];

/// The modules that open a root disk, in the order in which they are loaded.
pub const LOADER_MODULES: [GuestModule; 12] = [
    // Part of newer kernels.
    optional("virtio_ring"),
    optional("virtio"),
    optional("virtio_pci_modern_dev"),
    optional("virtio_pci_legacy_dev"),
    optional("virtio_pci"),
    required("virtio_blk"),
    required("dm-mod"),
    required("dm-bufio"),
    // Error correction, which is not used; dm-verity does not load without it.
    optional("reed_solomon"),
    required("dm-verity"),
    optional("libcrc32c"),
    required("erofs"),
];

impl GuestModule {
    /// The module's path in the initrd.
    pub fn path(&self) -> String {
        format!("{MODULE_DIR}/{}.ko", self.name)
    }
}

/// The list that the agent reads: a path a line, `?` before those that may fail.
pub fn module_list(present: &[GuestModule]) -> String {
    let mut list = String::new();
    for module in present {
        let mark = if module.required { "" } else { "?" };
        list.extend([mark, "/", &module.path(), "\n"]);
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_names_absolute_paths_and_marks_optional_modules() {
        let list = module_list(&[required("vsock"), optional("tsm")]);
        assert_eq!(list, "/lib/modules/vsock.ko\n?/lib/modules/tsm.ko\n");
    }
}
