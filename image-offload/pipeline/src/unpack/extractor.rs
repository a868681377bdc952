//! Creates a layer's files below one directory and never outside it.
//!
//! Every step is relative to an open directory. The way to a directory is
//! resolved by the kernel (`openat2`) so that no symbolic link of the layer
//! leads out; names are checked before, so ".." never reaches the kernel.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat, ftruncate, linkat, makedev, mkdirat,
    mknodat, openat, openat2, renameat, statat, symlinkat, unlinkat,
};
use rustix::io::{Errno, pwrite, write};

use crate::digest::Digest;
use crate::errors::{EntryProblem, ImageError};
use crate::options::{Devices, UnpackOptions};

use super::entry::{EntryKind, Metadata, TarEntry};
use super::metadata::{MetadataError, apply_to_name, apply_to_open, set_opaque, set_times};
use super::name::{Component, EntryName, entry_error, join, printable};
use super::pax::Timestamp;
use super::sparse::SparseMap;
use super::stream::ArchiveStream;
use super::tar_reader::TarReader;

const WHITEOUT_PREFIX: &[u8] = b".wh.";
/// Names with this prefix are aufs bookkeeping, except for the opaque marker.
const AUFS_PREFIX: &[u8] = b".wh..wh.";
const OPAQUE_MARKER: &[u8] = b".wh..wh..opq";
const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);
/// The kernel's limit for the text of a symbolic link.
const MAX_SYMLINK_BYTES: usize = 4095;
const MAX_MAJOR: u32 = (1 << 12) - 1;
const MAX_MINOR: u32 = (1 << 20) - 1;

/// What came out of an archive.
#[derive(Debug)]
pub(crate) struct Extraction {
    /// Digest of the uncompressed archive.
    pub(crate) diff_id: Digest,
    /// Its length.
    pub(crate) archive_bytes: u64,
    /// Entries in it.
    pub(crate) entries: u64,
    /// Directories that files stand in without an entry of their own; their
    /// owner and mode are those of the layers below.
    pub(crate) implicit_directories: BTreeSet<Vec<u8>>,
    /// Whether it holds whiteouts or opaque directories.
    #[cfg_attr(
        not(feature = "host"),
        expect(dead_code, reason = "an overlay needs no hint")
    )]
    pub(crate) hides: bool,
}

/// Unpacks an archive into the directory `root`.
///
/// `trash` takes directories that later entries replace; both must be on one
/// file system. The caller compares the `diff_id` and removes everything when
/// it is the wrong one.
pub(crate) fn extract(
    stream: ArchiveStream<'_>,
    root: &Path,
    trash: &Path,
    options: &UnpackOptions,
) -> Result<Extraction, ImageError> {
    let open = |path: &Path| {
        rustix::fs::open(path, DIRECTORY, Mode::empty())
            .map_err(|error| ImageError::io("open", path, error.into()))
    };
    let mut extractor = Extractor {
        root: open(root)?,
        trash: open(trash)?,
        place: root.to_owned(),
        options,
        trashed: 0,
        hides: false,
        directory_times: Vec::new(),
        implicit: BTreeSet::from([b".".to_vec()]),
        parent: None,
    };
    let mut reader = TarReader::new(stream);
    let mut entries = 0;
    while let Some(entry) = reader.next_entry()? {
        entries += 1;
        if entries > options.max_entries {
            return Err(ImageError::TooManyEntries {
                limit: options.max_entries,
            });
        }
        extractor.create(entry, &mut reader)?;
    }
    extractor.set_directory_times()?;
    let (diff_id, archive_bytes) = reader.into_stream().finish()?;
    Ok(Extraction {
        diff_id,
        archive_bytes,
        entries,
        implicit_directories: extractor.implicit,
        hides: extractor.hides,
    })
}

struct Extractor<'a> {
    root: OwnedFd,
    trash: OwnedFd,
    /// For error messages.
    place: PathBuf,
    options: &'a UnpackOptions,
    trashed: u64,
    hides: bool,
    directory_times: Vec<(Vec<u8>, Timestamp)>,
    implicit: BTreeSet<Vec<u8>>,
    /// The directory of the last entry: the next one is likely there too.
    parent: Option<(Vec<u8>, Rc<OwnedFd>)>,
}

/// Why one entry could not be created, before its name is added.
enum Failure {
    Entry(EntryProblem),
    System(&'static str, Errno),
    Image(ImageError),
}

impl From<EntryProblem> for Failure {
    fn from(problem: EntryProblem) -> Self {
        Self::Entry(problem)
    }
}

impl From<ImageError> for Failure {
    fn from(error: ImageError) -> Self {
        Self::Image(error)
    }
}

impl From<MetadataError> for Failure {
    fn from(error: MetadataError) -> Self {
        match error {
            MetadataError::Entry(problem) => Self::Entry(problem),
            MetadataError::System(error) => Self::System("set owner, mode or attributes of", error),
        }
    }
}

fn system(what: &'static str) -> impl Fn(Errno) -> Failure {
    move |error| Failure::System(what, error)
}

impl Extractor<'_> {
    fn create(&mut self, entry: TarEntry, reader: &mut TarReader<'_>) -> Result<(), ImageError> {
        let name = entry.name.clone();
        self.try_create(entry, reader)
            .map_err(|failure| match failure {
                Failure::Entry(problem) => entry_error(&name, problem),
                Failure::Image(error) => error,
                Failure::System(_, Errno::NOSPC | Errno::DQUOT) => ImageError::DiskFull {
                    path: self.place.clone(),
                },
                Failure::System(what, error) => {
                    ImageError::io(what, printable(&name), io::Error::from(error))
                }
            })
    }

    fn try_create(&mut self, entry: TarEntry, reader: &mut TarReader<'_>) -> Result<(), Failure> {
        let TarEntry {
            name,
            kind,
            metadata,
        } = entry;
        let name = EntryName::parse(&name, self.options)?;
        let Some((parent, last)) = name.split() else {
            return match kind {
                EntryKind::Directory => {
                    let root = self.root.try_clone().map_err(clone_failed)?;
                    self.directory_metadata(&name, &root, &metadata)
                }
                _ => Err(EntryProblem::InvalidName.into()),
            };
        };
        let parent = self.open_parent(parent)?;
        if last.starts_with(WHITEOUT_PREFIX) {
            self.hides = true;
            return Self::whiteout(&parent, last);
        }
        match kind {
            EntryKind::Directory => {
                let directory = self.directory(&parent, last)?;
                self.directory_metadata(&name, &directory, &metadata)
            }
            EntryKind::File {
                stored_bytes,
                sparse,
            } => self.file(
                &parent,
                last,
                stored_bytes,
                sparse.as_ref(),
                &metadata,
                reader,
            ),
            EntryKind::Symlink { target } => {
                if target.is_empty() || target.len() > MAX_SYMLINK_BYTES || target.contains(&0) {
                    return Err(EntryProblem::SymlinkTarget.into());
                }
                self.replacing(&parent, last, || symlinkat(&*target, &*parent, last))?
                    .map_err(system("create link"))?;
                Ok(apply_to_name(parent.as_fd(), last, &metadata, true)?)
            }
            EntryKind::HardLink { target } => self.hard_link(&parent, last, &target),
            EntryKind::CharDevice { major, minor } => self.device(
                &parent,
                last,
                FileType::CharacterDevice,
                (major, minor),
                &metadata,
            ),
            EntryKind::BlockDevice { major, minor } => self.device(
                &parent,
                last,
                FileType::BlockDevice,
                (major, minor),
                &metadata,
            ),
            EntryKind::Fifo => self.node(&parent, last, FileType::Fifo, 0, &metadata),
        }
    }

    /// Opens the directory of an entry, with what is missing on the way.
    fn open_parent(&mut self, components: &[Component]) -> Result<Rc<OwnedFd>, Failure> {
        let path = join(components);
        if let Some((known, directory)) = &self.parent
            && *known == path
        {
            return Ok(Rc::clone(directory));
        }
        let directory = match self.resolve(&path) {
            Ok(directory) => directory,
            Err(Errno::NOENT | Errno::NOTDIR) => self.create_parents(components)?,
            Err(error) => return Err(resolve_failed(error)),
        };
        let directory = Rc::new(directory);
        self.parent = Some((path, Rc::clone(&directory)));
        Ok(directory)
    }

    fn create_parents(&mut self, components: &[Component]) -> Result<OwnedFd, Failure> {
        let mut directory = self.root.try_clone().map_err(clone_failed)?;
        for depth in 1..=components.len() {
            let path = join(&components[..depth]);
            directory = match self.resolve(&path) {
                Ok(found) => found,
                Err(Errno::NOENT | Errno::NOTDIR) => {
                    let name = &components[depth - 1];
                    match stat(&directory, name)? {
                        Some(found) if !is_whiteout(&found) => {
                            return Err(EntryProblem::ParentNotDirectory.into());
                        }
                        _ => {}
                    }
                    let created = self.directory(&directory, name)?;
                    rustix::fs::fchmod(&created, Mode::from_raw_mode(0o755))
                        .map_err(system("set mode of"))?;
                    self.implicit.insert(path);
                    created
                }
                Err(error) => return Err(resolve_failed(error)),
            };
        }
        Ok(directory)
    }

    fn resolve(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let flags = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        loop {
            match openat2(&self.root, path, DIRECTORY, Mode::empty(), flags) {
                // Something was renamed on the machine while ".." in a link
                // was followed; the kernel asks for another try.
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return other,
            }
        }
    }

    /// Makes a directory, or opens the one that is there; anything else under
    /// the name is replaced.
    fn directory(&mut self, parent: &OwnedFd, name: &[u8]) -> Result<OwnedFd, Failure> {
        let mut hides = false;
        let mode = Mode::from_raw_mode(0o700);
        match mkdirat(parent, name, mode) {
            Err(Errno::EXIST) => {
                let found = stat(parent, name)?;
                hides = found.as_ref().is_some_and(is_whiteout);
                if !found.as_ref().is_some_and(is_directory) {
                    self.clear(parent, name)?;
                    mkdirat(parent, name, mode).map_err(system("create directory"))?;
                }
            }
            other => other.map_err(system("create directory"))?,
        }
        let directory = openat(parent, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())
            .map_err(system("open directory"))?;
        if hides {
            set_opaque(&directory).map_err(system("mark as opaque"))?;
        }
        Ok(directory)
    }

    fn directory_metadata(
        &mut self,
        name: &EntryName,
        directory: &OwnedFd,
        metadata: &Metadata,
    ) -> Result<(), Failure> {
        apply_to_open(directory.as_fd(), metadata, false)?;
        let path = name.joined();
        self.implicit.remove(&path);
        self.directory_times.push((path, metadata.mtime));
        Ok(())
    }

    fn file(
        &mut self,
        parent: &OwnedFd,
        name: &[u8],
        stored_bytes: u64,
        sparse: Option<&SparseMap>,
        metadata: &Metadata,
        reader: &mut TarReader<'_>,
    ) -> Result<(), Failure> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = self
            .replacing(parent, name, || {
                openat(parent, name, flags, Mode::from_raw_mode(0o600))
            })?
            .map_err(system("create file"))?;
        match sparse {
            None => {
                let mut left = stored_bytes;
                while left > 0 {
                    let chunk = reader.data()?;
                    write_all(&file, chunk, None)?;
                    left -= chunk.len() as u64;
                }
            }
            Some(map) => self.sparse_file(&file, map, reader)?,
        }
        Ok(apply_to_open(file.as_fd(), metadata, true)?)
    }

    fn sparse_file(
        &self,
        file: &OwnedFd,
        map: &SparseMap,
        reader: &mut TarReader<'_>,
    ) -> Result<(), Failure> {
        let limit_bytes = self.options.max_layer_bytes;
        if map.real_size > limit_bytes {
            return Err(ImageError::UnpackedTooLarge { limit_bytes }.into());
        }
        ftruncate(file, map.real_size).map_err(system("size file"))?;
        let mut segments = map.segments.iter().copied();
        let mut current = segments.next();
        loop {
            let mut chunk = reader.data()?;
            if chunk.is_empty() {
                return Ok(());
            }
            while let Some((offset, length)) = current.filter(|_| !chunk.is_empty()) {
                let part = usize::try_from(length)
                    .unwrap_or(usize::MAX)
                    .min(chunk.len());
                write_all(file, &chunk[..part], Some(offset))?;
                chunk = &chunk[part..];
                let written = part as u64;
                current = match length - written {
                    0 => segments.next(),
                    rest => Some((offset + written, rest)),
                };
            }
        }
    }

    fn hard_link(&mut self, parent: &OwnedFd, name: &[u8], target: &[u8]) -> Result<(), Failure> {
        let target = EntryName::parse_target(target, self.options)?;
        let (target_parent, target_name) = target.split().ok_or(EntryProblem::HardLinkTarget)?;
        let target_parent = self
            .resolve(&join(target_parent))
            .map_err(|error| match error {
                Errno::XDEV | Errno::LOOP => EntryProblem::HardLinkEscape,
                _ => EntryProblem::HardLinkTargetMissing,
            })?;
        let found =
            stat(&target_parent, target_name)?.ok_or(EntryProblem::HardLinkTargetMissing)?;
        if is_directory(&found) || is_whiteout(&found) {
            return Err(EntryProblem::HardLinkTarget.into());
        }
        let existing = stat(parent, name)?;
        if existing.is_some_and(|old| (old.st_dev, old.st_ino) == (found.st_dev, found.st_ino)) {
            return Ok(());
        }
        self.clear(parent, name)?;
        linkat(&target_parent, target_name, parent, name, AtFlags::empty()).map_err(|error| {
            match error {
                Errno::MLINK | Errno::PERM => Failure::Entry(EntryProblem::HardLinkTarget),
                error => Failure::System("create hard link", error),
            }
        })
    }

    fn device(
        &mut self,
        parent: &OwnedFd,
        name: &[u8],
        kind: FileType,
        (major, minor): (u32, u32),
        metadata: &Metadata,
    ) -> Result<(), Failure> {
        if self.options.devices == Devices::Refuse {
            return Err(EntryProblem::DeviceRefused.into());
        }
        // The number 0:0 means a whiteout to the overlay file system.
        if major > MAX_MAJOR || minor > MAX_MINOR || (major, minor) == (0, 0) {
            return Err(EntryProblem::DeviceNumber.into());
        }
        self.node(parent, name, kind, makedev(major, minor), metadata)
    }

    fn node(
        &mut self,
        parent: &OwnedFd,
        name: &[u8],
        kind: FileType,
        device: u64,
        metadata: &Metadata,
    ) -> Result<(), Failure> {
        let mode = Mode::from_raw_mode(0o600);
        self.replacing(parent, name, || mknodat(parent, name, kind, mode, device))?
            .map_err(system("create node"))?;
        Ok(apply_to_name(parent.as_fd(), name, metadata, false)?)
    }

    /// Turns `.wh.` entries into the overlay file system's own marks.
    fn whiteout(parent: &OwnedFd, marker: &[u8]) -> Result<(), Failure> {
        if marker == OPAQUE_MARKER {
            return set_opaque(parent).map_err(system("mark as opaque"));
        }
        if marker.starts_with(AUFS_PREFIX) {
            return Ok(());
        }
        let hidden = &marker[WHITEOUT_PREFIX.len()..];
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(EntryProblem::Whiteout.into());
        }
        match stat(parent, hidden)? {
            None => mknodat(
                parent,
                hidden,
                FileType::CharacterDevice,
                Mode::empty(),
                makedev(0, 0),
            )
            .map_err(system("create whiteout")),
            // A whiteout hides what is below this layer, not what the layer
            // itself brings: a directory of both kinds is opaque, anything
            // else hides what is below already.
            Some(found) if is_directory(&found) => {
                let directory = openat(parent, hidden, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())
                    .map_err(system("open directory"))?;
                set_opaque(&directory).map_err(system("mark as opaque"))
            }
            Some(_) => Ok(()),
        }
    }

    /// Creates something under a name. Most names are free; one that is not
    /// is freed first.
    fn replacing<T>(
        &mut self,
        parent: &OwnedFd,
        name: &[u8],
        create: impl Fn() -> Result<T, Errno>,
    ) -> Result<Result<T, Errno>, Failure> {
        match create() {
            Err(Errno::EXIST) => {
                self.clear(parent, name)?;
                Ok(create())
            }
            other => Ok(other),
        }
    }

    /// Frees a name. Directories are moved away whole: that takes one step
    /// whatever is in them.
    fn clear(&mut self, parent: &OwnedFd, name: &[u8]) -> Result<(), Failure> {
        let Some(found) = stat(parent, name)? else {
            return Ok(());
        };
        if is_directory(&found) {
            self.parent = None;
            self.trashed += 1;
            let slot = self.trashed.to_string();
            return renameat(parent, name, &self.trash, slot.as_str())
                .map_err(system("replace directory"));
        }
        if FileType::from_raw_mode(found.st_mode) == FileType::Symlink {
            self.parent = None;
        }
        unlinkat(parent, name, AtFlags::empty()).map_err(system("replace"))
    }

    fn set_directory_times(&mut self) -> Result<(), ImageError> {
        for (path, mtime) in std::mem::take(&mut self.directory_times) {
            // A later entry may have replaced the directory.
            let Ok(directory) = self.resolve(&path) else {
                continue;
            };
            set_times(&directory, mtime)
                .map_err(|error| ImageError::io("set times of", printable(&path), error.into()))?;
        }
        Ok(())
    }
}

fn stat(parent: &OwnedFd, name: &[u8]) -> Result<Option<Stat>, Failure> {
    match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(found) => Ok(Some(found)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(Failure::System("look up", error)),
    }
}

fn is_directory(found: &Stat) -> bool {
    FileType::from_raw_mode(found.st_mode) == FileType::Directory
}

/// Whether this is the overlay file system's mark for a hidden name.
pub(crate) fn is_whiteout(found: &Stat) -> bool {
    FileType::from_raw_mode(found.st_mode) == FileType::CharacterDevice && found.st_rdev == 0
}

fn resolve_failed(error: Errno) -> Failure {
    match error {
        Errno::XDEV | Errno::LOOP => EntryProblem::SymlinkEscape.into(),
        Errno::NAMETOOLONG => EntryProblem::NameTooLong.into(),
        error => Failure::System("open directory", error),
    }
}

fn clone_failed(error: io::Error) -> Failure {
    Failure::Image(ImageError::io(
        "duplicate the handle of",
        "a directory",
        error,
    ))
}

/// Writes all bytes, at an offset or where the file stands.
fn write_all(file: &OwnedFd, mut data: &[u8], mut offset: Option<u64>) -> Result<(), Failure> {
    while !data.is_empty() {
        let result = match offset {
            Some(offset) => pwrite(file, data, offset),
            None => write(file, data),
        };
        match result {
            Ok(0) => return Err(Failure::System("write", Errno::IO)),
            Ok(count) => {
                data = &data[count..];
                offset = offset.map(|offset| offset + count as u64);
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(Failure::System("write", error)),
        }
    }
    Ok(())
}
