//! One container's control group (cgroup v2).

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use libcgroups::common::{CgroupManager, ControllerOpt};
use libcgroups::v2::manager::Manager;
use oci_spec::runtime::LinuxResources;
use tokio::time::Instant;

use crate::error::ContainerError;
use crate::reaper::open_pidfd;
use crate::sys;

/// Where the unified hierarchy is mounted; libcontainer knows no other place.
pub(crate) const CGROUP_ROOT: &str = "/sys/fs/cgroup";
/// The most bytes of one control group file that are read.
const MAX_FILE_BYTES: u64 = 1024 * 1024;
/// How deep groups inside a container's group may be nested.
const MAX_DEPTH: usize = 32;
/// How long freezing, thawing and dying may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A control group; it may not exist yet or any more.
#[derive(Clone, Debug)]
pub(crate) struct Cgroup {
    folder: PathBuf,
}

impl Cgroup {
    /// The group at a path inside the hierarchy, such as `/redoubt/<id>`.
    pub(crate) fn at(path: &Path) -> Self {
        Self {
            folder: Path::new(CGROUP_ROOT).join(path.strip_prefix("/").unwrap_or(path)),
        }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn exists(&self) -> bool {
        self.folder.exists()
    }

    /// Stops all processes, and waits until they stand still.
    pub(crate) async fn freeze(&self) -> Result<(), ContainerError> {
        self.set_frozen("1", "frozen", true).await
    }

    /// Lets all processes go on.
    pub(crate) async fn thaw(&self) -> Result<(), ContainerError> {
        self.set_frozen("0", "thawed", false).await
    }

    async fn set_frozen(
        &self,
        value: &str,
        goal: &'static str,
        frozen: bool,
    ) -> Result<(), ContainerError> {
        self.write("cgroup.freeze", value)?;
        self.wait_for_event("frozen", frozen, goal).await
    }

    /// Ends all processes, those in groups below included.
    pub(crate) fn kill(&self) -> Result<(), ContainerError> {
        self.write("cgroup.kill", "1")
    }

    /// Sends a signal to all processes.
    pub(crate) fn signal(&self, signal: i32) -> Result<(), (i32, io::Error)> {
        let pids = self
            .pids()
            .map_err(|error| (signal, io::Error::other(error.to_string())))?;
        for pid in pids {
            // The pid may have been given to another process since; the descriptor cannot be.
            let Ok(pidfd) = open_pidfd(pid) else { continue };
            if !self.holds(pid) {
                continue;
            }
            match sys::pidfd_send_signal(pidfd, signal) {
                Err(error) if error.raw_os_error() != Some(libc::ESRCH) => {
                    return Err((signal, error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether a process is in this group or one below.
    fn holds(&self, pid: i32) -> bool {
        let Ok(inside) = self.folder.strip_prefix(CGROUP_ROOT) else {
            return false;
        };
        fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|text| {
            text.lines()
                .filter_map(|line| line.strip_prefix("0::/"))
                .any(|path| Path::new(path).starts_with(inside))
        })
    }

    /// The ids of all processes.
    pub(crate) fn pids(&self) -> Result<Vec<i32>, ContainerError> {
        let mut pids = Vec::new();
        for folder in self.folders()? {
            let text = match read_bounded(&folder.join("cgroup.procs")) {
                Ok(text) => text,
                Err(error) if is_gone(&error) => continue,
                Err(source) => return Err(failed("read", &folder, source)),
            };
            pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
        }
        Ok(pids)
    }

    /// Changes limits.
    pub(crate) fn update(&self, resources: &LinuxResources) -> Result<(), String> {
        let path = self
            .folder
            .strip_prefix(CGROUP_ROOT)
            .map_err(|error| error.to_string())?;
        let manager =
            Manager::new(CGROUP_ROOT.into(), path.to_owned()).map_err(|error| error.to_string())?;
        manager
            .apply(&ControllerOpt {
                resources,
                disable_oom_killer: false,
                oom_score_adj: None,
                freezer_state: None,
            })
            .map_err(|error| error.to_string())
    }

    /// Ends all processes and removes the group with all groups below. It may be gone already.
    pub(crate) async fn remove(&self) -> Result<(), ContainerError> {
        if !self.exists() {
            return Ok(());
        }
        self.kill()?;
        self.wait_for_event("populated", false, "empty").await?;
        let deadline = Instant::now() + PATIENCE;
        let mut folders = self.folders()?;
        // Parents come first in the list.
        while let Some(folder) = folders.pop() {
            while let Err(source) = fs::remove_dir(&folder) {
                if is_gone(&source) {
                    break;
                }
                // The last process is gone, but the kernel may still be putting it away.
                let busy = source.raw_os_error() == Some(libc::EBUSY);
                if !busy || Instant::now() > deadline {
                    return Err(failed("remove", &folder, source));
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        Ok(())
    }

    /// Waits for a value of `cgroup.events`.
    async fn wait_for_event(
        &self,
        key: &str,
        value: bool,
        goal: &'static str,
    ) -> Result<(), ContainerError> {
        let file = self.folder.join("cgroup.events");
        let deadline = Instant::now() + PATIENCE;
        let mut pause = Duration::from_millis(1);
        loop {
            let text = match read_bounded(&file) {
                Ok(text) => text,
                Err(error) if is_gone(&error) && !value => return Ok(()),
                Err(source) => return Err(failed("read", &file, source)),
            };
            let now = crate::stats::parse_flat_keyed(&text)
                .get(key)
                .copied()
                .unwrap_or(0);
            if (now != 0) == value {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(ContainerError::CgroupTimeout {
                    path: self.folder.clone(),
                    goal,
                });
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }

    /// This group and those below, parents first.
    fn folders(&self) -> Result<Vec<PathBuf>, ContainerError> {
        let mut found = vec![self.folder.clone()];
        let mut level = found.clone();
        for _depth in 0..MAX_DEPTH {
            let mut below = Vec::new();
            for folder in &level {
                below.extend(subfolders(folder).map_err(|source| failed("read", folder, source))?);
            }
            if below.is_empty() {
                break;
            }
            found.extend(below.iter().cloned());
            level = below;
        }
        Ok(found)
    }

    fn write(&self, file: &str, value: &str) -> Result<(), ContainerError> {
        let path = self.folder.join(file);
        fs::write(&path, value).map_err(|source| failed("write", &path, source))
    }
}

fn subfolders(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if is_gone(&error) => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// A group that is removed while it is read answers in two ways.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV))
}

fn failed(action: &'static str, path: &Path, source: io::Error) -> ContainerError {
    ContainerError::Cgroup {
        action,
        path: path.to_owned(),
        source,
    }
}

/// Reads a control group file.
pub(crate) fn read_bounded(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    fs::File::open(path)?
        .take(MAX_FILE_BYTES)
        .read_to_string(&mut text)?;
    Ok(text)
}
