//! Files of an identity: bounded reads, whole writes, private modes.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use crate::error::SimulatorError;

/// The largest file that is read, in bytes.
const MAX_FILE_BYTES: usize = 64 * 1024;

/// Who may read a file.
#[derive(Clone, Copy)]
pub(crate) enum Mode {
    /// Everybody.
    Public,
    /// Its owner.
    Private,
}

fn file_error<'a>(
    path: &'a Path,
    action: &'static str,
) -> impl FnOnce(io::Error) -> SimulatorError + 'a {
    move |source| SimulatorError::File {
        path: path.to_owned(),
        action,
        source,
    }
}

/// Makes a directory and its parents; one that exists is fine.
pub(crate) fn create_dir(dir: &Path) -> Result<(), SimulatorError> {
    let mut builder = DirBuilder::new();
    builder
        .recursive(true)
        .mode(0o755)
        .create(dir)
        .map_err(file_error(dir, "created"))
}

/// Reads a file of at most 64 KiB.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, SimulatorError> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(MAX_FILE_BYTES).unwrap_or(u64::MAX);
    File::open(path)
        .and_then(|file| file.take(limit + 1).read_to_end(&mut bytes))
        .map_err(file_error(path, "read"))?;
    if bytes.len() > MAX_FILE_BYTES {
        return Err(SimulatorError::FileTooLong {
            path: path.to_owned(),
            limit: MAX_FILE_BYTES,
        });
    }
    Ok(bytes)
}

/// Writes a file as a whole: beside its place first, then moved there.
pub(crate) fn write(path: &Path, bytes: &[u8], mode: Mode) -> Result<(), SimulatorError> {
    let mode = match mode {
        Mode::Public => 0o644,
        Mode::Private => 0o600,
    };
    let beside = path.with_extension("new");
    let write = || {
        // A file left behind by an interrupted attempt may have another mode.
        if let Err(error) = fs::remove_file(&beside)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    write().map_err(file_error(path, "written"))
}

/// Refuses a file that others than its owner may read or write.
pub(crate) fn require_private(path: &Path) -> Result<(), SimulatorError> {
    let metadata = fs::metadata(path).map_err(file_error(path, "read"))?;
    let mode = metadata.permissions().mode() & 0o777;
    let others = mode & 0o077;
    if others == 0 {
        Ok(())
    } else {
        Err(SimulatorError::KeyMode {
            path: path.to_owned(),
            mode,
        })
    }
}
