//! Which mounts of a specification can exist in a guest that shares no files with
//! the host. Pure.

use std::path::{Path, PathBuf};

use redoubt_agent_api::oci;
use sha2::{Digest, Sha256};

use super::model::Mount;
use crate::error::{Result, ShimError};

/// Where the sandbox's shared memory is mounted in the guest.
pub const SHM_MOUNT_POINT: &str = "/run/kata-containers/sandbox/shm";

/// Folder in the guest for files copied from the host.
const COPY_DIR: &str = "/run/kata-containers/shared/containers";

/// Small files that runtimes put into every container, by their place in it.
const COPIED_FILES: [&str; 4] = [
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/hostname",
    "/dev/termination-log",
];

/// File systems that the guest's own kernel provides.
const KERNEL_FILE_SYSTEMS: [&str; 15] = [
    "proc",
    "sysfs",
    "tmpfs",
    "devpts",
    "mqueue",
    "cgroup",
    "cgroup2",
    "securityfs",
    "debugfs",
    "tracefs",
    "bpf",
    "configfs",
    "hugetlbfs",
    "binfmt_misc",
    "fusectl",
];

/// A file to copy into the guest for one mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileCopy {
    /// The file on the host.
    pub source: PathBuf,
    /// Where it goes in the guest; the mount's source.
    pub guest_path: String,
    /// The mount's place in the container.
    pub destination: String,
}

/// The mounts of a container in the guest, and the files that they need.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MountPlan {
    /// Mounts in the order of the specification.
    pub mounts: Vec<oci::Mount>,
    /// Files to copy beforehand.
    pub copies: Vec<FileCopy>,
}

impl MountPlan {
    /// Drops the mount of a file that could not be copied.
    pub fn skip(&mut self, copy: &FileCopy) {
        self.mounts.retain(|mount| mount.source != copy.guest_path);
    }
}

/// Sorts out the mounts of container `id`; one that needs more of the host is an error.
pub fn plan_mounts(id: &str, mounts: &[Mount]) -> Result<MountPlan> {
    let mut plan = MountPlan::default();
    for mount in mounts {
        let mut guest = oci::Mount {
            destination: mount.destination.clone(),
            source: mount.source.clone(),
            type_: mount.kind.clone(),
            options: mount.options.clone(),
            ..oci::Mount::default()
        };
        if mount.destination == "/dev/shm" {
            SHM_MOUNT_POINT.clone_into(&mut guest.source);
            "bind".clone_into(&mut guest.type_);
            guest.options = vec!["rbind".to_owned()];
        } else if is_bind(mount) {
            let copy = file_copy(id, mount)?;
            guest.source.clone_from(&copy.guest_path);
            plan.copies.push(copy);
        } else if !KERNEL_FILE_SYSTEMS.contains(&mount.kind.as_str()) {
            return Err(host_mount(mount));
        }
        plan.mounts.push(guest);
    }
    Ok(plan)
}

fn is_bind(mount: &Mount) -> bool {
    mount.kind == "bind"
        || mount
            .options
            .iter()
            .any(|option| option == "bind" || option == "rbind")
}

fn file_copy(id: &str, mount: &Mount) -> Result<FileCopy> {
    let name = Path::new(&mount.destination)
        .file_name()
        .and_then(|name| name.to_str());
    let Some(name) = name.filter(|_| COPIED_FILES.contains(&mount.destination.as_str())) else {
        return Err(host_mount(mount));
    };
    let tag = Sha256::new()
        .chain_update(id)
        .chain_update([0])
        .chain_update(&mount.destination);
    let tag = hex::encode(&tag.finalize()[..8]);
    Ok(FileCopy {
        source: PathBuf::from(&mount.source),
        guest_path: format!("{COPY_DIR}/{id}-{tag}-{name}"),
        destination: mount.destination.clone(),
    })
}

fn host_mount(mount: &Mount) -> ShimError {
    ShimError::HostMount {
        destination: mount.destination.clone(),
        origin: mount.source.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Mount {
        Mount {
            destination: destination.to_owned(),
            kind: kind.to_owned(),
            source: source.to_owned(),
            options: options.iter().map(|option| (*option).to_owned()).collect(),
        }
    }

    #[test]
    fn shared_memory_becomes_the_sandboxs() {
        for shm in [
            mount("/dev/shm", "tmpfs", "shm", &["nosuid", "size=65536k"]),
            mount(
                "/dev/shm",
                "bind",
                "/run/containerd/x/shm",
                &["rbind", "ro"],
            ),
        ] {
            let plan = plan_mounts("web", &[shm]).unwrap();
            assert_eq!(plan.mounts[0].source, SHM_MOUNT_POINT);
            assert_eq!(plan.mounts[0].options, ["rbind"]);
            assert!(plan.copies.is_empty());
        }
    }

    #[test]
    fn known_small_files_are_copied_under_katas_names() {
        let hosts = mount(
            "/etc/hosts",
            "bind",
            "/var/lib/x/hosts",
            &["rbind", "rprivate", "rw"],
        );
        let mut plan = plan_mounts("web", &[hosts]).unwrap();
        insta::assert_snapshot!(plan.copies[0].guest_path, @"/run/kata-containers/shared/containers/web-147359cf97545a4d-hosts");
        assert_eq!(plan.mounts[0].source, plan.copies[0].guest_path);
        assert_eq!(plan.mounts[0].options, ["rbind", "rprivate", "rw"]);
        let copy = plan.copies[0].clone();
        plan.skip(&copy);
        assert!(plan.mounts.is_empty());
    }

    #[test]
    fn other_host_paths_are_refused_by_name() {
        let data = mount("/data", "bind", "/srv/data", &["rbind"]);
        let disk = mount("/mnt", "ext4", "/dev/sdb1", &[]);
        insta::assert_snapshot!(plan_mounts("web", &[data]).unwrap_err().one_line(), @"[RDT-SHIM-040] mount /data needs the host path /srv/data, and no file system is shared with the guest (hint: remove the mount, or put the files into the image)");
        assert!(matches!(
            plan_mounts("web", &[disk]),
            Err(ShimError::HostMount { .. })
        ));
    }

    #[test]
    fn kernel_file_systems_pass_in_order() {
        let plan = plan_mounts(
            "web",
            &[
                mount("/proc", "proc", "proc", &["nosuid"]),
                mount("/sys", "sysfs", "sysfs", &["ro"]),
            ],
        )
        .unwrap();
        let places: Vec<_> = plan
            .mounts
            .iter()
            .map(|mount| mount.destination.as_str())
            .collect();
        assert_eq!(places, ["/proc", "/sys"]);
    }
}
