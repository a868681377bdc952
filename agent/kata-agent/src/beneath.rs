//! Paths that the host or a container chose, opened below one folder.
//!
//! A comparison of texts says where a path points when it is compared. A link
//! that is put in its way later leads elsewhere, so paths are opened here
//! without following any link, and what was opened is used from then on.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, mkdirat, open, openat2, unlinkat};
use rustix::io::Errno;

/// No step of a path may be a link or lead out of the folder. Mounts may be crossed.
const RESOLVE: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS);

/// The part of a path below a folder; `None` for the folder itself, for a path
/// elsewhere and for one with `..` in it.
pub(crate) fn inside<'a>(folder: &Path, path: &'a Path) -> Option<&'a Path> {
    let inside = path.strip_prefix(folder).ok()?;
    let plain = inside
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    (plain && !inside.as_os_str().is_empty()).then_some(inside)
}

/// The name of an open file for calls that take no descriptor.
pub(crate) fn name_of(file: &impl AsFd) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_fd().as_raw_fd()).into()
}

/// An open folder.
#[derive(Debug)]
pub(crate) struct Folder(OwnedFd);

impl Folder {
    /// Opens a folder that only the agent chooses; it is made if it is missing.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(path)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(open(path, flags, Mode::empty())?))
    }

    /// Finds what stands at a path, without opening it for reading or writing.
    pub(crate) fn find(&self, inside: &Path) -> io::Result<OwnedFd> {
        self.open_file(inside, OFlags::PATH, Mode::empty())
    }

    /// Opens or makes a file.
    pub(crate) fn open_file(
        &self,
        inside: &Path,
        flags: OFlags,
        mode: Mode,
    ) -> io::Result<OwnedFd> {
        // No `NOFOLLOW`: with `PATH` it would open a link at the end instead of refusing it.
        let flags = flags | OFlags::CLOEXEC;
        Ok(openat2(&self.0, inside, flags, mode, RESOLVE)?)
    }

    /// Opens the folder at a path and makes what is missing of it; tells whether
    /// the last one was missing.
    pub(crate) fn make(&self, inside: &Path, mode: Mode) -> io::Result<(Self, bool)> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let mut current = Self(openat2(
            &self.0,
            ".",
            flags | OFlags::CLOEXEC,
            Mode::empty(),
            RESOLVE,
        )?);
        let mut is_new = false;
        for part in inside.components() {
            is_new = match mkdirat(&current.0, part.as_os_str(), mode) {
                Ok(()) => true,
                Err(Errno::EXIST) => false,
                Err(errno) => return Err(errno.into()),
            };
            current = Self(current.open_file(part.as_ref(), flags, Mode::empty())?);
        }
        Ok((current, is_new))
    }
}

impl AsFd for Folder {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Removes an empty folder at a path below `folder`; it may stay if it is not empty.
pub(crate) fn remove_folder(folder: &Path, inside: &Path) {
    let parent = inside.parent().unwrap_or(Path::new(""));
    let (Some(name), Ok(root)) = (inside.file_name(), Folder::open(folder)) else {
        return;
    };
    let parent = if parent.as_os_str().is_empty() {
        Path::new(".")
    } else {
        parent
    };
    if let Ok(parent) = root.find(parent) {
        let _ = unlinkat(parent, name, AtFlags::REMOVEDIR);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_plain_paths_below_the_folder_are_inside() {
        let folder = Path::new("/run/x");
        assert_eq!(
            inside(folder, Path::new("/run/x/a/b")),
            Some(Path::new("a/b"))
        );
        for path in [
            "/run/x",
            "/run/x/",
            "/run/xy/a",
            "/run/x/../y",
            "/run/x/a/..",
            "/run/x/a/../../y",
            "relative",
            "",
            "/",
        ] {
            assert_eq!(inside(folder, Path::new(path)), None, "{path}");
        }
    }

    #[test]
    fn links_are_not_followed_at_any_step() {
        let outside = tempfile::tempdir().unwrap();
        fs::create_dir(outside.path().join("d")).unwrap();
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("real")).unwrap();
        symlink(outside.path(), root.path().join("out")).unwrap();
        symlink("real", root.path().join("near")).unwrap();
        symlink("/proc/self/root", root.path().join("magic")).unwrap();
        let folder = Folder::open(root.path()).unwrap();
        folder.find(Path::new("real")).unwrap();
        for path in ["out", "out/d", "near", "magic/etc", "../x", "real/../../x"] {
            assert!(folder.find(Path::new(path)).is_err(), "{path}");
            let mode = Mode::from_raw_mode(0o700);
            assert!(
                folder.make(&Path::new(path).join("new"), mode).is_err(),
                "{path}"
            );
        }
        assert!(!outside.path().join("new").exists());
        assert!(!outside.path().join("d/new").exists());
    }

    #[test]
    fn folders_are_made_once() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::open(root.path()).unwrap();
        let mode = Mode::from_raw_mode(0o700);
        assert!(folder.make(Path::new("a/b"), mode).unwrap().1);
        assert!(!folder.make(Path::new("a/b"), mode).unwrap().1);
        remove_folder(root.path(), Path::new("a/b"));
        remove_folder(root.path(), Path::new("a"));
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    }
}
