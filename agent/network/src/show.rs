//! What there is, in the agent's words.

use std::net::IpAddr;

use redoubt_agent_api::types;
use rtnetlink::Handle;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteMetric,
};

use crate::address::{self, Held};
use crate::check::Prefix;
use crate::error::NetworkError;
use crate::link::{self, Link};
use crate::request::NO_ARP;
use crate::route;

/// All interfaces with their addresses.
pub(crate) async fn interfaces(handle: &Handle) -> Result<Vec<types::Interface>, NetworkError> {
    let links = link::list(handle).await?;
    let addresses = address::list(handle).await?;
    Ok(links
        .iter()
        .map(|link| interface(link, &addresses))
        .collect())
}

fn interface(link: &Link, addresses: &[Held]) -> types::Interface {
    let own = addresses.iter().filter(|held| held.index == link.index);
    types::Interface {
        device: link.name.clone(),
        name: link.name.clone(),
        IPAddresses: own.map(|held| ip_address(held.prefix)).collect(),
        mtu: u64::from(link.mtu),
        hwAddr: link.mac.map(|mac| mac.to_string()).unwrap_or_default(),
        type_: link.kind.clone(),
        raw_flags: link.flags.bits() & NO_ARP,
        ..types::Interface::default()
    }
}

fn ip_address(prefix: Prefix) -> types::IPAddress {
    types::IPAddress {
        family: family(prefix.address.is_ipv6()).into(),
        address: prefix.address.to_string(),
        mask: prefix.bits.to_string(),
        ..types::IPAddress::default()
    }
}

fn family(ipv6: bool) -> types::IPFamily {
    if ipv6 {
        types::IPFamily::v6
    } else {
        types::IPFamily::v4
    }
}

/// The unicast routes of the main table that lead through one interface.
pub(crate) async fn routes(handle: &Handle) -> Result<Vec<types::Route>, NetworkError> {
    let links = link::list(handle).await?;
    let messages = route::list(handle).await?;
    Ok(messages
        .iter()
        .filter_map(|message| one_route(message, &links))
        .collect())
}

fn one_route(message: &RouteMessage, links: &[Link]) -> Option<types::Route> {
    let index = route::device_of(message)?;
    let device = links.iter().find(|link| link.index == index)?;
    let header = &message.header;
    let mut route = types::Route {
        dest: destination(message)
            .map(|to| to.to_string())
            .unwrap_or_default(),
        device: device.name.clone(),
        scope: u32::from(u8::from(header.scope)),
        family: family(header.address_family == AddressFamily::Inet6).into(),
        flags: (header.flags & RouteFlags::Onlink).bits(),
        ..types::Route::default()
    };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Gateway(address) => route.gateway = text(address),
            RouteAttribute::PrefSource(address) => route.source = text(address),
            RouteAttribute::Metrics(metrics) => {
                for metric in metrics {
                    if let RouteMetric::Mtu(mtu) = metric {
                        route.mtu = *mtu;
                    }
                }
            }
            _ => {}
        }
    }
    Some(route)
}

/// Where a route leads; none for a default route.
pub(crate) fn destination(message: &RouteMessage) -> Option<Prefix> {
    message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Destination(address) => Some(Prefix {
                address: ip(address)?,
                bits: message.header.destination_prefix_length,
            }),
            _ => None,
        })
}

fn text(address: &RouteAddress) -> String {
    ip(address)
        .map(|address| address.to_string())
        .unwrap_or_default()
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some(IpAddr::V4(*v4)),
        RouteAddress::Inet6(v6) => Some(IpAddr::V6(*v6)),
        _ => None,
    }
}
