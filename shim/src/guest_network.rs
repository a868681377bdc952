//! Words the pod's network as the agent's messages. Pure.

use std::net::IpAddr;

use redoubt_agent_api::agent::{
    ARPNeighbors, AddARPNeighborsRequest, Routes, UpdateInterfaceRequest, UpdateRoutesRequest,
};
use redoubt_agent_api::types::{ARPNeighbor, IPAddress, IPFamily, Interface, Route};
use redoubt_sandbox::{GuestAddress, GuestInterface, GuestNeighbour, GuestNetwork, GuestRoute};

/// `IFF_NOARP`, the only interface flag that the agent takes.
const NO_ARP: u32 = 0x80;

/// One request for each interface, in their order.
pub fn interfaces(network: &GuestNetwork) -> Vec<UpdateInterfaceRequest> {
    let request = |interface| UpdateInterfaceRequest {
        interface: Some(interface).into(),
        ..UpdateInterfaceRequest::default()
    };
    network
        .interfaces
        .iter()
        .map(wire_interface)
        .map(request)
        .collect()
}

/// The request for all routes; none where there is nothing to say.
pub fn routes(network: &GuestNetwork) -> Option<UpdateRoutesRequest> {
    if network.routes.is_empty() {
        return None;
    }
    let list = network.routes.iter().map(wire_route).collect();
    let routes = Routes {
        Routes: list,
        ..Routes::default()
    };
    Some(UpdateRoutesRequest {
        routes: Some(routes).into(),
        ..UpdateRoutesRequest::default()
    })
}

/// The request for all neighbours; none where there is nothing to say.
pub fn neighbours(network: &GuestNetwork) -> Option<AddARPNeighborsRequest> {
    if network.neighbours.is_empty() {
        return None;
    }
    let list = network.neighbours.iter().map(wire_neighbour).collect();
    let neighbors = ARPNeighbors {
        ARPNeighbors: list,
        ..ARPNeighbors::default()
    };
    Some(AddARPNeighborsRequest {
        neighbors: Some(neighbors).into(),
        ..AddARPNeighborsRequest::default()
    })
}

fn wire_interface(interface: &GuestInterface) -> Interface {
    Interface {
        device: interface.name.clone(),
        name: interface.name.clone(),
        IPAddresses: interface.addresses.iter().map(wire_address).collect(),
        mtu: u64::from(interface.mtu),
        hwAddr: interface.mac_text(),
        type_: interface.kind.clone(),
        raw_flags: interface.raw_flags & NO_ARP,
        ..Interface::default()
    }
}

fn wire_address(address: &GuestAddress) -> IPAddress {
    IPAddress {
        family: family(address.address.is_ipv6()).into(),
        address: address.address.to_string(),
        mask: address.prefix_bits.to_string(),
        ..IPAddress::default()
    }
}

fn wire_route(route: &GuestRoute) -> Route {
    let text = |address: Option<IpAddr>| address.map(|ip| ip.to_string()).unwrap_or_default();
    Route {
        dest: route
            .destination
            .as_ref()
            .map(|to| format!("{}/{}", to.address, to.prefix_bits))
            .unwrap_or_default(),
        gateway: text(route.gateway),
        device: route.device.clone(),
        source: text(route.source),
        scope: u32::from(route.scope),
        family: family(route.ipv6).into(),
        flags: route.flags,
        mtu: route.mtu,
        ..Route::default()
    }
}

fn wire_neighbour(neighbour: &GuestNeighbour) -> ARPNeighbor {
    let address = IPAddress {
        family: family(neighbour.address.is_ipv6()).into(),
        address: neighbour.address.to_string(),
        ..IPAddress::default()
    };
    ARPNeighbor {
        toIPAddress: Some(address).into(),
        device: neighbour.device.clone(),
        lladdr: neighbour.mac.map(|byte| format!("{byte:02x}")).join(":"),
        state: i32::from(neighbour.state),
        flags: i32::from(neighbour.flags),
        ..ARPNeighbor::default()
    }
}

fn family(ipv6: bool) -> IPFamily {
    if ipv6 { IPFamily::v6 } else { IPFamily::v4 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinary_pod_network_is_worded_as_kata_does() {
        let network = GuestNetwork {
            interfaces: vec![GuestInterface {
                name: "eth0".to_owned(),
                addresses: vec![GuestAddress {
                    address: "10.0.0.2".parse().unwrap(),
                    prefix_bits: 24,
                }],
                mtu: 1500,
                mac: [2, 0, 0, 0, 0, 0x1f],
                kind: "veth".to_owned(),
                raw_flags: 0x1043,
            }],
            routes: vec![GuestRoute {
                destination: None,
                gateway: Some("10.0.0.1".parse().unwrap()),
                device: "eth0".to_owned(),
                source: None,
                scope: 0,
                ipv6: false,
                flags: 0,
                mtu: 0,
            }],
            neighbours: Vec::new(),
        };
        let interface = interfaces(&network).remove(0).interface.unwrap();
        assert_eq!(interface.hwAddr, "02:00:00:00:00:1f");
        assert_eq!(interface.IPAddresses[0].mask, "24");
        assert_eq!(interface.raw_flags, 0);
        let route = routes(&network).unwrap().routes.unwrap().Routes.remove(0);
        assert_eq!(
            (route.dest.as_str(), route.gateway.as_str()),
            ("", "10.0.0.1")
        );
        assert!(neighbours(&network).is_none());
    }
}
