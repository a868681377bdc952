//! What a container may mount, whatever the policy says.
//!
//! A policy that forgets a member of a request must not open the guest: file
//! systems are those of the kernel that name no device and no folder, and the
//! sources of bind mounts are in the folders that the pod shares.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use redoubt_agent_api::oci;
use rustix::fs::FileType;

use crate::beneath::{self, Folder};
use crate::error::{AgentError, Result};

/// The kernel's own file systems that a container may have.
const FILE_SYSTEMS: [&str; 7] = [
    "proc", "sysfs", "tmpfs", "devpts", "mqueue", "cgroup", "cgroup2",
];
const BIND: &str = "bind";
/// The most mounts of a container.
const MAX_MOUNTS: usize = 256;

/// Whether a mount shows a folder or file that exists already.
fn is_bind(mount: &oci::Mount) -> bool {
    mount.type_ == BIND
        || mount
            .options
            .iter()
            .any(|option| option == BIND || option == "rbind")
}

/// Refuses mounts that no container gets. Pure; sources are looked at by [`Pins::make`].
pub(crate) fn check(mounts: &[oci::Mount]) -> Result<()> {
    if mounts.len() > MAX_MOUNTS {
        return Err(AgentError::request("there are more than 256 mounts"));
    }
    mounts.iter().try_for_each(check_one)
}

fn check_one(mount: &oci::Mount) -> Result<()> {
    let allowed = if is_bind(mount) {
        matches!(mount.type_.as_str(), BIND | "none" | "")
    } else {
        FILE_SYSTEMS.contains(&mount.type_.as_str())
    };
    if !allowed {
        return Err(AgentError::MountType {
            destination: bounded(&mount.destination),
            kind: bounded(&mount.type_),
        });
    }
    if mount.destination.starts_with('/') {
        Ok(())
    } else {
        Err(AgentError::request(
            "a mount's destination is not an absolute path",
        ))
    }
}

fn bounded(text: &str) -> String {
    text.chars().take(128).collect()
}

/// Adds the pod's name servers where the request mounts none.
pub(crate) fn add_name_servers(mounts: &mut Vec<oci::Mount>, file: &Path) {
    const DESTINATION: &str = "/etc/resolv.conf";
    if mounts.iter().any(|mount| mount.destination == DESTINATION) {
        return;
    }
    mounts.push(oci::Mount {
        destination: DESTINATION.to_owned(),
        source: file.to_string_lossy().into_owned(),
        type_: BIND.to_owned(),
        options: ["bind", "ro", "nosuid", "nodev", "noexec"]
            .map(str::to_owned)
            .to_vec(),
        ..oci::Mount::default()
    });
}

/// The sources of a container's bind mounts, each mounted once more at a place
/// that only the agent can change.
///
/// A container that can write into a shared folder could put a link in the
/// place of a source after it was checked; the place here stays what it was.
#[derive(Debug, Default)]
pub(crate) struct Pins(Vec<PathBuf>);

impl Pins {
    /// Pins all sources and names the pins in their place. On failure nothing is left.
    pub(crate) fn make(
        mounts: &mut [oci::Mount],
        shared: &[PathBuf],
        bundle: &Path,
    ) -> Result<Self> {
        let mut pins = Self::default();
        for (index, mount) in mounts.iter_mut().enumerate() {
            if !is_bind(mount) {
                continue;
            }
            let place = bundle.join(format!("mount-{index}"));
            if let Err(error) = pins.add(Path::new(&mount.source), shared, &place) {
                pins.release();
                return Err(error);
            }
            mount.source = place.to_string_lossy().into_owned();
            BIND.clone_into(&mut mount.type_);
        }
        Ok(pins)
    }

    fn add(&mut self, source: &Path, shared: &[PathBuf], place: &Path) -> Result<()> {
        let (found, is_folder) = find_source(source, shared)?;
        let made = if is_folder {
            fs::create_dir(place)
        } else {
            File::create_new(place).map(|_| ())
        };
        made.map_err(AgentError::file("create", place))?;
        self.0.push(place.to_owned());
        mount(
            Some(&beneath::name_of(&found)),
            place,
            None::<&str>,
            MsFlags::MS_BIND | MsFlags::MS_REC,
            None::<&str>,
        )
        .map_err(|errno| AgentError::file("mount", place)(errno.into()))
    }

    /// Undoes all of it.
    pub(crate) fn release(&mut self) {
        for place in self.0.drain(..).rev() {
            let flags = MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW;
            // Fails where the mount itself had failed.
            let _ = umount2(&place, flags);
            // Only an empty folder or file: never what is mounted there.
            let _ = fs::remove_dir(&place).or_else(|_| fs::remove_file(&place));
        }
    }
}

/// Opens the source of a bind mount; tells whether it is a folder.
fn find_source(source: &Path, shared: &[PathBuf]) -> Result<(OwnedFd, bool)> {
    let refused = || AgentError::Path {
        what: "mount source",
        path: bounded(&source.to_string_lossy()).into(),
    };
    let (folder, inside) = shared
        .iter()
        .find_map(|folder| Some((folder, beneath::inside(folder, source)?)))
        .ok_or_else(refused)?;
    let failed =
        |error: io::Error| AgentError::file("find", bounded(&source.to_string_lossy()))(error);
    let found = Folder::open(folder)
        .and_then(|folder| folder.find(inside))
        .map_err(failed)?;
    let kind = rustix::fs::fstat(&found).map_err(|errno| failed(errno.into()))?;
    match FileType::from_raw_mode(kind.st_mode) {
        FileType::Directory => Ok((found, true)),
        FileType::RegularFile => Ok((found, false)),
        _ => Err(refused()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn mount(kind: &str, source: &str, options: &[&str]) -> oci::Mount {
        oci::Mount {
            destination: "/x".to_owned(),
            type_: kind.to_owned(),
            source: source.to_owned(),
            options: options.iter().map(|option| (*option).to_owned()).collect(),
            ..oci::Mount::default()
        }
    }

    #[test]
    fn only_the_kernels_own_file_systems_are_mounted() {
        for kind in FILE_SYSTEMS {
            check(&[mount(kind, "x", &[])]).unwrap();
            // A bind mount that says it is something else.
            assert!(check(&[mount(kind, "/etc", &["rbind"])]).is_err(), "{kind}");
        }
        for kind in [
            "overlay",
            "ext4",
            "9p",
            "virtiofs",
            "devtmpfs",
            "debugfs",
            "securityfs",
            "fuse",
            "",
            "none",
        ] {
            let error = check(&[mount(kind, "x", &["lowerdir=/,upperdir=/u"])]).unwrap_err();
            assert!(
                matches!(error, AgentError::MountType { .. }),
                "{kind}: {error}"
            );
        }
        for kind in ["bind", "none", ""] {
            check(&[mount(kind, "/run/x", &["rbind", "ro"])]).unwrap();
        }
    }

    #[test]
    fn destinations_are_absolute_and_mounts_are_bounded() {
        let mut relative = mount("proc", "proc", &[]);
        relative.destination = "../x".to_owned();
        assert!(check(&[relative]).is_err());
        let many = vec![mount("proc", "proc", &[]); MAX_MOUNTS + 1];
        assert!(check(&many).is_err());
    }

    #[test]
    fn sources_are_below_the_shared_folders_and_behind_no_link() {
        let root = tempfile::tempdir().unwrap();
        let shared = [root.path().join("sandbox"), root.path().join("files")];
        fs::create_dir_all(shared[0].join("shm")).unwrap();
        fs::create_dir_all(&shared[1]).unwrap();
        fs::write(shared[1].join("hosts"), "x").unwrap();
        fs::write(root.path().join("secret"), "x").unwrap();
        symlink("../secret", shared[0].join("near")).unwrap();
        symlink("/etc", shared[0].join("shm/far")).unwrap();
        nix::unistd::mkfifo(&shared[0].join("fifo"), nix::sys::stat::Mode::S_IRUSR).unwrap();

        let find = |path: PathBuf| find_source(&path, &shared);
        assert!(find(shared[0].join("shm")).unwrap().1);
        assert!(!find(shared[1].join("hosts")).unwrap().1);
        for path in [
            shared[0].clone(),
            shared[0].join("near"),
            shared[0].join("shm/far"),
            shared[0].join("shm/far/passwd"),
            shared[0].join("shm/../../secret"),
            shared[0].join("fifo"),
            shared[0].join("missing"),
            root.path().join("secret"),
            "/etc".into(),
            "relative".into(),
            PathBuf::new(),
        ] {
            assert!(find(path.clone()).is_err(), "{}", path.display());
        }
    }

    #[test]
    fn a_failed_pin_leaves_nothing() {
        let bundle = tempfile::tempdir().unwrap();
        let mut mounts = [mount("bind", "/etc", &["rbind"])];
        let pins = Pins::make(&mut mounts, &["/nowhere".into()], bundle.path());
        assert!(matches!(pins, Err(AgentError::Path { .. })));
        assert_eq!(mounts[0].source, "/etc");
        assert_eq!(fs::read_dir(bundle.path()).unwrap().count(), 0);
    }

    #[test]
    fn name_servers_are_added_once() {
        let mut mounts = Vec::new();
        add_name_servers(&mut mounts, Path::new("/run/r"));
        add_name_servers(&mut mounts, Path::new("/run/other"));
        assert_eq!(mounts.len(), 1);
        assert_eq!(mounts[0].source, "/run/r");
        check(&mounts).unwrap();
    }
}
