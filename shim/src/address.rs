//! The unix socket through which containerd reaches a shim.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::{fs, io};

use sha2::{Digest, Sha256};

/// Where shims listen unless containerd names another folder.
pub const SOCKET_DIR: &str = "/run/containerd/s";

/// The path of the socket that serves `group` (a sandbox or a single container).
///
/// The name is the one that containerd's own shims use: SHA-256 over the path
/// `<containerd socket>/<namespace>/<group>`.
pub fn socket_path(dir: &Path, containerd: &str, namespace: &str, group: &str) -> PathBuf {
    let identity = Path::new(containerd).join(namespace).join(group);
    let name = hex::encode(Sha256::digest(identity.as_os_str().as_bytes()));
    dir.join(name)
}

/// The address in the form that containerd dials.
pub fn address_of(path: &Path) -> String {
    format!("unix://{}", path.display())
}

/// The path in an address; `None` for other transports.
pub fn path_of(address: &str) -> Option<&Path> {
    let path = address.trim().strip_prefix("unix://")?;
    path.starts_with('/').then(|| Path::new(path))
}

/// True when a server accepts connections at `path`.
pub fn is_served(path: &Path) -> bool {
    UnixStream::connect(path).is_ok()
}

/// Listens at `path`, for root alone. A socket left by a dead shim is replaced.
pub fn listen(path: &Path) -> io::Result<UnixListener> {
    if let Some(dir) = path.parent() {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o711)
            .create(dir)?;
    }
    let listener = match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && !is_served(path) => {
            fs::remove_file(path)?;
            UnixListener::bind(path)?
        }
        other => other?,
    };
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_the_one_that_containerd_computes() {
        let path = socket_path(
            Path::new(SOCKET_DIR),
            "/run/containerd/containerd.sock",
            "default",
            "123",
        );
        assert_eq!(
            address_of(&path),
            "unix:///run/containerd/s/0ddfbd72d02b3551e75f3a0ed90b9965b533401be618f43a568bc522764e0ad0"
        );
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s/socket");
        let first = listen(&path).unwrap();
        assert!(is_served(&path));
        assert_eq!(listen(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(first);
        assert!(!is_served(&path));
        let second = listen(&path).unwrap();
        assert!(is_served(&path));
        drop(second);
    }

    #[test]
    fn only_absolute_unix_addresses_have_a_path() {
        assert_eq!(path_of("unix:///run/s\n"), Some(Path::new("/run/s")));
        assert_eq!(path_of("unix://run/s"), None);
        assert_eq!(path_of("vsock://3:4"), None);
    }
}
