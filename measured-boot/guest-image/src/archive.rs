//! The cpio "newc" archive that Linux unpacks as its first root file system.

use std::collections::BTreeMap;

use crate::error::GuestImageError;

/// The name of the record that ends an archive.
const TRAILER: &str = "TRAILER!!!";
const MAX_PATH: usize = 1024;

pub(crate) const TYPE_DIRECTORY: u32 = 0o040_000;
const TYPE_FILE: u32 = 0o100_000;
const TYPE_SYMLINK: u32 = 0o120_000;
const TYPE_CHARACTER: u32 = 0o020_000;

/// One file of the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The path without a leading slash.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// What it is.
    pub kind: EntryKind,
}

/// What an entry is, with its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A folder.
    Directory,
    /// A regular file and its bytes.
    File(Vec<u8>),
    /// A symbolic link and its target.
    Symlink(String),
    /// A character device.
    CharacterDevice {
        /// The driver's number.
        major: u32,
        /// The device's number.
        minor: u32,
    },
}

impl Entry {
    /// A folder that everybody may enter.
    pub fn directory(path: &str) -> Self {
        Self {
            path: path.to_owned(),
            mode: 0o755,
            kind: EntryKind::Directory,
        }
    }

    /// A regular file.
    pub fn file(path: &str, mode: u32, bytes: Vec<u8>) -> Self {
        Self {
            path: path.to_owned(),
            mode,
            kind: EntryKind::File(bytes),
        }
    }

    /// Type bits, content, and the device's numbers.
    pub(crate) fn parts(&self) -> (u32, &[u8], u32, u32) {
        match &self.kind {
            EntryKind::Directory => (TYPE_DIRECTORY, &[], 0, 0),
            EntryKind::File(bytes) => (TYPE_FILE, bytes, 0, 0),
            EntryKind::Symlink(target) => (TYPE_SYMLINK, target.as_bytes(), 0, 0),
            EntryKind::CharacterDevice { major, minor } => (TYPE_CHARACTER, &[], *major, *minor),
        }
    }
}

/// The entries by path, each known to have a usable path and its folder.
pub(crate) fn sorted(entries: &[Entry]) -> Result<BTreeMap<&str, &Entry>, GuestImageError> {
    let mut sorted: BTreeMap<&str, &Entry> = BTreeMap::new();
    for entry in entries {
        check_path(&entry.path)?;
        if sorted.insert(&entry.path, entry).is_some() {
            return Err(GuestImageError::Duplicate {
                path: entry.path.clone(),
            });
        }
    }
    for path in sorted.keys() {
        check_parent(path, &sorted)?;
    }
    Ok(sorted)
}

/// Writes an archive: sorted by path, owner 0, time 0, inode numbers counting up.
pub fn write_newc(entries: &[Entry]) -> Result<Vec<u8>, GuestImageError> {
    let sorted = sorted(entries)?;
    let mut archive = Vec::new();
    for (inode, (path, entry)) in (1_u32..).zip(&sorted) {
        let (kind, content, major, minor) = entry.parts();
        let size = u32::try_from(content.len()).map_err(|_| GuestImageError::TooLarge {
            path: (*path).to_owned(),
            size: content.len(),
        })?;
        let links = if kind == TYPE_DIRECTORY { 2 } else { 1 };
        let mode = kind | (entry.mode & 0o7777);
        record(
            &mut archive,
            path,
            &Fields {
                inode,
                mode,
                links,
                size,
                major,
                minor,
            },
        );
        archive.extend_from_slice(content);
        pad(&mut archive);
    }
    record(
        &mut archive,
        TRAILER,
        &Fields {
            links: 1,
            ..Fields::default()
        },
    );
    pad(&mut archive);
    Ok(archive)
}

#[derive(Default)]
struct Fields {
    inode: u32,
    mode: u32,
    links: u32,
    size: u32,
    major: u32,
    minor: u32,
}

/// One header: magic, thirteen fields of eight hexadecimal digits, the name, padding.
fn record(archive: &mut Vec<u8>, name: &str, fields: &Fields) {
    let name_size = u32::try_from(name.len() + 1).unwrap_or(u32::MAX);
    let values = [
        fields.inode,
        fields.mode,
        0, // uid
        0, // gid
        fields.links,
        0, // mtime
        fields.size,
        0, // device major
        0, // device minor
        fields.major,
        fields.minor,
        name_size,
        0, // checksum, unused in this format
    ];
    archive.extend_from_slice(b"070701");
    for value in values {
        archive.extend_from_slice(format!("{value:08X}").as_bytes());
    }
    archive.extend_from_slice(name.as_bytes());
    archive.push(0);
    pad(archive);
}

fn pad(archive: &mut Vec<u8>) {
    while !archive.len().is_multiple_of(4) {
        archive.push(0);
    }
}

fn check_path(path: &str) -> Result<(), GuestImageError> {
    let bad_part = |part: &str| part.is_empty() || part == "." || part == "..";
    let bad = path.len() > MAX_PATH
        || path == TRAILER
        || path.contains('\0')
        || path.split('/').any(bad_part);
    if bad {
        Err(GuestImageError::Path {
            path: path.to_owned(),
        })
    } else {
        Ok(())
    }
}

fn check_parent(path: &str, entries: &BTreeMap<&str, &Entry>) -> Result<(), GuestImageError> {
    let Some((parent, _)) = path.rsplit_once('/') else {
        return Ok(());
    };
    match entries.get(parent) {
        Some(entry) if entry.kind == EntryKind::Directory => Ok(()),
        _ => Err(GuestImageError::MissingParent {
            path: path.to_owned(),
            parent: parent.to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_order_of_the_entries_does_not_matter() {
        let folder = Entry::directory("etc");
        let file = Entry::file("etc/motd", 0o644, b"hello".to_vec());
        let there = write_newc(&[folder.clone(), file.clone()]).unwrap();
        let back = write_newc(&[file, folder]).unwrap();
        assert_eq!(there, back);
    }

    #[test]
    fn a_header_holds_the_fields_at_their_places() {
        let archive = write_newc(&[Entry::file("a", 0o755, b"xyz".to_vec())]).unwrap();
        assert_eq!(archive.get(..6), Some(b"070701".as_slice()));
        assert_eq!(archive.get(14..22), Some(b"000081ED".as_slice()), "mode");
        assert_eq!(archive.get(46..54), Some(b"00000000".as_slice()), "mtime");
        assert_eq!(archive.get(54..62), Some(b"00000003".as_slice()), "size");
        assert_eq!(archive.get(110..112), Some(b"a\0".as_slice()), "name");
        assert_eq!(
            archive.get(112..116),
            Some(b"xyz\0".as_slice()),
            "content and padding"
        );
        assert!(archive.len().is_multiple_of(4));
    }

    #[test]
    fn paths_that_leave_or_repeat_are_refused() {
        for path in ["", "/etc", "a//b", "../a", "a/./b", "a\0b", TRAILER] {
            let outcome = write_newc(&[Entry::file(path, 0o644, Vec::new())]);
            assert!(
                matches!(outcome, Err(GuestImageError::Path { .. })),
                "{path:?}"
            );
        }
        let twice = [Entry::directory("a"), Entry::directory("a")];
        assert!(matches!(
            write_newc(&twice),
            Err(GuestImageError::Duplicate { .. })
        ));
        let orphan = [Entry::file("a/b", 0o644, Vec::new())];
        assert!(matches!(
            write_newc(&orphan),
            Err(GuestImageError::MissingParent { .. })
        ));
    }

    proptest! {
        #[test]
        fn any_set_of_files_gives_an_aligned_archive(
            files in proptest::collection::btree_map("[a-z]{1,12}", proptest::collection::vec(any::<u8>(), 0..200), 0..20)
        ) {
            let entries: Vec<Entry> =
                files.iter().map(|(path, bytes)| Entry::file(path, 0o644, bytes.clone())).collect();
            let archive = write_newc(&entries).unwrap();
            prop_assert!(archive.len().is_multiple_of(4));
            prop_assert!(archive.windows(TRAILER.len()).any(|part| part == TRAILER.as_bytes()));
        }
    }
}
