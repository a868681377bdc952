//! Tap devices.

use std::fs::File;
use std::io;

use futures::TryStreamExt;
use rtnetlink::{Handle, LinkUnspec};

use super::error::NetworkError;
use super::scan::Link;
use crate::sys;

/// A tap device in the pod's namespace. It is not persistent: it ends with its last descriptor,
/// so it cannot outlive QEMU.
#[derive(Debug)]
pub(crate) struct Tap {
    /// Its index in the pod's namespace.
    pub(super) index: u32,
    /// The Ethernet address of the guest's end.
    pub(crate) mac: [u8; 6],
    /// One descriptor per queue.
    pub(crate) queues: Vec<File>,
}

/// Creates a tap with the size of `link`'s frames and sets it up.
pub(super) async fn create(
    handle: &Handle,
    name: &str,
    link: &Link,
    queues: u32,
) -> Result<Tap, NetworkError> {
    let queues = (0..queues.max(1))
        .map(|_| open_queue(name, queues > 1))
        .collect::<io::Result<Vec<_>>>()
        .map_err(|source| NetworkError::Tap {
            name: name.to_owned(),
            source,
        })?;
    let index = index_of(handle, name)
        .await?
        .ok_or_else(|| NetworkError::Tap {
            name: name.to_owned(),
            source: io::ErrorKind::NotFound.into(),
        })?;
    let message = LinkUnspec::new_with_index(index).mtu(link.mtu).up().build();
    handle
        .link()
        .set(message)
        .execute()
        .await
        .map_err(|source| NetworkError::Netlink {
            action: format!("set tap {name} up with MTU {}", link.mtu),
            source,
        })?;
    Ok(Tap {
        index,
        mac: link.mac,
        queues,
    })
}

fn open_queue(name: &str, multi_queue: bool) -> io::Result<File> {
    let tun = File::options()
        .read(true)
        .write(true)
        .open("/dev/net/tun")?;
    sys::attach_tap(&tun, name, multi_queue)?;
    Ok(tun)
}

/// Removes a tap that a descriptor somewhere still holds; one that is gone is fine.
pub(super) async fn remove(handle: &Handle, name: &str) -> Result<(), NetworkError> {
    let Some(index) = index_of(handle, name).await? else {
        return Ok(());
    };
    match handle.link().del(index).execute().await {
        Err(error) if !is_gone(&error) => Err(NetworkError::Netlink {
            action: format!("remove tap {name}"),
            source: error,
        }),
        _ => Ok(()),
    }
}

/// The index of an interface; `None` when there is none of that name.
pub(super) async fn index_of(handle: &Handle, name: &str) -> Result<Option<u32>, NetworkError> {
    match handle
        .link()
        .get()
        .match_name(name.to_owned())
        .execute()
        .try_next()
        .await
    {
        Ok(message) => Ok(message.map(|message| message.header.index)),
        Err(error) if is_gone(&error) => Ok(None),
        Err(source) => Err(NetworkError::Netlink {
            action: format!("find interface {name}"),
            source,
        }),
    }
}

/// True for the answers that mean "there is no such thing".
pub(super) fn is_gone(error: &rtnetlink::Error) -> bool {
    errno(error).is_some_and(|code| {
        matches!(
            code,
            libc::ENODEV | libc::ENOENT | libc::ENXIO | libc::EINVAL
        )
    })
}

/// The error number of a netlink answer.
pub(super) fn errno(error: &rtnetlink::Error) -> Option<i32> {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io().raw_os_error(),
        _ => None,
    }
}
