//! Memory and folders that the containers of the pod share.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use redoubt_agent_api::agent::Storage;
use rustix::fs::{Gid, Mode, fchmod, fchown};

use crate::beneath::{self, Folder};
use crate::error::{AgentError, Result};

/// The most storages of the pod.
const MAX_STORAGES: usize = 256;
const DEFAULT_MODE: u32 = 0o777;

/// One storage.
#[derive(Debug)]
struct Entry {
    /// Containers that were made with it, and the sandbox.
    users: usize,
    mounted: bool,
}

/// The storages of the pod, by their places. They stay until the pod ends: a
/// container that is started again finds what it left.
#[derive(Debug)]
pub(crate) struct Storages {
    folder: PathBuf,
    entries: BTreeMap<PathBuf, Entry>,
}

impl Storages {
    /// Storages below a folder, which is made with the first of them.
    pub(crate) fn below(folder: PathBuf) -> Self {
        Self {
            folder,
            entries: BTreeMap::new(),
        }
    }

    /// Makes a storage, or uses one that is there; returns its place.
    pub(crate) fn take(&mut self, storage: &Storage) -> Result<PathBuf> {
        let place = Path::new(&storage.mount_point);
        let inside = beneath::inside(&self.folder, place)
            .ok_or_else(|| refused(storage, "it is outside of the sandbox's folder"))?;
        let plan = Plan::of(storage)?;
        let place = self.folder.join(inside);
        if let Some(entry) = self.entries.get_mut(&place) {
            entry.users += 1;
            return Ok(place);
        }
        if self.entries.len() >= MAX_STORAGES {
            return Err(refused(storage, "there are 256 storages already"));
        }
        let mounted = self.make(inside, &plan, storage)?;
        self.entries
            .insert(place.clone(), Entry { users: 1, mounted });
        Ok(place)
    }

    /// Undoes [`take`](Self::take): the last one to do so unmounts.
    pub(crate) fn give_back(&mut self, place: &Path) {
        let Some(entry) = self.entries.get_mut(place) else {
            return;
        };
        entry.users -= 1;
        if entry.users == 0
            && let Some(entry) = self.entries.remove(place)
        {
            self.remove(place, &entry);
        }
    }

    /// Removes all storages.
    pub(crate) fn clear(&mut self) {
        // Those inside of others come later in the order.
        while let Some((place, entry)) = self.entries.pop_last() {
            self.remove(&place, &entry);
        }
    }

    fn make(&self, inside: &Path, plan: &Plan, storage: &Storage) -> Result<bool> {
        let place = self.folder.join(inside);
        let (folder, is_new) = Folder::open(&self.folder)
            .and_then(|folder| folder.make(inside, Mode::from_raw_mode(0o755)))
            .map_err(AgentError::file("create", &place))?;
        let made = match plan {
            Plan::Memory { flags, data } => {
                // What was opened, not whatever stands under its name by now.
                mount(
                    Some("shm"),
                    &beneath::name_of(&folder),
                    Some("tmpfs"),
                    *flags,
                    Some(data.as_str()),
                )
                .map_err(std::io::Error::from)
            }
            Plan::Folder { mode } => own(&folder, *mode, storage),
        };
        if let Err(error) = made {
            if is_new {
                beneath::remove_folder(&self.folder, inside);
            }
            return Err(AgentError::file("prepare", place)(error));
        }
        Ok(matches!(plan, Plan::Memory { .. }))
    }

    fn remove(&self, place: &Path, entry: &Entry) {
        let Some(inside) = beneath::inside(&self.folder, place) else {
            return;
        };
        if entry.mounted
            && let Ok(found) = Folder::open(&self.folder).and_then(|folder| folder.find(inside))
            && let Err(errno) = umount2(&beneath::name_of(&found), MntFlags::MNT_DETACH)
        {
            tracing::warn!(%errno, "cannot unmount a storage");
        }
        beneath::remove_folder(&self.folder, inside);
    }
}

/// Kubernetes' `fsGroup` owns the folder and what is made in it.
fn own(folder: &Folder, mode: u32, storage: &Storage) -> std::io::Result<()> {
    let mut mode = mode;
    if let Some(group) = storage.fs_group.as_ref() {
        fchown(folder, None, Some(Gid::from_raw(group.group_id)))?;
        mode |= 0o2070;
    }
    Ok(fchmod(folder, Mode::from_raw_mode(mode))?)
}

fn refused(storage: &Storage, reason: &'static str) -> AgentError {
    AgentError::Storage {
        driver: storage.driver.chars().take(32).collect(),
        mount_point: storage.mount_point.chars().take(128).collect(),
        reason,
    }
}

/// What a storage is.
#[derive(Debug, PartialEq, Eq)]
enum Plan {
    /// A memory file system.
    Memory { flags: MsFlags, data: String },
    /// A folder in the guest's own memory.
    Folder { mode: u32 },
}

impl Plan {
    fn of(storage: &Storage) -> Result<Self> {
        match (storage.driver.as_str(), storage.fstype.as_str()) {
            ("local", _) => {
                let mode = storage
                    .options
                    .iter()
                    .find_map(|option| option.strip_prefix("mode="));
                let mode = mode.map_or(Ok(DEFAULT_MODE), |mode| u32::from_str_radix(mode, 8));
                match mode {
                    Ok(mode) if mode <= 0o7777 => Ok(Self::Folder { mode }),
                    _ => Err(refused(storage, "its mode is not an octal number")),
                }
            }
            ("ephemeral", "tmpfs") => memory(storage),
            ("ephemeral", _) => Err(refused(storage, "only tmpfs is memory of this guest")),
            _ => Err(refused(storage, "this guest has no such driver")),
        }
    }
}

fn memory(storage: &Storage) -> Result<Plan> {
    let mut flags = MsFlags::empty();
    let mut data = Vec::new();
    for option in &storage.options {
        match option.as_str() {
            "noexec" => flags |= MsFlags::MS_NOEXEC,
            "nosuid" => flags |= MsFlags::MS_NOSUID,
            "nodev" => flags |= MsFlags::MS_NODEV,
            "noatime" => flags |= MsFlags::MS_NOATIME,
            "ro" => flags |= MsFlags::MS_RDONLY,
            "rw" | "defaults" => {}
            other if is_tmpfs_option(other) => data.push(other.to_owned()),
            _ => return Err(refused(storage, "a tmpfs has no such option")),
        }
    }
    if let Some(group) = storage.fs_group.as_ref() {
        data.push(format!("gid={}", group.group_id));
    }
    Ok(Plan::Memory {
        flags,
        data: data.join(","),
    })
}

fn is_tmpfs_option(option: &str) -> bool {
    option.split_once('=').is_some_and(|(name, value)| {
        ["mode", "size", "uid", "gid", "nr_inodes"].contains(&name)
            && !value.is_empty()
            && value
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'%')
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn local(place: &Path) -> Storage {
        Storage {
            driver: "local".to_owned(),
            mount_point: place.to_str().unwrap().to_owned(),
            options: vec!["mode=1777".to_owned()],
            ..Storage::default()
        }
    }

    #[test]
    fn storages_outside_of_the_sandboxs_folder_are_refused() {
        let root = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        symlink(outside.path(), root.path().join("link")).unwrap();
        let mut storages = Storages::below(root.path().to_owned());
        for place in [
            PathBuf::from("/etc/x"),
            root.path().to_owned(),
            root.path().join("../x"),
            root.path().join("link"),
            root.path().join("link/x"),
            "relative".into(),
            PathBuf::new(),
        ] {
            assert!(
                storages.take(&local(&place)).is_err(),
                "{}",
                place.display()
            );
        }
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
        assert!(storages.entries.is_empty());
    }

    #[test]
    fn the_last_user_that_gives_back_removes_a_storage() {
        let root = tempfile::tempdir().unwrap();
        let place = root.path().join("a/data");
        let mut storages = Storages::below(root.path().to_owned());
        storages.take(&local(&place)).unwrap();
        let mode = fs::metadata(&place).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o1777);
        storages.take(&local(&place)).unwrap();
        storages.give_back(&place);
        assert!(place.exists());
        storages.give_back(&place);
        assert!(!place.exists());
        storages.take(&local(&place)).unwrap();
        storages.clear();
        assert!(!place.exists());
    }

    #[test]
    fn options_of_a_tmpfs_are_from_a_list() {
        let plan = |options: &[&str]| {
            Plan::of(&Storage {
                driver: "ephemeral".to_owned(),
                fstype: "tmpfs".to_owned(),
                options: options.iter().map(|option| (*option).to_owned()).collect(),
                ..Storage::default()
            })
        };
        let good = plan(&["noexec", "nosuid", "nodev", "mode=1777", "size=67108864"]).unwrap();
        let flags = MsFlags::MS_NOEXEC | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        let data = "mode=1777,size=67108864".to_owned();
        assert_eq!(good, Plan::Memory { flags, data });
        for option in ["huge=always", "size=", "size=1,uid=0", "exec", ""] {
            assert!(plan(&[option]).is_err(), "{option}");
        }
    }

    #[test]
    fn other_drivers_and_file_systems_are_refused() {
        for (driver, fstype) in [
            ("ephemeral", "ext4"),
            ("blk", "ext4"),
            ("overlayfs", ""),
            ("", ""),
        ] {
            let storage = Storage {
                driver: driver.to_owned(),
                fstype: fstype.to_owned(),
                ..Storage::default()
            };
            assert!(
                matches!(Plan::of(&storage), Err(AgentError::Storage { .. })),
                "{driver}"
            );
        }
    }
}
