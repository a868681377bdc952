//! The addresses of interfaces.

use std::net::IpAddr;

use rtnetlink::Handle;
use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};

use crate::check::Prefix;
use crate::error::NetworkError;
use crate::netlink::{dump, failed, is_errno};
use crate::request::InterfaceRequest;

/// An address that an interface has.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    /// The interface's.
    pub(crate) index: u32,
    pub(crate) prefix: Prefix,
    message: AddressMessage,
}

/// All addresses of all interfaces.
pub(crate) async fn list(handle: &Handle) -> Result<Vec<Held>, NetworkError> {
    let messages = dump("list addresses", handle.address().get().execute()).await?;
    Ok(messages.into_iter().filter_map(read).collect())
}

/// The interface's own address: `IFA_LOCAL` where the other one is the peer's.
fn read(message: AddressMessage) -> Option<Held> {
    let mut address = None;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(local) => {
                address = Some(*local);
                break;
            }
            AddressAttribute::Address(found) => address = Some(*found),
            _ => {}
        }
    }
    Some(Held {
        index: message.header.index,
        prefix: Prefix {
            address: address?,
            bits: message.header.prefix_len,
        },
        message,
    })
}

/// Removes the addresses that are not asked for and adds those that are missing.
pub(crate) async fn replace(
    handle: &Handle,
    index: u32,
    wanted: &InterfaceRequest,
) -> Result<(), NetworkError> {
    for held in list(handle).await? {
        if held.index == index && !stays(held.prefix, &wanted.addresses) {
            remove(handle, held, wanted).await?;
        }
    }
    for prefix in &wanted.addresses {
        let mut request = handle
            .address()
            .add(index, prefix.address, prefix.bits)
            .replace();
        if prefix.address.is_ipv6() {
            // The host's network has given the address to this pod alone, and one that is
            // still being tried out cannot be a route's source.
            request.message_mut().header.flags |= AddressHeaderFlags::Nodad;
        }
        let action = format!("add address {prefix} to interface {}", wanted.name);
        request.execute().await.map_err(failed(action))?;
    }
    Ok(())
}

/// The kernel's own link-local address stays unless it shall have another prefix length.
fn stays(held: Prefix, wanted: &[Prefix]) -> bool {
    let is_link_local = matches!(held.address, IpAddr::V6(v6) if v6.is_unicast_link_local());
    wanted.contains(&held)
        || is_link_local && wanted.iter().all(|prefix| prefix.address != held.address)
}

async fn remove(
    handle: &Handle,
    held: Held,
    wanted: &InterfaceRequest,
) -> Result<(), NetworkError> {
    let action = format!(
        "remove address {} from interface {}",
        held.prefix, wanted.name
    );
    match handle.address().del(held.message).execute().await {
        // Secondary addresses go with their primary one.
        Err(error) if is_errno(&error, &[libc::EADDRNOTAVAIL]) => Ok(()),
        other => other.map_err(failed(action)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Prefix {
        let (address, bits) = text.split_once('/').unwrap();
        Prefix::parse(address.parse().unwrap(), bits).unwrap()
    }

    #[test]
    fn only_link_local_addresses_stay_unasked() {
        let wanted = [prefix("10.0.0.2/24"), prefix("fe80::5/128")];
        assert!(stays(prefix("10.0.0.2/24"), &wanted));
        assert!(stays(prefix("fe80::1/64"), &wanted));
        assert!(!stays(prefix("10.0.0.2/16"), &wanted));
        assert!(!stays(prefix("fe80::5/64"), &wanted));
        assert!(!stays(prefix("fd00::1/64"), &wanted));
    }
}
