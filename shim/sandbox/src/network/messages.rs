//! The guest's network as the agent's messages.

use std::net::IpAddr;

use redoubt_agent_api::{agent, types};

use super::model::{
    GuestAddress, GuestInterface, GuestNeighbour, GuestNetwork, GuestRoute, mac_text,
};

impl GuestNetwork {
    /// One request per interface.
    pub fn update_interface_requests(&self) -> Vec<agent::UpdateInterfaceRequest> {
        self.interfaces
            .iter()
            .map(|interface| agent::UpdateInterfaceRequest {
                interface: Some(interface_message(interface)).into(),
                ..Default::default()
            })
            .collect()
    }

    /// The request with all routes; `None` when there are none.
    pub fn update_routes_request(&self) -> Option<agent::UpdateRoutesRequest> {
        if self.routes.is_empty() {
            return None;
        }
        let routes = agent::Routes {
            Routes: self.routes.iter().map(route_message).collect(),
            ..Default::default()
        };
        Some(agent::UpdateRoutesRequest {
            routes: Some(routes).into(),
            ..Default::default()
        })
    }

    /// The request with all neighbours; `None` when there are none.
    pub fn add_neighbours_request(&self) -> Option<agent::AddARPNeighborsRequest> {
        if self.neighbours.is_empty() {
            return None;
        }
        let neighbors = agent::ARPNeighbors {
            ARPNeighbors: self.neighbours.iter().map(neighbour_message).collect(),
            ..Default::default()
        };
        Some(agent::AddARPNeighborsRequest {
            neighbors: Some(neighbors).into(),
            ..Default::default()
        })
    }
}

fn interface_message(interface: &GuestInterface) -> types::Interface {
    types::Interface {
        device: interface.name.clone(),
        name: interface.name.clone(),
        IPAddresses: interface.addresses.iter().map(address_message).collect(),
        mtu: u64::from(interface.mtu),
        hwAddr: interface.mac_text(),
        type_: interface.kind.clone(),
        raw_flags: interface.raw_flags,
        ..Default::default()
    }
}

fn address_message(address: &GuestAddress) -> types::IPAddress {
    types::IPAddress {
        family: family(address.address.is_ipv6()).into(),
        address: address.address.to_string(),
        mask: address.prefix_bits.to_string(),
        ..Default::default()
    }
}

fn route_message(route: &GuestRoute) -> types::Route {
    let text = |address: Option<IpAddr>| address.map(|a| a.to_string()).unwrap_or_default();
    let dest = route
        .destination
        .as_ref()
        .map(|dest| format!("{}/{}", dest.address, dest.prefix_bits))
        .unwrap_or_default();
    types::Route {
        dest,
        gateway: text(route.gateway),
        device: route.device.clone(),
        source: text(route.source),
        scope: u32::from(route.scope),
        family: family(route.ipv6).into(),
        flags: route.flags,
        mtu: route.mtu,
        ..Default::default()
    }
}

fn neighbour_message(neighbour: &GuestNeighbour) -> types::ARPNeighbor {
    let address = types::IPAddress {
        family: family(neighbour.address.is_ipv6()).into(),
        address: neighbour.address.to_string(),
        ..Default::default()
    };
    types::ARPNeighbor {
        toIPAddress: Some(address).into(),
        device: neighbour.device.clone(),
        lladdr: mac_text(neighbour.mac),
        state: i32::from(neighbour.state),
        flags: i32::from(neighbour.flags),
        ..Default::default()
    }
}

fn family(ipv6: bool) -> types::IPFamily {
    if ipv6 {
        types::IPFamily::v6
    } else {
        types::IPFamily::v4
    }
}
