//! States, small checks and files of the manager.

use std::fmt;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use serde::Serialize;

use crate::error::ContainerError;
use crate::io::MAX_READ_BYTES;
use crate::sys::MAX_SIGNAL;

/// The largest specification that is written, in bytes.
const MAX_SPEC_BYTES: usize = 8 * 1024 * 1024;

/// What a container is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContainerState {
    /// It is being made.
    Creating,
    /// Its first process waits to be started.
    Created,
    /// Its first process runs.
    Running,
    /// All its processes are stopped.
    Paused,
    /// Its first process has ended.
    Stopped,
}

impl fmt::Display for ContainerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Creating => "being created",
            Self::Created => "created, but not started",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        })
    }
}

/// Checks a signal number.
pub(super) fn signal_number(signal: u32) -> Result<i32, ContainerError> {
    match i32::try_from(signal) {
        Ok(number) if (1..=MAX_SIGNAL).contains(&number) => Ok(number),
        _ => Err(ContainerError::InvalidSignal(signal)),
    }
}

/// Bounds the length of a read.
pub(super) fn read_length(length: usize) -> Result<usize, ContainerError> {
    if length == 0 {
        Err(ContainerError::EmptyRead)
    } else {
        Ok(length.min(MAX_READ_BYTES))
    }
}

/// Whether a write failed because nobody reads.
pub(super) fn means_closed(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe || error.raw_os_error() == Some(libc::EIO)
}

fn failed(action: &'static str, path: &Path, source: io::Error) -> ContainerError {
    ContainerError::State {
        action,
        path: path.to_owned(),
        source,
    }
}

/// Makes a folder for root only.
pub(super) fn make_private_folder(path: &Path) -> Result<(), ContainerError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| failed("create", path, source))
}

/// Writes a new file for root only.
pub(super) fn write_private(path: &Path, value: &impl Serialize) -> Result<(), ContainerError> {
    let json = serde_json::to_vec(value)
        .map_err(|_unserialisable| failed("write", path, io::ErrorKind::InvalidData.into()))?;
    if json.len() > MAX_SPEC_BYTES {
        return Err(ContainerError::InvalidSpec {
            reason: "it is larger than 8 MiB".to_owned(),
        });
    }
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(&json))
        .map_err(|source| failed("write", path, source))
}

/// Removes a folder with its contents; it may be gone already.
pub(super) fn remove_folder(path: &Path) -> Result<(), ContainerError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path, error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn only_real_signals_are_accepted() {
        assert_eq!(signal_number(9).unwrap(), 9);
        assert_eq!(signal_number(64).unwrap(), 64);
        for bad in [0, 65, 0x8000_0000, u32::MAX] {
            assert!(signal_number(bad).is_err());
        }
    }

    #[test]
    fn specifications_are_readable_by_root_only() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("a/b");
        make_private_folder(&inner).unwrap();
        let file = inner.join("config.json");
        write_private(&file, &"secret").unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&inner), mode(&file)), (0o700, 0o600));
        assert!(write_private(&file, &"again").is_err());
        remove_folder(folder.path()).unwrap();
        remove_folder(folder.path()).unwrap();
    }
}
