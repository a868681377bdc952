//! Files from the host, such as a pod's `hosts`: written below one folder only.

use std::ffi::OsStr;
use std::fs::{File, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Component, Path};

use redoubt_agent_api::agent::CopyFileRequest;
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Uid, fchown, renameat, symlinkat, unlinkat,
};

use crate::beneath::{self, Folder};
use crate::error::{AgentError, Result};

/// The largest file that is taken.
const MAX_FILE_BYTES: usize = 32 << 20;
/// The longest path that is taken.
const MAX_PATH_BYTES: usize = 1024;
/// Permission bits that the host may set on a file: no set-user-id, no set-group-id.
const FILE_MODE: u32 = 0o777;
/// Permission bits of a folder; its group may be that of what is made in it.
const FOLDER_MODE: u32 = 0o2777;

/// Writes a file or a part of one, a folder or a link. A file appears under its name
/// when its last part is there.
pub(crate) fn copy(shared: &Path, request: &CopyFileRequest) -> Result<()> {
    let path = Path::new(&request.path);
    let inside = beneath::inside(shared, path)
        .filter(|_| request.path.len() <= MAX_PATH_BYTES)
        .ok_or_else(|| AgentError::Path {
            what: "file",
            path: request.path.chars().take(128).collect::<String>().into(),
        })?;
    let target = Target::open(shared, inside, request).map_err(AgentError::file("open", path))?;
    match FileType::from_raw_mode(request.file_mode) {
        FileType::RegularFile => target.write(&Part::of(request)?, request),
        FileType::Directory => target.make_folder(request),
        FileType::Symlink => target.link(checked_link(&request.data)?),
        _ => return Err(AgentError::request("a copied file is of an unknown kind")),
    }
    .map_err(AgentError::file("write", path))
}

/// A part of a file, in its bounds.
struct Part<'a> {
    data: &'a [u8],
    offset: u64,
    is_last: bool,
}

impl<'a> Part<'a> {
    fn of(request: &'a CopyFileRequest) -> Result<Self> {
        let outside = || AgentError::request("a part of a copied file is outside of it");
        let size = usize::try_from(request.file_size).map_err(|_| outside())?;
        let offset = usize::try_from(request.offset).map_err(|_| outside())?;
        if size > MAX_FILE_BYTES {
            return Err(AgentError::TooLarge {
                what: "the file",
                limit_bytes: MAX_FILE_BYTES,
            });
        }
        match offset.checked_add(request.data.len()) {
            Some(end) if end <= size => Ok(Self {
                data: &request.data,
                offset: offset as u64,
                is_last: end == size,
            }),
            _ => Err(outside()),
        }
    }
}

/// The target of a link, which may lead to what stands beside or below it only.
fn checked_link(data: &[u8]) -> Result<&Path> {
    let target = Path::new(OsStr::from_bytes(data));
    let stays = target
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    if stays && !data.is_empty() && data.len() <= MAX_PATH_BYTES && !data.contains(&0) {
        Ok(target)
    } else {
        Err(AgentError::request(
            "a copied link leads out of its own folder",
        ))
    }
}

/// The folder that something is written in, and its name there.
struct Target<'a> {
    folder: Folder,
    name: &'a OsStr,
    /// The name under which it waits for its end.
    unfinished: std::ffi::OsString,
}

impl<'a> Target<'a> {
    fn open(shared: &Path, inside: &'a Path, request: &CopyFileRequest) -> io::Result<Self> {
        let name = inside.file_name().unwrap_or_default();
        let parent = inside.parent().unwrap_or(Path::new(""));
        // The agent itself must be able to write there.
        let mode = Mode::from_raw_mode(request.dir_mode & FOLDER_MODE | 0o700);
        let (folder, _) = Folder::open(shared)?.make(parent, mode)?;
        let mut unfinished = std::ffi::OsString::from(".");
        unfinished.push(name);
        unfinished.push(".unfinished");
        Ok(Self {
            folder,
            name,
            unfinished,
        })
    }

    fn write(&self, part: &Part<'_>, request: &CopyFileRequest) -> io::Result<()> {
        // Not to wait for a reader if a container has put a FIFO there.
        let mut flags = OFlags::CREATE | OFlags::WRONLY | OFlags::NONBLOCK;
        if part.offset == 0 {
            self.discard();
            flags |= OFlags::EXCL;
        }
        let mode = Mode::from_raw_mode(0o600);
        let file = self
            .folder
            .open_file(Path::new(&self.unfinished), flags, mode)?;
        let file = File::from(file);
        if !file.metadata()?.is_file() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        file.write_all_at(part.data, part.offset)?;
        if !part.is_last {
            return Ok(());
        }
        own(&file, request)?;
        file.set_permissions(Permissions::from_mode(request.file_mode & FILE_MODE))?;
        self.finish()
    }

    fn make_folder(&self, request: &CopyFileRequest) -> io::Result<()> {
        let mode = request.file_mode & FOLDER_MODE;
        let (folder, _) = self
            .folder
            .make(Path::new(self.name), Mode::from_raw_mode(mode))?;
        own(&folder, request)?;
        Ok(rustix::fs::fchmod(&folder, Mode::from_raw_mode(mode))?)
    }

    fn link(&self, target: &Path) -> io::Result<()> {
        self.discard();
        symlinkat(target, &self.folder, &self.unfinished)?;
        self.finish()
    }

    /// Removes what a copy left that did not come to its end.
    fn discard(&self) {
        let _ = unlinkat(&self.folder, &self.unfinished, AtFlags::empty());
    }

    fn finish(&self) -> io::Result<()> {
        let renamed = renameat(&self.folder, &self.unfinished, &self.folder, self.name);
        if renamed.is_err() {
            self.discard();
        }
        Ok(renamed?)
    }
}

/// Sets the owner; a negative number leaves it.
fn own(file: &impl std::os::fd::AsFd, request: &CopyFileRequest) -> io::Result<()> {
    let id = |id: i32| u32::try_from(id).ok();
    let (uid, gid) = (id(request.uid), id(request.gid));
    Ok(fchown(
        file,
        uid.map(Uid::from_raw),
        gid.map(Gid::from_raw),
    )?)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    fn request(path: &Path, mode: u32, data: &[u8]) -> CopyFileRequest {
        CopyFileRequest {
            path: path.to_str().unwrap().to_owned(),
            file_size: i64::try_from(data.len()).unwrap(),
            file_mode: mode,
            dir_mode: 0o40_750,
            data: data.to_vec(),
            // To change the owner takes rights.
            uid: -1,
            gid: -1,
            ..CopyFileRequest::new()
        }
    }

    #[test]
    fn a_file_appears_with_its_last_part() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b.txt");
        let mut first = request(&path, 0o104_640, b"hel");
        first.file_size = 5;
        copy(folder.path(), &first).unwrap();
        assert!(!path.exists());
        let mut second = request(&path, 0o104_640, b"lo");
        (second.file_size, second.offset) = (5, 3);
        copy(folder.path(), &second).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"hello");
        // Without the set-user-id bit that was asked for.
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o640);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn folders_and_links_are_made_and_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dir");
        for _ in 0..2 {
            copy(folder.path(), &request(&path, 0o040_755, b"")).unwrap();
        }
        assert!(path.is_dir());
        let link = folder.path().join("link");
        for target in ["..data/one", "two"] {
            copy(folder.path(), &request(&link, 0o120_777, target.as_bytes())).unwrap();
            assert_eq!(fs::read_link(&link).unwrap(), Path::new(target));
        }
    }

    #[test]
    fn links_stay_in_their_folder() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link");
        for target in [
            &b"/etc"[..],
            b"../x",
            b"a/../../x",
            b"",
            b"a\0b",
            &[b'x'; 1025],
        ] {
            let error = copy(folder.path(), &request(&link, 0o120_777, target)).unwrap_err();
            assert!(matches!(error, AgentError::Request { .. }), "{error}");
        }
        assert!(link.symlink_metadata().is_err());
    }

    #[test]
    fn nothing_is_written_outside_of_the_folder() {
        let outside = tempfile::tempdir().unwrap();
        let folder = tempfile::tempdir().unwrap();
        symlink(outside.path(), folder.path().join("way-out")).unwrap();
        let victim = outside.path().join("victim");
        symlink(&victim, folder.path().join("file")).unwrap();
        symlink(&victim, folder.path().join(".part.unfinished")).unwrap();
        for path in [
            folder.path().join("way-out/x"),
            folder.path().join("../x"),
            outside.path().join("x"),
            folder.path().to_owned(),
        ] {
            assert!(copy(folder.path(), &request(&path, 0o100_644, b"evil")).is_err());
        }
        // A link in the place of a file is replaced, not followed.
        for name in ["file", "part"] {
            let path = folder.path().join(name);
            copy(folder.path(), &request(&path, 0o100_644, b"x")).unwrap();
            assert!(path.symlink_metadata().unwrap().is_file());
        }
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_later_part_does_not_follow_a_link_either() {
        let outside = tempfile::tempdir().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let victim = outside.path().join("victim");
        fs::write(&victim, "untouched").unwrap();
        symlink(&victim, folder.path().join(".f.unfinished")).unwrap();
        let mut part = request(&folder.path().join("f"), 0o100_644, b"evil");
        (part.offset, part.file_size) = (1, 5);
        assert!(copy(folder.path(), &part).is_err());
        assert_eq!(fs::read(&victim).unwrap(), b"untouched");
    }

    #[test]
    fn parts_and_kinds_out_of_bounds_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        let good = request(&path, 0o100_644, b"data");
        let with = |change: fn(&mut CopyFileRequest)| {
            let mut request = good.clone();
            change(&mut request);
            request
        };
        for bad in [
            with(|request| request.file_size = 3),
            with(|request| request.file_size = -1),
            with(|request| request.offset = -1),
            with(|request| request.file_size = 1 << 40),
            with(|request| request.offset = i64::MAX),
            with(|request| request.file_mode = 0o020_644),
            with(|request| request.file_mode = 0o644),
        ] {
            assert!(copy(folder.path(), &bad).is_err());
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
