//! The calls to libcontainer. This runs in the helper only.

use std::error::Error;
use std::fs;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use libcontainer::container::Container;
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::error::LibcontainerError;
use libcontainer::syscall::syscall::SyscallType;

use super::executor::{Starter, Workload};
use super::protocol::{Operation, Request, Streams};

/// libcontainer's names for the sockets of added processes; it never removes them.
const TENANT_FILES: &str = "tenant-";

/// Why a request failed.
#[derive(Debug)]
pub(super) struct Failure(String);

impl Failure {
    /// The message, with the logged cause behind it if it says something new.
    pub(super) fn with_detail(self, detail: Option<String>) -> String {
        match detail {
            Some(detail) if !detail.is_empty() && !self.0.contains(&detail) => {
                format!("{} ({detail})", self.0)
            }
            _ => self.0,
        }
    }
}

impl From<LibcontainerError> for Failure {
    fn from(error: LibcontainerError) -> Self {
        Self(chain(&error))
    }
}

/// Joins an error with its causes, leaving out those that are repeated.
fn chain(error: &dyn Error) -> String {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !message.contains(&text) {
            message = format!("{message}: {text}");
        }
        cause = error.source();
    }
    message
}

/// Carries a request out; a panic in the library becomes a failure.
pub(super) fn run(request: Request, fds: Vec<OwnedFd>) -> Result<Option<i32>, Failure> {
    catch_unwind(AssertUnwindSafe(|| dispatch(request, fds)))
        .unwrap_or_else(|_panic| Err(Failure("the container runtime panicked".to_owned())))
}

fn dispatch(request: Request, fds: Vec<OwnedFd>) -> Result<Option<i32>, Failure> {
    let Request {
        state_root,
        id,
        operation,
    } = request;
    let container_dir = state_root.join(&id);
    match operation {
        Operation::Create { bundle, streams } => {
            let builder = builder(id, &state_root, Starter::Agent, streams, fds)?;
            Ok(create(builder, bundle)?)
        }
        Operation::Start {} => {
            Container::load(container_dir)?.start()?;
            Ok(None)
        }
        Operation::Exec { process, streams } => {
            let builder = builder(id, &state_root, Starter::Helper, streams, fds)?;
            let pid = exec(builder, process);
            remove_tenant_files(&container_dir);
            Ok(pid?)
        }
    }
}

/// Prepares what both ways to make a process have in common, the standard streams included.
fn builder(
    id: String,
    state_root: &Path,
    starter: Starter,
    streams: Streams,
    fds: Vec<OwnedFd>,
) -> Result<ContainerBuilder, Failure> {
    let builder = ContainerBuilder::new(id, SyscallType::Linux)
        .validate_id()?
        .with_root_path(state_root)?;
    let missing = |_| Failure("the request came without its descriptors".to_owned());
    match streams {
        Streams::Pipes {} => {
            let [stdin, stdout, stderr] = <[OwnedFd; 3]>::try_from(fds).map_err(missing)?;
            Ok(builder
                .with_executor(Workload::new(starter, None))
                .with_stdin(stdin)
                .with_stdout(stdout)
                .with_stderr(stderr))
        }
        Streams::Terminal { socket } => {
            let [ready] = <[OwnedFd; 1]>::try_from(fds).map_err(missing)?;
            Ok(builder
                .with_executor(Workload::new(starter, Some(ready)))
                .with_console_socket(Some(socket)))
        }
    }
}

fn create(builder: ContainerBuilder, bundle: PathBuf) -> Result<Option<i32>, LibcontainerError> {
    let container = builder
        .as_init(bundle)
        .with_systemd(false)
        .with_detach(true)
        .build()?;
    Ok(container.state.pid)
}

fn exec(builder: ContainerBuilder, process: PathBuf) -> Result<Option<i32>, LibcontainerError> {
    let pid = builder
        .as_tenant()
        .with_process(Some(process))
        .with_detach(true)
        .build()?;
    Ok(Some(pid.as_raw()))
}

/// Removes the sockets of this added process. The agent runs one helper per container at a time,
/// so they are nobody else's.
fn remove_tenant_files(container_dir: &Path) {
    let Ok(entries) = fs::read_dir(container_dir) else {
        return;
    };
    for entry in entries.flatten() {
        if entry
            .file_name()
            .to_string_lossy()
            .starts_with(TENANT_FILES)
        {
            // What stays goes with the container's folder.
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_detail_is_appended_once() {
        let failure = || Failure("failed to prepare rootfs: EINVAL".to_owned());
        assert_eq!(
            failure().with_detail(Some("mount /proc failed".into())),
            "failed to prepare rootfs: EINVAL (mount /proc failed)"
        );
        assert_eq!(
            failure().with_detail(Some("EINVAL".into())),
            "failed to prepare rootfs: EINVAL"
        );
        assert_eq!(
            failure().with_detail(None),
            "failed to prepare rootfs: EINVAL"
        );
    }
}
