//! Archives, ordinary and hostile, unpacked into a directory. Needs root.

mod archives;
mod foreign;
mod properties;

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::PathBuf;
use std::time::Duration;

use tar::{EntryType, Header};

use super::{ArchiveStream, extract};
use crate::digest::Digest;
use crate::errors::{EntryProblem, ImageError};
use crate::interrupt::Interrupt;
use crate::options::UnpackOptions;

/// Builds archives entry by entry, with names that `tar` itself would refuse.
#[derive(Default)]
struct Tar(Vec<u8>);

impl Tar {
    fn raw(mut self, mut header: Header, data: &[u8]) -> Self {
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn header(kind: EntryType, name: &str) -> Header {
        let mut header = Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_600_000_000);
        header.set_size(0);
        header
    }

    fn entry(self, kind: EntryType, name: &str) -> Self {
        self.raw(Self::header(kind, name), b"")
    }

    fn file(self, name: &str, data: &[u8]) -> Self {
        let mut header = Self::header(EntryType::Regular, name);
        header.set_size(data.len() as u64);
        self.raw(header, data)
    }

    fn dir(self, name: &str) -> Self {
        let mut header = Self::header(EntryType::Directory, name);
        header.set_mode(0o755);
        self.raw(header, b"")
    }

    fn link(self, kind: EntryType, name: &str, target: &str) -> Self {
        let mut header = Self::header(kind, name);
        header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
        self.raw(header, b"")
    }

    fn symlink(self, name: &str, target: &str) -> Self {
        self.link(EntryType::Symlink, name, target)
    }

    fn hard_link(self, name: &str, target: &str) -> Self {
        self.link(EntryType::Link, name, target)
    }

    fn device(self, kind: EntryType, name: &str, major: u32, minor: u32) -> Self {
        let mut header = Self::header(kind, name);
        header.set_device_major(major).unwrap();
        header.set_device_minor(minor).unwrap();
        self.raw(header, b"")
    }

    fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut data = Vec::new();
        for (key, value) in records {
            let body = key.len() + value.len() + 3;
            let mut length = body + 1;
            while length != body + length.to_string().len() {
                length = body + length.to_string().len();
            }
            data.extend_from_slice(format!("{length} {key}=").as_bytes());
            data.extend_from_slice(value);
            data.push(b'\n');
        }
        let mut header = Self::header(EntryType::XHeader, "pax");
        header.set_size(data.len() as u64);
        self.raw(header, &data)
    }

    fn finish(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

struct Unpacked {
    directory: tempfile::TempDir,
    implicit: Vec<String>,
    entries: u64,
}

impl Unpacked {
    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join("root").join(name)
    }

    fn stat(&self, name: &str) -> std::fs::Metadata {
        self.path(name).symlink_metadata().unwrap()
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    fn xattr(&self, name: &str, xattr: &str) -> Option<Vec<u8>> {
        let mut value = [0; 256];
        let length = rustix::fs::lgetxattr(self.path(name), xattr, &mut value[..]).ok()?;
        Some(value[..length].to_vec())
    }

    fn is_whiteout(&self, name: &str) -> bool {
        let found = self.stat(name);
        found.file_type().is_char_device() && found.rdev() == 0
    }
}

fn unpack_with(archive: &[u8], options: &UnpackOptions) -> Result<Unpacked, ImageError> {
    let directory = tempfile::tempdir().unwrap();
    let (root, trash) = (
        directory.path().join("root"),
        directory.path().join("trash"),
    );
    // What a hostile archive would like to reach.
    std::fs::create_dir(directory.path().join("outside")).unwrap();
    std::fs::write(directory.path().join("outside/victim"), "untouched").unwrap();
    std::fs::create_dir(&root).unwrap();
    std::fs::create_dir(&trash).unwrap();
    let interrupt = Interrupt::after(Duration::from_secs(60));
    let stream = ArchiveStream::new(Box::new(archive), 1 << 30, options, &interrupt);
    let result = extract(stream, &root, &trash, options);
    let outside = directory.path().join("outside");
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
    assert_eq!(
        std::fs::read_to_string(outside.join("victim")).unwrap(),
        "untouched"
    );
    assert_eq!(outside.join("victim").metadata().unwrap().nlink(), 1);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 3);
    let extraction = result?;
    assert_eq!(extraction.diff_id, Digest::of(archive));
    assert_eq!(extraction.archive_bytes, archive.len() as u64);
    let text = |path: &Vec<u8>| String::from_utf8(path.clone()).unwrap();
    Ok(Unpacked {
        directory,
        implicit: extraction.implicit_directories.iter().map(text).collect(),
        entries: extraction.entries,
    })
}

fn unpack(tar: Tar) -> Result<Unpacked, ImageError> {
    unpack_with(&tar.finish(), &UnpackOptions::default())
}

fn problem(tar: Tar) -> EntryProblem {
    match unpack(tar) {
        Err(ImageError::Entry { reason, .. }) => reason,
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("unpacked"),
    }
}
