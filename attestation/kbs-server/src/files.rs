//! Reading and writing of small files with bounds and modes.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use zeroize::Zeroizing;

use crate::KbsServerError;

/// Reads a file of at most `limit_bytes`; a FIFO or device is never waited for.
pub(crate) fn read_bytes(
    path: &Path,
    limit_bytes: u64,
) -> Result<Zeroizing<Vec<u8>>, KbsServerError> {
    let failed = |source| KbsServerError::Read {
        path: path.to_owned(),
        source,
    };
    let metadata = std::fs::metadata(path).map_err(failed)?;
    if !metadata.is_file() {
        return Err(failed(std::io::Error::other("it is not a regular file")));
    }
    let too_large = |size_bytes| KbsServerError::TooLarge {
        path: path.to_owned(),
        size_bytes,
        limit_bytes,
    };
    if metadata.len() > limit_bytes {
        return Err(too_large(metadata.len()));
    }
    // Room for the whole file at once: a growing buffer would leave copies of secrets behind.
    let expected = usize::try_from(metadata.len()).unwrap_or(0);
    let mut content = Zeroizing::new(Vec::with_capacity(expected.saturating_add(1)));
    let file = File::open(path).map_err(failed)?;
    file.take(limit_bytes + 1)
        .read_to_end(&mut content)
        .map_err(failed)?;
    let size_bytes = content.len() as u64;
    if size_bytes > limit_bytes {
        return Err(too_large(size_bytes));
    }
    Ok(content)
}

/// Reads a file of UTF-8 text.
pub(crate) fn read_text(
    path: &Path,
    limit_bytes: u64,
) -> Result<Zeroizing<String>, KbsServerError> {
    let bytes = read_bytes(path, limit_bytes)?;
    std::str::from_utf8(&bytes)
        .map(|text| Zeroizing::new(text.to_owned()))
        .map_err(|error| KbsServerError::Read {
            path: path.to_owned(),
            source: std::io::Error::other(error),
        })
}

/// Writes a file that must not exist yet.
pub(crate) fn write_new(path: &Path, content: &[u8], mode: u32) -> Result<(), KbsServerError> {
    let failed = |source: std::io::Error| {
        if source.kind() == std::io::ErrorKind::AlreadyExists {
            KbsServerError::AlreadyThere {
                path: path.to_owned(),
            }
        } else {
            KbsServerError::Write {
                path: path.to_owned(),
                source,
            }
        }
    };
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .map_err(failed)?;
    file.write_all(content)
        .and_then(|()| file.sync_all())
        .map_err(failed)
}

/// Replaces a file as a whole: whoever reads it, even after a crash, finds the
/// old content or the new one.
pub(crate) fn replace(path: &Path, content: &[u8], mode: u32) -> Result<(), KbsServerError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let fresh = path.with_file_name(name);
    let failed = |source| KbsServerError::Write {
        path: path.to_owned(),
        source,
    };
    match std::fs::remove_file(&fresh) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        _ => write_new(&fresh, content, mode)?,
    }
    std::fs::rename(&fresh, path).map_err(failed)?;
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    File::open(dir.unwrap_or(Path::new(".")))
        .and_then(|dir| dir.sync_all())
        .map_err(failed)
}

/// Refuses a private key that others than its owner can read.
pub(crate) fn require_private(path: &Path) -> Result<(), KbsServerError> {
    let metadata = std::fs::metadata(path).map_err(|source| KbsServerError::Read {
        path: path.to_owned(),
        source,
    })?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KbsServerError::KeyIsReadable {
            path: path.to_owned(),
            mode,
        });
    }
    Ok(())
}
