//! What is asked for, checked. Pure.

use std::net::IpAddr;

use redoubt_agent_api::types;

use crate::check::{
    LinkName, MAX_ADDRESSES, MAX_NEIGHBOURS, MAX_ROUTES, Mac, Prefix, any_address, at_most,
    host_address, max_bits, mtu, shown,
};
use crate::error::NetworkError;

/// `IFF_NOARP` (netdevice(7)).
pub(crate) const NO_ARP: u32 = 0x80;
/// `RTNH_F_ONLINK` (rtnetlink(7)).
const ONLINK: u32 = 4;
/// The states that say something of a neighbour: `NUD_REACHABLE`, `NUD_STALE`, `NUD_DELAY`,
/// `NUD_PROBE`, `NUD_NOARP` and `NUD_PERMANENT` (rtnetlink(7)).
const KNOWN_STATES: [u16; 6] = [0x02, 0x04, 0x08, 0x10, 0x40, PERMANENT];
/// The states that say that nothing is known: `NUD_INCOMPLETE` and `NUD_FAILED`.
const UNKNOWN_STATES: [u16; 2] = [0x01, 0x20];
const PERMANENT: u16 = 0x80;
/// `NTF_ROUTER` and `NTF_EXT_LEARNED`. The others would make a proxy of the guest or are a
/// bridge's.
const NEIGHBOUR_FLAGS: u8 = 0x80 | 0x10;

/// How an interface shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InterfaceRequest {
    pub(crate) mac: Mac,
    pub(crate) name: LinkName,
    pub(crate) addresses: Vec<Prefix>,
    pub(crate) mtu: Option<u32>,
    pub(crate) no_arp: bool,
}

impl InterfaceRequest {
    /// The text of an address decides its family.
    pub(crate) fn parse(interface: &types::Interface) -> Result<Self, NetworkError> {
        at_most(MAX_ADDRESSES, interface.IPAddresses.len(), "addresses")?;
        let address = |ip: &types::IPAddress| Prefix::parse(host_address(&ip.address)?, &ip.mask);
        let addresses = interface
            .IPAddresses
            .iter()
            .map(address)
            .collect::<Result<Vec<_>, _>>()?;
        let any_ipv6 = addresses.iter().any(|prefix| prefix.address.is_ipv6());
        Ok(Self {
            mac: Mac::parse(&interface.hwAddr)?,
            name: LinkName::parse(&interface.name)?,
            addresses,
            mtu: mtu(interface.mtu, any_ipv6)?,
            no_arp: interface.raw_flags & NO_ARP != 0,
        })
    }
}

/// A route that shall be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RouteRequest {
    /// None for a default route.
    pub(crate) destination: Option<Prefix>,
    pub(crate) gateway: Option<IpAddr>,
    pub(crate) source: Option<IpAddr>,
    pub(crate) device: LinkName,
    pub(crate) ipv6: bool,
    pub(crate) scope: u8,
    pub(crate) onlink: bool,
    pub(crate) mtu: Option<u32>,
}

impl RouteRequest {
    /// All routes but link-local ones: direct ones first, for the gateways are found by them.
    pub(crate) fn parse_all(routes: &[types::Route]) -> Result<Vec<Self>, NetworkError> {
        at_most(MAX_ROUTES, routes.len(), "routes")?;
        let mut parsed = routes
            .iter()
            .map(Self::parse)
            .collect::<Result<Vec<_>, _>>()?;
        parsed.retain(|route| !route.is_link_local());
        parsed.sort_by_key(|route| route.gateway.is_some());
        Ok(parsed)
    }

    fn parse(route: &types::Route) -> Result<Self, NetworkError> {
        let host = |text: &str| (!text.is_empty()).then(|| host_address(text)).transpose();
        let destination = destination(&route.dest)?;
        let gateway = host(&route.gateway)?;
        let source = host(&route.source)?;
        let addresses = [destination.map(|to| to.address), gateway, source];
        let ipv6 = is_ipv6(route, addresses)?;
        Ok(Self {
            ipv6,
            // A destination of zero bits is a default route however it is written.
            destination: destination.filter(|to| to.bits > 0),
            gateway,
            source,
            device: LinkName::parse(&route.device)?,
            scope: u8::try_from(route.scope)
                .map_err(|_| NetworkError::Scope { scope: route.scope })?,
            onlink: route.flags & ONLINK != 0,
            mtu: mtu(u64::from(route.mtu), ipv6)?,
        })
    }

    fn is_link_local(&self) -> bool {
        self.destination
            .is_some_and(|to| matches!(to.address, IpAddr::V6(v6) if v6.is_unicast_link_local()))
    }
}

/// Where a route leads: nothing, a network or a host.
fn destination(text: &str) -> Result<Option<Prefix>, NetworkError> {
    if text.is_empty() {
        return Ok(None);
    }
    let prefix = if let Some((address, bits)) = text.split_once('/') {
        Prefix::parse(any_address(address)?, bits)?
    } else {
        let address = any_address(text)?;
        Prefix {
            address,
            bits: max_bits(address),
        }
    };
    let is_host_or_net = !prefix.address.to_canonical().is_multicast()
        && (prefix.bits == 0 || !prefix.address.is_unspecified());
    if !is_host_or_net {
        return Err(NetworkError::Address { text: shown(text) });
    }
    Ok(Some(prefix))
}

/// A route's addresses have one family; the field counts where there is none of them.
fn is_ipv6(route: &types::Route, addresses: [Option<IpAddr>; 3]) -> Result<bool, NetworkError> {
    let refused = || NetworkError::Family {
        destination: shown(&route.dest),
    };
    let mut families = addresses.iter().flatten().map(IpAddr::is_ipv6);
    match families.next() {
        Some(ipv6) if families.all(|other| other == ipv6) => Ok(ipv6),
        Some(_) => Err(refused()),
        None => match route.family.enum_value() {
            Ok(family) => Ok(family == types::IPFamily::v6),
            Err(_) => Err(refused()),
        },
    }
}

/// A neighbour that shall be known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NeighbourRequest {
    pub(crate) address: IpAddr,
    pub(crate) device: LinkName,
    pub(crate) mac: Mac,
    pub(crate) state: u16,
    pub(crate) flags: u8,
}

impl NeighbourRequest {
    /// All neighbours of which something is known.
    pub(crate) fn parse_all(neighbours: &[types::ARPNeighbor]) -> Result<Vec<Self>, NetworkError> {
        at_most(MAX_NEIGHBOURS, neighbours.len(), "neighbours")?;
        neighbours
            .iter()
            .filter_map(|neighbour| Self::parse(neighbour).transpose())
            .collect()
    }

    fn parse(neighbour: &types::ARPNeighbor) -> Result<Option<Self>, NetworkError> {
        let Some(state) = known_state(neighbour.state)? else {
            return Ok(None);
        };
        let address = neighbour
            .toIPAddress
            .as_ref()
            .map_or("", |ip| ip.address.as_str());
        let flags = neighbour.flags;
        Ok(Some(Self {
            address: host_address(address)?,
            device: LinkName::parse(&neighbour.device)?,
            mac: Mac::parse(&neighbour.lladdr)?,
            state,
            flags: u8::try_from(flags)
                .ok()
                .filter(|flags| flags & !NEIGHBOUR_FLAGS == 0)
                .ok_or(NetworkError::NeighbourFlags { flags })?,
        }))
    }
}

/// A state; one that is not given means that the hardware address is for good.
fn known_state(state: i32) -> Result<Option<u16>, NetworkError> {
    match u16::try_from(state) {
        Ok(0) => Ok(Some(PERMANENT)),
        Ok(known) if KNOWN_STATES.contains(&known) => Ok(Some(known)),
        Ok(unknown) if UNKNOWN_STATES.contains(&unknown) => Ok(None),
        _ => Err(NetworkError::NeighbourState { state }),
    }
}
