//! What the agent reads and makes in a container's root file system. Its contents come from an
//! image, so every path is resolved inside of it.

use std::fs::Permissions;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;
use pathrs::Root;
use pathrs::flags::OpenFlags;

use crate::error::ContainerError;

/// The most bytes of `/etc/passwd` that are read.
const MAX_PASSWD_BYTES: u64 = 1024 * 1024;
/// The home of a user without one.
const DEFAULT_HOME: &str = "/";

/// The home folder of a user by the container's `/etc/passwd`; `/` if that does not tell.
pub(crate) fn home_of(rootfs: &Path, uid: u32) -> String {
    read_passwd(rootfs)
        .and_then(|text| find_home(&text, uid))
        .unwrap_or_else(|| DEFAULT_HOME.to_owned())
}

fn read_passwd(rootfs: &Path) -> Option<String> {
    // Not to wait for a writer if it is a FIFO.
    let flags = OpenFlags::O_RDONLY | OpenFlags::O_NONBLOCK | OpenFlags::O_CLOEXEC;
    let file = Root::open(rootfs)
        .ok()?
        .open_subpath("etc/passwd", flags)
        .ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    file.take(MAX_PASSWD_BYTES).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Finds the sixth field of the line whose third is the user id (passwd(5)).
fn find_home(passwd: &str, uid: u32) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':').skip(2);
        let found = fields.next()?.parse() == Ok(uid);
        let home = fields.nth(2)?;
        (found && home.starts_with('/') && !home.contains('\0')).then(|| home.to_owned())
    })
}

/// Makes the process's working folder, as container engines do, unless a mount will provide it.
pub(crate) fn make_working_folder(rootfs: &Path, spec: &Spec) -> Result<(), ContainerError> {
    let Some(process) = spec.process() else {
        return Ok(());
    };
    let folder = process.cwd();
    let mounted = spec.mounts().iter().flatten().any(|mount| {
        mount.destination().as_path() != Path::new("/") && folder.starts_with(mount.destination())
    });
    if mounted {
        return Ok(());
    }
    make_folder(rootfs, folder).map_err(|source| ContainerError::RootFs {
        path: joined(rootfs, folder),
        source,
    })
}

fn make_folder(rootfs: &Path, folder: &Path) -> io::Result<()> {
    let root = Root::open(rootfs).map_err(|error| to_io(&error))?;
    root.mkdir_all(folder, &Permissions::from_mode(0o755))
        .map_err(|error| to_io(&error))?;
    Ok(())
}

fn to_io(error: &pathrs::error::Error) -> io::Error {
    io::Error::other(error.to_string())
}

fn joined(rootfs: &Path, folder: &Path) -> PathBuf {
    rootfs.join(folder.strip_prefix("/").unwrap_or(folder))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\nbroken\nweb:x:33:33::/var/www:\n\
                          odd:x:34:34::relative:\nshort:x:35\n";

    #[test]
    fn homes_are_read_from_the_containers_passwd() {
        assert_eq!(find_home(PASSWD, 0).as_deref(), Some("/root"));
        assert_eq!(find_home(PASSWD, 33).as_deref(), Some("/var/www"));
        assert_eq!(find_home(PASSWD, 34), None);
        assert_eq!(find_home(PASSWD, 35), None);
        assert_eq!(find_home(PASSWD, 1), None);
    }

    #[test]
    fn links_in_an_image_lead_nowhere_outside() {
        let outside = tempfile::tempdir().unwrap();
        let rootfs = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("passwd"), "evil:x:0:0::/stolen:\n").unwrap();
        symlink(outside.path(), rootfs.path().join("etc")).unwrap();
        symlink(outside.path(), rootfs.path().join("work")).unwrap();
        assert_eq!(home_of(rootfs.path(), 0), "/");
        // Either it is made inside, or it is refused; nothing appears outside.
        let _ = make_folder(rootfs.path(), Path::new("/work/dir"));
        assert!(!outside.path().join("dir").exists());
    }

    #[test]
    fn working_folders_are_made_with_their_parents() {
        let rootfs = tempfile::tempdir().unwrap();
        make_folder(rootfs.path(), Path::new("/srv/app/data")).unwrap();
        make_folder(rootfs.path(), Path::new("/srv/app/data")).unwrap();
        make_folder(rootfs.path(), Path::new("/")).unwrap();
        assert!(rootfs.path().join("srv/app/data").is_dir());
    }

    #[test]
    fn a_fifo_for_passwd_does_not_block() {
        let rootfs = tempfile::tempdir().unwrap();
        fs::create_dir(rootfs.path().join("etc")).unwrap();
        let mode = nix::sys::stat::Mode::S_IRUSR;
        nix::unistd::mkfifo(&rootfs.path().join("etc/passwd"), mode).unwrap();
        assert_eq!(home_of(rootfs.path(), 0), "/");
    }

    proptest! {
        #[test]
        fn any_passwd_gives_an_absolute_home_or_none(text in "\\PC{0,200}", uid: u32) {
            prop_assert!(find_home(&text, uid).is_none_or(|home| home.starts_with('/')));
        }
    }
}
