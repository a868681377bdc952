//! Owner, mode, times and extended attributes of what was created.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::fs::{
    AtFlags, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags, chmodat, chownat, fchmod, fchown,
    fsetxattr, futimens, lsetxattr, utimensat,
};
use rustix::io::Errno;

use crate::errors::EntryProblem;

use super::entry::Metadata;
use super::pax::Timestamp;

/// Marks a directory of a layer that hides the one below it.
pub(crate) const OPAQUE_XATTR: &str = "trusted.overlay.opaque";
const CAPABILITY_XATTR: &[u8] = b"security.capability";
/// The file system reads these as instructions of its own.
const RESERVED_XATTRS: [&[u8]; 2] = [b"trusted.overlay.", b"user.overlay."];
/// The kernel's limits (`XATTR_NAME_MAX`, `XATTR_SIZE_MAX`).
const MAX_XATTR_NAME_BYTES: usize = 255;
const MAX_XATTR_VALUE_BYTES: usize = 65536;

/// A failed step: either the entry is at fault or the system.
pub(crate) enum MetadataError {
    Entry(EntryProblem),
    System(Errno),
}

impl From<Errno> for MetadataError {
    fn from(error: Errno) -> Self {
        Self::System(error)
    }
}

/// Applies everything to an open file or directory; the times of directories
/// come later, when nothing is created in them any more.
pub(crate) fn apply_to_open(
    file: BorrowedFd<'_>,
    metadata: &Metadata,
    with_times: bool,
) -> Result<(), MetadataError> {
    // The order matters: a change of owner clears set-user-id bits and
    // capabilities.
    fchown(
        file,
        Some(Uid::from_raw(metadata.uid)),
        Some(Gid::from_raw(metadata.gid)),
    )?;
    fchmod(file, Mode::from_raw_mode(metadata.mode))?;
    for (name, value) in checked_xattrs(metadata)? {
        tolerate(name, fsetxattr(file, name, value, XattrFlags::empty()))?;
    }
    if with_times {
        futimens(file, &timestamps(metadata.mtime))?;
    }
    Ok(())
}

/// Applies everything to a symbolic link or special file by its name.
pub(crate) fn apply_to_name(
    parent: BorrowedFd<'_>,
    name: &[u8],
    metadata: &Metadata,
    is_symlink: bool,
) -> Result<(), MetadataError> {
    let (uid, gid) = (
        Some(Uid::from_raw(metadata.uid)),
        Some(Gid::from_raw(metadata.gid)),
    );
    chownat(parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
    if !is_symlink {
        // Created by us a moment ago, so it is no link that could be followed.
        chmodat(
            parent,
            name,
            Mode::from_raw_mode(metadata.mode),
            AtFlags::empty(),
        )?;
    }
    for (xattr, value) in checked_xattrs(metadata)? {
        let path = [
            format!("/proc/self/fd/{}/", parent.as_raw_fd()).as_bytes(),
            name,
        ]
        .concat();
        tolerate(xattr, lsetxattr(path, xattr, value, XattrFlags::empty()))?;
    }
    utimensat(
        parent,
        name,
        &timestamps(metadata.mtime),
        AtFlags::SYMLINK_NOFOLLOW,
    )?;
    Ok(())
}

/// Sets the times of a directory.
pub(crate) fn set_times(directory: impl AsFd, mtime: Timestamp) -> Result<(), Errno> {
    futimens(directory, &timestamps(mtime))
}

/// Makes a directory hide the one of the same name in the layers below.
pub(crate) fn set_opaque(directory: impl AsFd) -> Result<(), Errno> {
    fsetxattr(directory, OPAQUE_XATTR, b"y", XattrFlags::empty())
}

fn timestamps(mtime: Timestamp) -> Timestamps {
    let time = Timespec {
        tv_sec: mtime.seconds,
        tv_nsec: mtime.nanoseconds.into(),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

type Xattr<'a> = (&'a [u8], &'a [u8]);

fn checked_xattrs(metadata: &Metadata) -> Result<Vec<Xattr<'_>>, MetadataError> {
    let check = |(name, value): &'_ (Vec<u8>, Vec<u8>)| {
        name.is_empty()
            || name.contains(&0)
            || name.len() > MAX_XATTR_NAME_BYTES
            || value.len() > MAX_XATTR_VALUE_BYTES
            || RESERVED_XATTRS
                .iter()
                .any(|prefix| name.starts_with(prefix))
    };
    if metadata.xattrs.iter().any(check) {
        return Err(MetadataError::Entry(EntryProblem::Xattr));
    }
    Ok(metadata
        .xattrs
        .iter()
        .map(|(name, value)| (&name[..], &value[..]))
        .collect())
}

/// Attributes that the file system cannot hold are left out, as other tools
/// do; a lost capability would change what the program can do, so it is not.
fn tolerate(name: &[u8], result: Result<(), Errno>) -> Result<(), MetadataError> {
    match result {
        Err(Errno::OPNOTSUPP) if name == CAPABILITY_XATTR => {
            Err(MetadataError::Entry(EntryProblem::XattrUnsupported))
        }
        Err(Errno::OPNOTSUPP) => Ok(()),
        other => other.map_err(MetadataError::System),
    }
}
