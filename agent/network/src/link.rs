//! Interfaces: finding, naming and setting them up.

use std::time::Duration;

use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use rtnetlink::{Handle, LinkUnspec};
use tokio::time::{Instant, sleep};

use crate::check::{LinkName, Mac};
use crate::error::NetworkError;
use crate::netlink::{dump, failed, is_errno};
use crate::request::InterfaceRequest;

/// How long an interface may take to appear.
pub const APPEARANCE_TIMEOUT: Duration = Duration::from_secs(2);
/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(25);

/// An interface as the kernel has it.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) mac: Option<Mac>,
    pub(crate) mtu: u32,
    pub(crate) kind: String,
    pub(crate) flags: LinkFlags,
}

impl Link {
    pub(crate) fn is_loopback(&self) -> bool {
        self.flags.contains(LinkFlags::Loopback)
    }

    fn read(message: &LinkMessage) -> Self {
        let mut link = Self {
            index: message.header.index,
            name: String::new(),
            mac: None,
            mtu: 0,
            kind: String::new(),
            flags: message.header.flags,
        };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::Address(bytes) => {
                    link.mac = <[u8; 6]>::try_from(bytes.as_slice()).ok().map(Mac);
                }
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                LinkAttribute::LinkInfo(infos) => {
                    for info in infos {
                        if let LinkInfo::Kind(kind) = info {
                            link.kind = kind.to_string();
                        }
                    }
                }
                _ => {}
            }
        }
        link
    }
}

/// All interfaces.
pub(crate) async fn list(handle: &Handle) -> Result<Vec<Link>, NetworkError> {
    let messages = dump("list interfaces", handle.link().get().execute()).await?;
    Ok(messages.iter().map(Link::read).collect())
}

/// The interface of a name, unless it is the loopback device.
pub(crate) fn named<'a>(links: &'a [Link], name: &LinkName) -> Result<&'a Link, NetworkError> {
    let link = links.iter().find(|link| link.name == name.as_str());
    match link {
        None => Err(NetworkError::NoDevice {
            name: name.to_string(),
        }),
        Some(link) if link.is_loopback() => Err(NetworkError::Loopback {
            what: name.to_string(),
        }),
        Some(link) => Ok(link),
    }
}

/// The interface of a hardware address, once it is there.
pub(crate) async fn wait_for(handle: &Handle, mac: Mac) -> Result<Link, NetworkError> {
    let deadline = Instant::now() + APPEARANCE_TIMEOUT;
    loop {
        let mut links = list(handle).await?.into_iter();
        if let Some(link) = links.find(|link| link.mac == Some(mac) && !link.is_loopback()) {
            return Ok(link);
        }
        if Instant::now() >= deadline {
            return Err(NetworkError::NoLink {
                mac: mac.to_string(),
                limit: APPEARANCE_TIMEOUT,
            });
        }
        sleep(PAUSE).await;
    }
}

/// Gives an interface a name; one that has it already gets the former name in exchange.
pub(crate) async fn take_name(
    handle: &Handle,
    link: &Link,
    name: &LinkName,
) -> Result<(), NetworkError> {
    if link.name == name.as_str() {
        return Ok(());
    }
    let links = list(handle).await?;
    let holder = match named(&links, name) {
        Ok(holder) => holder,
        Err(NetworkError::NoDevice { .. }) => return rename(handle, link, name.as_str()).await,
        Err(error) => return Err(error),
    };
    rename(handle, holder, &spare_name(&links)).await?;
    let taken = rename(handle, link, name.as_str()).await;
    // Whatever came of it, the other one is not left with a makeshift name.
    let free = if taken.is_ok() {
        &link.name
    } else {
        &holder.name
    };
    let returned = rename(handle, holder, free).await;
    taken.and(returned)
}

fn spare_name(links: &[Link]) -> String {
    let mut number = 0_usize;
    loop {
        let name = format!("swap{number}");
        if links.iter().all(|link| link.name != name) {
            return name;
        }
        number += 1;
    }
}

/// Renames an interface. Kernels before 6.2 do so only while it is down.
async fn rename(handle: &Handle, link: &Link, name: &str) -> Result<(), NetworkError> {
    let action = || format!("rename interface {} to {name}", link.name);
    let change = || LinkUnspec::new_with_index(link.index);
    let set = |message| handle.link().set(message).execute();
    match set(change().name(name).build()).await {
        Err(error) if is_errno(&error, &[libc::EBUSY]) => {}
        other => return other.map_err(failed(action())),
    }
    set(change().down().build())
        .await
        .map_err(failed(action()))?;
    let renamed = set(change().name(name).build()).await;
    let up_again = set(change().up().build()).await;
    renamed.and(up_again).map_err(failed(action()))
}

/// Sets MTU and ARP as asked for and the interface up.
pub(crate) async fn bring_up(
    handle: &Handle,
    index: u32,
    wanted: &InterfaceRequest,
) -> Result<(), NetworkError> {
    let mut change = LinkUnspec::new_with_index(index).arp(!wanted.no_arp).up();
    if let Some(mtu) = wanted.mtu {
        change = change.mtu(mtu);
    }
    let set = handle.link().set(change.build()).execute().await;
    set.map_err(failed(format!("set interface {} up", wanted.name)))
}

/// Sets the loopback device up.
pub(crate) async fn bring_loopback_up(handle: &Handle) -> Result<(), NetworkError> {
    let links = list(handle).await?;
    let loopback = links
        .iter()
        .find(|link| link.is_loopback())
        .ok_or_else(|| NetworkError::NoDevice {
            name: "lo".to_owned(),
        })?;
    let change = LinkUnspec::new_with_index(loopback.index).up().build();
    let set = handle.link().set(change).execute().await;
    set.map_err(failed("set the loopback device up"))
}
