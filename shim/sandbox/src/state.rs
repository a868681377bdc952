//! What a sandbox has created, written down before it is created.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::SandboxError;
use crate::id::SandboxId;
use crate::process::ProcessRef;

/// The layout's version; another one is refused.
const VERSION: u32 = 1;

/// Bound of the state file's size when it is read back, in bytes.
const MAX_STATE_BYTES: u64 = 256 * 1024;

/// The state file inside the state directory.
const STATE_FILE: &str = "state.json";

/// What a process of the sandbox is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Role {
    /// The virtual machine monitor.
    Qemu,
    /// The vhost-user vsock daemon.
    VsockDaemon,
}

/// A process that is about to be started, or was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessRecord {
    /// What it is for.
    pub(crate) role: Role,
    /// Its executable.
    pub(crate) program: PathBuf,
    /// The process, once it is known.
    pub(crate) process: Option<ProcessRef>,
}

/// A network namespace, told apart from a later one at the same path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NetnsRecord {
    /// Where it is bound.
    pub(crate) path: PathBuf,
    /// Its device number in nsfs.
    pub(crate) device: u64,
    /// Its inode number in nsfs.
    pub(crate) inode: u64,
}

impl NetnsRecord {
    /// The namespace at `path` as it is now.
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        let metadata = fs::metadata(path)?;
        Ok(Self {
            path: path.to_owned(),
            device: metadata.dev(),
            inode: metadata.ino(),
        })
    }

    /// True while the same namespace is still there.
    pub(crate) fn is_there(&self) -> bool {
        Self::of(&self.path).is_ok_and(|now| now == *self)
    }
}

/// One pair of tap device and pod interface that redirect to each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TapRecord {
    /// The tap device.
    pub(crate) tap: String,
    /// The pod's interface, which gets an ingress queueing discipline.
    pub(crate) peer: String,
    /// The peer's ingress queueing discipline is ours to remove.
    pub(crate) owns_ingress: bool,
}

/// Everything that has to be undone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    version: u32,
    /// The sandbox.
    pub(crate) sandbox_id: String,
    /// The kernel's boot id: process numbers mean nothing after a reboot.
    pub(crate) boot_id: String,
    /// The process that runs the sandbox.
    pub(crate) owner: Option<ProcessRef>,
    /// The pod's network namespace.
    pub(crate) netns: Option<NetnsRecord>,
    /// Processes, in the order in which they are started.
    pub(crate) processes: Vec<ProcessRecord>,
    /// Tap devices in the pod's network namespace.
    pub(crate) taps: Vec<TapRecord>,
    /// Folders of control groups, those above first.
    pub(crate) cgroups: Vec<PathBuf>,
}

impl State {
    fn new(id: &SandboxId) -> Self {
        Self {
            version: VERSION,
            sandbox_id: id.as_str().to_owned(),
            boot_id: boot_id(),
            owner: own_process(),
            netns: None,
            processes: Vec::new(),
            taps: Vec::new(),
            cgroups: Vec::new(),
        }
    }

    /// Reads a state file's bytes.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let state: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if state.version == VERSION {
            Ok(state)
        } else {
            Err(format!("version {} instead of {VERSION}", state.version))
        }
    }
}

/// The running kernel's boot id; empty where `/proc` does not tell.
pub(crate) fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|text| text.trim().to_owned())
        .unwrap_or_default()
}

fn own_process() -> Option<ProcessRef> {
    ProcessRef::of(i32::try_from(std::process::id()).ok()?).ok()
}

/// A sandbox's directory with its state.
#[derive(Debug)]
pub(crate) struct StateDir {
    path: PathBuf,
    state: State,
}

impl StateDir {
    /// Creates the directory of a new sandbox, and the root above it.
    pub(crate) fn create(root: &Path, id: &SandboxId) -> Result<Self, SandboxError> {
        let failed = |action, path: &Path| {
            let path = path.to_owned();
            move |source| SandboxError::State {
                action,
                path,
                source,
            }
        };
        let path = root.join(id.as_str());
        let create = || {
            DirBuilder::new().recursive(true).mode(0o700).create(root)?;
            DirBuilder::new().mode(0o700).create(&path)
        };
        // The last sandbox of another shim takes the empty root away with it.
        let retry = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => create(),
            _ => Err(error),
        };
        create().or_else(retry).or_else(retry).map_err(|source| {
            if source.kind() == io::ErrorKind::AlreadyExists {
                SandboxError::AlreadyExists {
                    id: id.to_string(),
                    path: path.clone(),
                }
            } else {
                failed("create directory", &path)(source)
            }
        })?;
        let dir = Self {
            path,
            state: State::new(id),
        };
        dir.save()?;
        Ok(dir)
    }

    /// The directory.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A file of the directory.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The state as last written.
    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    /// Changes the state and writes it down.
    pub(crate) fn update(&mut self, change: impl FnOnce(&mut State)) -> Result<(), SandboxError> {
        change(&mut self.state);
        self.save()
    }

    /// Notes that a process is about to be started.
    pub(crate) fn expect_process(
        &mut self,
        role: Role,
        program: &Path,
    ) -> Result<(), SandboxError> {
        let record = ProcessRecord {
            role,
            program: program.to_owned(),
            process: None,
        };
        self.update(|state| state.processes.push(record))
    }

    /// Notes which process that became.
    pub(crate) fn process_started(
        &mut self,
        role: Role,
        process: ProcessRef,
    ) -> Result<(), SandboxError> {
        self.update(|state| {
            if let Some(record) = state
                .processes
                .iter_mut()
                .rfind(|record| record.role == role)
            {
                record.process = Some(process);
            }
        })
    }

    /// Writes a file of the directory that only root reads.
    pub(crate) fn write_file(&self, name: &str, bytes: &[u8]) -> Result<PathBuf, SandboxError> {
        let path = self.file(name);
        write_new(&path, bytes).map_err(|source| SandboxError::State {
            action: "write",
            path: path.clone(),
            source,
        })?;
        Ok(path)
    }

    /// Removes the directory and all that is in it.
    pub(crate) fn remove(&self) -> Result<(), SandboxError> {
        remove_dir(&self.path)
    }

    /// The file is replaced as a whole: a reader never sees half of it. It needs no sync to
    /// disk, since nothing that it lists survives a loss of power.
    fn save(&self) -> Result<(), SandboxError> {
        let failed = |source| SandboxError::State {
            action: "write",
            path: self.file(STATE_FILE),
            source,
        };
        let text = serde_json::to_vec_pretty(&self.state).map_err(|error| failed(error.into()))?;
        let temporary = self.file("state.json.new");
        let _ = fs::remove_file(&temporary);
        write_new(&temporary, &text).map_err(failed)?;
        fs::rename(&temporary, self.file(STATE_FILE)).map_err(failed)
    }
}

/// Reads the state of a sandbox back; `None` when the directory holds none.
pub(crate) fn read_state(dir: &Path) -> Result<Option<State>, SandboxError> {
    let path = dir.join(STATE_FILE);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            return Err(SandboxError::State {
                action: "open",
                path,
                source,
            });
        }
    };
    let mut bytes = Vec::new();
    file.take(MAX_STATE_BYTES)
        .read_to_end(&mut bytes)
        .map_err(|source| SandboxError::State {
            action: "read",
            path: path.clone(),
            source,
        })?;
    State::parse(&bytes)
        .map(Some)
        .map_err(|reason| SandboxError::StateFormat { path, reason })
}

/// Removes a state directory, and the one above it with its last one; one that is gone
/// already is fine.
pub(crate) fn remove_dir(dir: &Path) -> Result<(), SandboxError> {
    match fs::remove_dir_all(dir) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            return Err(SandboxError::State {
                action: "remove",
                path: dir.to_owned(),
                source,
            });
        }
        _ => {}
    }
    if let Some(root) = dir.parent() {
        // Fails, as it should, while there are others.
        let _ = fs::remove_dir(root);
    }
    Ok(())
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use proptest::prelude::*;

    use super::*;

    fn id() -> SandboxId {
        SandboxId::new("s1").unwrap()
    }

    #[test]
    fn what_was_written_is_read_back() {
        let root = tempfile::tempdir().unwrap();
        let mut dir = StateDir::create(&root.path().join("sbs"), &id()).unwrap();
        dir.expect_process(Role::Qemu, Path::new("/usr/bin/qemu"))
            .unwrap();
        let process = ProcessRef {
            pid: 7,
            start_time: 9,
        };
        dir.process_started(Role::Qemu, process).unwrap();
        let read = read_state(dir.path()).unwrap().unwrap();
        assert_eq!(&read, dir.state());
        assert_eq!(read.processes[0].process, Some(process));
        assert!(read.owner.unwrap().is_alive());
        assert_eq!(
            fs::metadata(dir.path()).unwrap().permissions().mode() & 0o777,
            0o700
        );
    }

    #[test]
    fn a_second_sandbox_of_the_same_id_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let _first = StateDir::create(root.path(), &id()).unwrap();
        let error = StateDir::create(root.path(), &id()).unwrap_err();
        assert!(matches!(error, SandboxError::AlreadyExists { .. }));
    }

    #[test]
    fn the_root_goes_with_its_last_sandbox() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().join("sbs");
        let first = StateDir::create(&root, &id()).unwrap();
        let second = StateDir::create(&root, &SandboxId::new("s2").unwrap()).unwrap();
        first.remove().unwrap();
        assert!(second.path().is_dir());
        second.remove().unwrap();
        assert!(!root.exists());
        StateDir::create(&root, &id()).unwrap();
    }

    #[test]
    fn other_versions_and_damaged_files_are_refused() {
        let root = tempfile::tempdir().unwrap();
        let dir = StateDir::create(root.path(), &id()).unwrap();
        let text = fs::read_to_string(dir.file(STATE_FILE)).unwrap();
        let newer = text.replace("\"version\": 1", "\"version\": 2");
        assert_eq!(
            State::parse(newer.as_bytes()).unwrap_err(),
            "version 2 instead of 1"
        );
        fs::write(dir.file(STATE_FILE), &text.as_bytes()[..text.len() / 2]).unwrap();
        assert!(matches!(
            read_state(dir.path()),
            Err(SandboxError::StateFormat { .. })
        ));
        assert!(read_state(root.path()).unwrap().is_none());
    }

    #[test]
    fn a_namespace_that_was_replaced_is_not_the_same() {
        let mut record = NetnsRecord::of(Path::new("/proc/self/ns/net")).unwrap();
        assert!(record.is_there());
        record.inode += 1;
        assert!(!record.is_there());
    }

    proptest! {
        #[test]
        fn hostile_state_files_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let _ = State::parse(&bytes);
        }
    }
}
