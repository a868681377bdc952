//! Reads files whole, within limits.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use redoubt_launch_digest::DigestError;
use sha2::digest::Output;
use sha2::{Digest, Sha256, Sha384};

use crate::failure::CliError;

/// The largest kernel or initrd, in MiB.
const MAX_BOOT_FILE_MIB: u64 = 1024;
/// How much of a boot file is read at a time, in bytes: as much as stays in a CPU's cache.
const PIECE_BYTES: usize = 256 << 10;
/// The largest other file, in MiB.
const MAX_SMALL_FILE_MIB: u64 = 32;

/// Reads a file of moderate size.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, CliError> {
    read_up_to(path, MAX_SMALL_FILE_MIB)
}

/// Reads a file of at most this many MiB.
pub(crate) fn read_up_to(path: &Path, limit_mib: u64) -> Result<Vec<u8>, CliError> {
    let limit = limit_mib << 20;
    let unreadable = |cause| CliError::Read {
        path: path.to_owned(),
        cause,
    };
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(limit + 1).read_to_end(&mut bytes))
        .map_err(unreadable)?;
    if bytes.len() as u64 > limit {
        return Err(CliError::TooLarge {
            path: path.to_owned(),
            limit_mib,
        });
    }
    Ok(bytes)
}

/// The first 4 KiB of a file.
pub(crate) fn head(path: &Path) -> Result<Vec<u8>, CliError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(4096).read_to_end(&mut bytes))
        .map_err(|cause| CliError::Read {
            path: path.to_owned(),
            cause,
        })?;
    Ok(bytes)
}

/// Reads a text file of moderate size.
pub(crate) fn read_text(path: &Path) -> Result<String, CliError> {
    String::from_utf8(read(path)?).map_err(|_| CliError::NotText {
        path: path.to_owned(),
    })
}

/// SHA-256 of an initrd, read piece by piece.
pub(crate) fn sha256(path: &Path) -> Result<[u8; 32], CliError> {
    sha256_checked(path, |_| Ok(()))
}

/// SHA-256 of a kernel; `check` sees its first bytes.
pub(crate) fn sha256_checked(
    path: &Path,
    check: impl Fn(&[u8]) -> Result<(), DigestError>,
) -> Result<[u8; 32], CliError> {
    hash::<Sha256>(path, check).map(Into::into)
}

/// SHA-384 of an initrd, read piece by piece.
pub(crate) fn sha384(path: &Path) -> Result<[u8; 48], CliError> {
    hash::<Sha384>(path, |_| Ok(())).map(Into::into)
}

fn hash<D: Digest>(
    path: &Path,
    check: impl Fn(&[u8]) -> Result<(), DigestError>,
) -> Result<Output<D>, CliError> {
    let mut hash = D::new();
    let mut checked = false;
    pieces(path, |piece| {
        if !checked {
            check(piece).map_err(|cause| CliError::Digest {
                path: path.to_owned(),
                cause,
            })?;
            checked = true;
        }
        hash.update(piece);
        Ok(())
    })?;
    Ok(hash.finalize())
}

/// Reads a kernel or initrd piece by piece and returns its length in bytes. An empty file has
/// one empty piece.
pub(crate) fn pieces(
    path: &Path,
    mut each: impl FnMut(&[u8]) -> Result<(), CliError>,
) -> Result<u64, CliError> {
    let unreadable = |cause| CliError::Read {
        path: path.to_owned(),
        cause,
    };
    let limit = MAX_BOOT_FILE_MIB << 20;
    let file = File::open(path).map_err(unreadable)?;
    let mut piece = Vec::with_capacity(PIECE_BYTES);
    let mut len = 0;
    loop {
        piece.clear();
        let mut read = (&file).take(PIECE_BYTES as u64);
        let filled = read.read_to_end(&mut piece).map_err(unreadable)? as u64;
        if filled == 0 && len > 0 {
            return Ok(len);
        }
        each(&piece)?;
        len += filled;
        if filled == 0 {
            return Ok(len);
        }
        if len > limit {
            return Err(CliError::TooLarge {
                path: path.to_owned(),
                limit_mib: MAX_BOOT_FILE_MIB,
            });
        }
    }
}

/// Writes a new file or replaces one.
pub(crate) fn write(path: &PathBuf, bytes: &[u8]) -> Result<(), CliError> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o644)
        .open(path)
        .and_then(|mut file| file.write_all(bytes))
        .map_err(|cause| CliError::Write {
            path: path.clone(),
            cause,
        })
}
