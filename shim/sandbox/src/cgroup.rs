//! The control group of a sandbox's processes on the host.
//!
//! It stands beside the containers' groups of the specification, so that the memory and the
//! processor time of QEMU and its helpers count against the pod and its overhead, whose
//! limits the group above carries.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use crate::error::SandboxError;
use crate::sys;

/// What a sandbox's group is called, before the name of its first container's group.
const PREFIX: &str = "kata_";
/// The folder of groups whose specification names none.
const DEFAULT_PARENT: &str = "redoubt";
/// Longest path that is taken from a specification, in bytes.
const MAX_PATH_BYTES: usize = 1024;
/// The controllers of cgroup v1 that account or limit what a sandbox takes.
const V1_CONTROLLERS: [&str; 6] = ["cpu", "cpuacct", "memory", "pids", "blkio", "hugetlb"];
/// Controllers to hand down in cgroup v2.
const V2_CONTROLLERS: [&str; 5] = ["cpu", "memory", "pids", "io", "hugetlb"];
/// How often, and how long in between, the removal of a group is tried whose processes
/// are just ending.
const REMOVAL: (u32, Duration) = (50, Duration::from_millis(20));

/// The groups of one sandbox: one in each hierarchy of cgroup v1, or the one of v2.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cgroups {
    leaves: Vec<PathBuf>,
    unified: bool,
    required: bool,
}

impl Cgroups {
    /// Where the sandbox's groups belong on this host. Creates nothing.
    pub(crate) fn locate(
        specified: &str,
        sandbox_id: &str,
        required: bool,
    ) -> Result<Self, SandboxError> {
        let failed = |reason: io::Error| SandboxError::Cgroup {
            path: specified.into(),
            source: reason,
        };
        let path = relative_path(specified, sandbox_id)
            .map_err(|reason| failed(io::Error::new(io::ErrorKind::InvalidInput, reason)))?;
        let mounts = fs::read_to_string("/proc/self/mountinfo").map_err(failed)?;
        let hierarchies = Hierarchies::parse(&mounts);
        if hierarchies.mounts.is_empty() {
            return Err(failed(io::Error::new(
                io::ErrorKind::NotFound,
                "no cgroup file system is mounted",
            )));
        }
        Ok(Self {
            leaves: hierarchies
                .mounts
                .iter()
                .map(|mount| mount.join(&path))
                .collect(),
            unified: hierarchies.unified,
            required,
        })
    }

    /// The folders that [`Self::create`] is going to make, those above first.
    pub(crate) fn missing(&self) -> Vec<PathBuf> {
        let mut missing = Vec::new();
        for leaf in &self.leaves {
            let mut above: Vec<PathBuf> = leaf
                .ancestors()
                .take_while(|dir| !dir.exists())
                .map(Path::to_owned)
                .collect();
            above.reverse();
            missing.append(&mut above);
        }
        missing
    }

    /// Makes the groups.
    pub(crate) fn create(&self) -> Result<(), SandboxError> {
        for leaf in &self.leaves {
            let missing = leaf.ancestors().take_while(|dir| !dir.exists()).count();
            fs::create_dir_all(leaf).map_err(|source| SandboxError::Cgroup {
                path: leaf.clone(),
                source,
            })?;
            if self.unified {
                hand_down(leaf, missing);
            }
        }
        Ok(())
    }

    /// A failure that matters is given back; one that does not becomes a warning.
    pub(crate) fn judge(&self, result: Result<(), SandboxError>) -> Result<(), SandboxError> {
        judge(self.required, result)
    }

    /// Opens the groups for a child that is to join them by itself.
    pub(crate) fn entrances(&self) -> Vec<File> {
        let open = |leaf: &PathBuf| OpenOptions::new().write(true).open(procs(leaf)).ok();
        self.leaves.iter().filter_map(open).collect()
    }

    /// Makes sure that a process is in the groups.
    pub(crate) fn add(&self, pid: i32) -> Result<(), SandboxError> {
        let write = |leaf: &PathBuf| {
            let mut file = OpenOptions::new().write(true).open(procs(leaf))?;
            file.write_all(pid.to_string().as_bytes())
        };
        for leaf in &self.leaves {
            write(leaf).map_err(|source| SandboxError::Cgroup {
                path: leaf.clone(),
                source,
            })?;
        }
        Ok(())
    }
}

/// Gives a failure back where the group is required, else warns.
pub(crate) fn judge(required: bool, result: Result<(), SandboxError>) -> Result<(), SandboxError> {
    match result {
        Err(error) if !required => {
            let error = redoubt_errors::OneLine(&error).to_string();
            tracing::warn!(%error, "the sandbox's processes are accounted elsewhere");
            Ok(())
        }
        other => other,
    }
}

fn procs(leaf: &Path) -> PathBuf {
    leaf.join("cgroup.procs")
}

/// Lets the folders above a group hand their controllers down. Those that were there before
/// belong to others, but for the one in which the first folder was made.
fn hand_down(leaf: &Path, made: usize) {
    let mut above: Vec<&Path> = leaf.ancestors().skip(1).take(made).collect();
    above.reverse();
    for dir in above {
        for controller in V2_CONTROLLERS {
            // A controller that the host does not have, or does not hand down, is no loss here.
            let _ = fs::write(dir.join("cgroup.subtree_control"), format!("+{controller}"));
        }
    }
}

/// Removes the folders of a sandbox, those below first. One that others use by now stays.
pub(crate) async fn remove(made: &[PathBuf]) -> Result<(), SandboxError> {
    for dir in made.iter().rev() {
        let ours = dir
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(PREFIX.as_bytes()));
        let mut tries = if ours { REMOVAL.0 } else { 1 };
        loop {
            tries -= 1;
            match fs::remove_dir(dir) {
                Ok(()) => break,
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                Err(_) if !ours => break,
                Err(source) if tries == 0 => {
                    let path = dir.clone();
                    return Err(SandboxError::State {
                        action: "remove",
                        path,
                        source,
                    });
                }
                Err(_) => tokio::time::sleep(REMOVAL.1).await,
            }
        }
    }
    Ok(())
}

/// The path of the group below a hierarchy's root, from `linux.cgroupsPath` of the OCI
/// specification: a path, or `slice:prefix:name` as systemd's driver has it.
fn relative_path(specified: &str, sandbox_id: &str) -> Result<PathBuf, &'static str> {
    if specified.len() > MAX_PATH_BYTES || specified.contains('\0') {
        return Err("the path in the specification is too long or holds a NUL");
    }
    let (parent, name) = match specified.split(':').collect::<Vec<_>>()[..] {
        [slice, _, name] if !slice.contains('/') => (slice_path(slice)?, name.to_owned()),
        _ => {
            let mut path = plain_components(Path::new(specified))?;
            match path.pop() {
                Some(name) => (path.iter().collect(), name),
                None => (PathBuf::from(DEFAULT_PARENT), sandbox_id.to_owned()),
            }
        }
    };
    if name.is_empty() || name.contains('/') {
        return Err("the name in the specification is no file name");
    }
    Ok(parent.join(format!("{PREFIX}{name}")))
}

fn plain_components(path: &Path) -> Result<Vec<String>, &'static str> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(name.to_string_lossy().into_owned()),
            Component::RootDir | Component::CurDir => {}
            _ => return Err("the path in the specification leaves its folder"),
        }
    }
    Ok(names)
}

/// The path of a systemd slice: `a-b.slice` is below `a.slice` (systemd.slice(5)).
fn slice_path(slice: &str) -> Result<PathBuf, &'static str> {
    let name = match slice {
        "" => "system",
        "-.slice" => return Ok(PathBuf::new()),
        other => other
            .strip_suffix(".slice")
            .ok_or("the slice in the specification does not end in .slice")?,
    };
    let mut path = PathBuf::new();
    let mut so_far = String::new();
    for part in name.split('-') {
        if part.is_empty() {
            return Err("the slice in the specification has an empty part");
        }
        if !so_far.is_empty() {
            so_far.push('-');
        }
        so_far.push_str(part);
        path.push(format!("{so_far}.slice"));
    }
    Ok(path)
}

/// Where cgroup file systems are mounted.
#[derive(Debug, PartialEq, Eq)]
struct Hierarchies {
    mounts: Vec<PathBuf>,
    unified: bool,
}

impl Hierarchies {
    /// Reads `/proc/<pid>/mountinfo` (`proc_pid_mountinfo(5)`). Where controllers of v1 are
    /// mounted, v2 has none to offer.
    fn parse(mountinfo: &str) -> Self {
        let mut first = Vec::new();
        let mut second = Vec::new();
        for line in mountinfo.lines() {
            let Some((place, kind)) = line.split_once(" - ") else {
                continue;
            };
            let Some(mount) = place.split(' ').nth(4) else {
                continue;
            };
            let mut kind = kind.split(' ');
            let (name, options) = (kind.next(), kind.nth(1).unwrap_or_default());
            let accounts = || {
                options
                    .split(',')
                    .any(|option| V1_CONTROLLERS.contains(&option))
            };
            match name {
                Some("cgroup") if accounts() => first.push(PathBuf::from(mount)),
                Some("cgroup2") => second.push(PathBuf::from(mount)),
                _ => {}
            }
        }
        if first.is_empty() {
            // The same hierarchy may be mounted more than once.
            second.truncate(1);
            return Self {
                mounts: second,
                unified: true,
            };
        }
        Self {
            mounts: first,
            unified: false,
        }
    }
}

/// Lets a forked child join the groups that it has inherited open. A failure is found by
/// [`Cgroups::add`] afterwards, so it is not told twice.
pub(crate) fn join(entrances: &[File]) {
    for entrance in entrances {
        sys::write_to(entrance, b"0");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::process::{ChildProcess, ChildSpec};
    use crate::sys::ChildNetwork;

    fn path(specified: &str) -> String {
        let path = relative_path(specified, "sb").unwrap();
        path.display().to_string()
    }

    #[test]
    fn the_group_stands_beside_the_containers() {
        assert_eq!(
            path("/kubepods/burstable/pod1/c1"),
            "kubepods/burstable/pod1/kata_c1"
        );
        assert_eq!(path("default/c1"), "default/kata_c1");
        assert_eq!(path("/c1"), "kata_c1");
        assert_eq!(path(""), "redoubt/kata_sb");
        assert_eq!(
            path("kubepods-pod1.slice:cri-containerd:c1"),
            "kubepods.slice/kubepods-pod1.slice/kata_c1"
        );
        assert_eq!(path(":x:c1"), "system.slice/kata_c1");
        assert_eq!(path("-.slice:x:c1"), "kata_c1");
    }

    #[test]
    fn paths_that_leave_their_folder_are_refused() {
        for specified in [
            "/a/../../b",
            "..",
            "a.slice:x:",
            "a.slice:x:../y",
            "a--b.slice:x:y",
            "a:b:c",
        ] {
            assert!(relative_path(specified, "sb").is_err(), "{specified}");
        }
        assert!(relative_path(&"x".repeat(2000), "sb").is_err());
    }

    #[test]
    fn controllers_of_v1_go_before_v2() {
        let hybrid = "25 1 0:22 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                      26 1 0:23 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                      27 1 0:24 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
                      28 1 0:25 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let found = Hierarchies::parse(hybrid);
        assert!(!found.unified);
        assert_eq!(
            found.mounts,
            ["/sys/fs/cgroup/memory", "/sys/fs/cgroup/cpu,cpuacct"].map(PathBuf::from)
        );
        let unified =
            "30 24 0:27 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        let found = Hierarchies::parse(unified);
        assert!(found.unified);
        assert_eq!(found.mounts, [PathBuf::from("/sys/fs/cgroup")]);
        assert!(
            Hierarchies::parse("garbage - \n - cgroup\n")
                .mounts
                .is_empty()
        );
    }

    #[tokio::test]
    async fn a_child_runs_in_the_groups_which_are_then_removed() {
        let id = format!("rdt-cgroup-test-{}", std::process::id());
        let groups = Cgroups::locate(&format!("/{id}/c1"), &id, true)
            .expect("a cgroup file system is mounted");
        let made = groups.missing();
        groups.create().expect("root may make control groups");
        let child = ChildProcess::spawn(ChildSpec {
            program: "/bin/sh".into(),
            args: vec![
                "-c".into(),
                "cat /proc/self/cgroup >&2; exec sleep 30".into(),
            ],
            network: ChildNetwork::Inherited,
            fds: Vec::new(),
            cgroups: groups.clone(),
        })
        .await
        .unwrap();
        let pid = child.identity().pid.to_string();
        for leaf in &groups.leaves {
            let members = fs::read_to_string(procs(leaf)).unwrap();
            assert!(
                members.lines().any(|line| line == pid),
                "{leaf:?}: {members}"
            );
        }
        child.kill().await.unwrap();
        remove(&made).await.unwrap();
        assert!(!made.is_empty() && made.iter().all(|dir| !dir.exists()));
        remove(&made).await.unwrap();
    }

    proptest! {
        #[test]
        fn no_path_leaves_the_hierarchy(specified in "[a-z./:-]{0,40}") {
            if let Ok(path) = relative_path(&specified, "sb") {
                let normal = |part| matches!(part, Component::Normal(_));
                prop_assert!(path.components().all(normal));
            }
        }

        #[test]
        fn any_mount_table_is_read(text in ".{0,200}") {
            let _ = Hierarchies::parse(&text);
        }
    }
}
