//! Work inside another network namespace, on a thread that ends with it.

use std::fs::File;
use std::future::Future;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::thread;

use nix::sched::{CloneFlags, setns};

use super::error::NetworkError;

/// Opens a network namespace.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    File::open(path)
}

/// Runs `work` inside a namespace.
///
/// A thread of its own enters the namespace and ends afterwards, so that no thread of the
/// runtime is ever left in a foreign namespace.
pub(super) async fn inside<W, F, T>(namespace: &File, work: W) -> Result<T, NetworkError>
where
    W: FnOnce() -> F + Send + 'static,
    F: Future<Output = Result<T, NetworkError>>,
    T: Send + 'static,
{
    let namespace: OwnedFd = namespace
        .as_fd()
        .try_clone_to_owned()
        .map_err(NetworkError::Thread)?;
    let (done_tx, done) = tokio::sync::oneshot::channel();
    thread::Builder::new()
        .name("pod-network".to_owned())
        .spawn(move || {
            let _ = done_tx.send(run(&namespace, work));
        })
        .map_err(NetworkError::Thread)?;
    done.await
        .map_err(|_| NetworkError::Thread(io::Error::other("the thread ended")))?
}

fn run<W, F, T>(namespace: &OwnedFd, work: W) -> Result<T, NetworkError>
where
    W: FnOnce() -> F,
    F: Future<Output = Result<T, NetworkError>>,
{
    setns(namespace, CloneFlags::CLONE_NEWNET)
        .map_err(|errno| NetworkError::Thread(errno.into()))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(NetworkError::Thread)?;
    runtime.block_on(work())
}

/// A netlink connection in the namespace of this thread.
pub(super) fn connect() -> Result<rtnetlink::Handle, NetworkError> {
    let (connection, handle, _) = rtnetlink::new_connection().map_err(NetworkError::Thread)?;
    tokio::spawn(connection);
    Ok(handle)
}
