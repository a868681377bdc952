//! What is in the pod's network namespace.

use std::collections::BTreeMap;
use std::net::IpAddr;

use futures::TryStreamExt;
use rtnetlink::Handle;
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{
    LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage,
};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteMetric,
    RouteProtocol, RouteType,
};
use rtnetlink::packet_route::tc::TcAttribute;

use super::error::NetworkError;
use super::model::{GuestAddress, GuestInterface, GuestNeighbour, GuestNetwork, GuestRoute};

/// Most interfaces of a pod: each becomes a PCI device of the guest.
const MAX_INTERFACES: usize = 16;

/// An interface of the pod that becomes one of the guest.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) mac: [u8; 6],
    pub(super) mtu: u32,
    /// Somebody redirects it already.
    pub(super) has_ingress: bool,
}

/// Reads interfaces with addresses, and the routes and neighbours that go through them.
pub(super) async fn scan(handle: &Handle) -> Result<(Vec<Link>, GuestNetwork), NetworkError> {
    let addresses = addresses(handle).await?;
    let mut links = Vec::new();
    let mut guest = GuestNetwork::default();
    for message in dump("list interfaces", handle.link().get().execute()).await? {
        let Some(found) = addresses.get(&message.header.index) else {
            continue;
        };
        if let Some((link, interface)) = read_link(handle, &message, found).await? {
            links.push(link);
            guest.interfaces.push(interface);
        }
    }
    if links.len() > MAX_INTERFACES {
        return Err(NetworkError::TooMany {
            count: links.len(),
            max: MAX_INTERFACES,
        });
    }
    guest.routes = routes(handle, &links).await?;
    guest.neighbours = neighbours(handle, &links, &guest.routes).await?;
    Ok((links, guest))
}

async fn dump<T>(
    action: &str,
    stream: impl futures::Stream<Item = Result<T, rtnetlink::Error>>,
) -> Result<Vec<T>, NetworkError> {
    stream
        .try_collect()
        .await
        .map_err(|source| NetworkError::Netlink {
            action: action.to_owned(),
            source,
        })
}

async fn addresses(handle: &Handle) -> Result<BTreeMap<u32, Vec<GuestAddress>>, NetworkError> {
    let mut found: BTreeMap<u32, Vec<GuestAddress>> = BTreeMap::new();
    for message in dump("list addresses", handle.address().get().execute()).await? {
        if let Some(address) = read_address(&message) {
            found.entry(message.header.index).or_default().push(address);
        }
    }
    Ok(found)
}

/// The interface's own address: `IFA_LOCAL` where it differs from the peer's (RFC 3549, 3.3.2).
fn read_address(message: &AddressMessage) -> Option<GuestAddress> {
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
    let address = address.filter(|address| !address.is_loopback())?;
    Some(GuestAddress {
        address,
        prefix_bits: message.header.prefix_len,
    })
}

async fn read_link(
    handle: &Handle,
    message: &LinkMessage,
    addresses: &[GuestAddress],
) -> Result<Option<(Link, GuestInterface)>, NetworkError> {
    if message.header.flags.contains(LinkFlags::Loopback) {
        return Ok(None);
    }
    let mut name = String::new();
    let mut mac = None;
    let mut mtu = 1500;
    let mut kind = String::new();
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(found) => name.clone_from(found),
            LinkAttribute::Address(bytes) => mac = <[u8; 6]>::try_from(bytes.as_slice()).ok(),
            LinkAttribute::Mtu(found) => mtu = *found,
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    if let LinkInfo::Kind(found) = info {
                        kind = found.to_string();
                    }
                }
            }
            _ => {}
        }
    }
    let (LinkLayerType::Ether, Some(mac)) = (message.header.link_layer_type, mac) else {
        return Err(NetworkError::NoMac { interface: name });
    };
    let index = message.header.index;
    let has_ingress = has_ingress(handle, index).await?;
    let raw_flags = (message.header.flags & LinkFlags::Noarp).bits();
    let interface = GuestInterface {
        name: name.clone(),
        addresses: addresses.to_vec(),
        mtu,
        mac,
        kind,
        raw_flags,
    };
    Ok(Some((
        Link {
            index,
            name,
            mac,
            mtu,
            has_ingress,
        },
        interface,
    )))
}

async fn has_ingress(handle: &Handle, index: u32) -> Result<bool, NetworkError> {
    let qdiscs = dump("list queueing disciplines", handle.qdisc().get().execute()).await?;
    Ok(qdiscs.iter().any(|qdisc| {
        u32::try_from(qdisc.header.index) == Ok(index)
            && qdisc.attributes.iter().any(|attribute| {
                matches!(attribute, TcAttribute::Kind(kind) if kind == "ingress" || kind == "clsact")
            })
    }))
}

async fn routes(handle: &Handle, links: &[Link]) -> Result<Vec<GuestRoute>, NetworkError> {
    let v4 = RouteMessageBuilder::<std::net::Ipv4Addr>::new().build();
    let v6 = RouteMessageBuilder::<std::net::Ipv6Addr>::new().build();
    let mut found = Vec::new();
    for family in [v4, v6] {
        let messages = dump("list routes", handle.route().get(family).execute()).await?;
        found.extend(
            messages
                .iter()
                .filter_map(|message| read_route(message, links)),
        );
    }
    Ok(found)
}

/// A unicast route of the main table that somebody configured. The kernel's own come with the
/// addresses, and link-local ones would be the guest kernel's too.
fn read_route(message: &RouteMessage, links: &[Link]) -> Option<GuestRoute> {
    let header = &message.header;
    let ours = header.table == RouteHeader::RT_TABLE_MAIN
        && header.kind == RouteType::Unicast
        && header.protocol != RouteProtocol::Kernel;
    if !ours {
        return None;
    }
    let mut route = GuestRoute {
        destination: None,
        gateway: None,
        device: String::new(),
        source: None,
        scope: header.scope.into(),
        ipv6: header.address_family == AddressFamily::Inet6,
        flags: (header.flags & RouteFlags::Onlink).bits(),
        mtu: 0,
    };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => {
                let prefix_bits = header.destination_prefix_length;
                route.destination = ip(address).map(|address| GuestAddress {
                    address,
                    prefix_bits,
                });
            }
            RouteAttribute::Gateway(address) => route.gateway = ip(address),
            RouteAttribute::PrefSource(address) => route.source = ip(address),
            RouteAttribute::Oif(index) => route.device = name_of(links, *index)?,
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
    let link_local = matches!(&route.destination, Some(GuestAddress { address: IpAddr::V6(v6), .. })
        if v6.is_unicast_link_local());
    (!route.device.is_empty() && !link_local).then_some(route)
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some(IpAddr::V4(*v4)),
        RouteAddress::Inet6(v6) => Some(IpAddr::V6(*v6)),
        _ => None,
    }
}

async fn neighbours(
    handle: &Handle,
    links: &[Link],
    routes: &[GuestRoute],
) -> Result<Vec<GuestNeighbour>, NetworkError> {
    let mut found = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let request = handle
            .neighbours()
            .get()
            .set_address_family(family)
            .execute();
        let messages = dump("list neighbours", request).await?;
        found.extend(
            messages
                .iter()
                .filter_map(|message| read_neighbour(message, links, routes)),
        );
    }
    Ok(found)
}

/// A neighbour that the guest cannot find out itself: one set for good, or the gateway's known one.
fn read_neighbour(
    message: &NeighbourMessage,
    links: &[Link],
    routes: &[GuestRoute],
) -> Option<GuestNeighbour> {
    let device = name_of(links, message.header.ifindex)?;
    let mut address = None;
    let mut mac = None;
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => {
                address = Some(IpAddr::V4(*v4));
            }
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => {
                address = Some(IpAddr::V6(*v6));
            }
            NeighbourAttribute::LinkLayerAddress(bytes) => {
                mac = <[u8; 6]>::try_from(bytes.as_slice()).ok();
            }
            _ => {}
        }
    }
    let (address, mac) = (address?, mac?);
    let is_gateway = routes.iter().any(|route| route.gateway == Some(address));
    let known = match message.header.state {
        NeighbourState::Permanent => true,
        NeighbourState::Reachable => is_gateway,
        _ => false,
    };
    known.then(|| GuestNeighbour {
        address,
        device,
        mac,
        state: message.header.state.into(),
        flags: message.header.flags.bits(),
    })
}

fn name_of(links: &[Link], index: u32) -> Option<String> {
    links
        .iter()
        .find(|link| link.index == index)
        .map(|link| link.name.clone())
}
