//! Requests without a kernel, and the kernel's network in namespaces of the tests' own.

mod interfaces;
mod namespace;
mod refusals;
mod refused_routes;
mod routes;

use redoubt_agent_api::types::{ARPNeighbor, IPAddress, Interface, Route};

/// The hardware address of the interface `a0` of [`namespace::run`].
const MAC: &str = "02:00:00:00:00:0a";

fn ip(address: &str, mask: &str) -> IPAddress {
    IPAddress {
        address: address.to_owned(),
        mask: mask.to_owned(),
        ..IPAddress::default()
    }
}

fn interface(name: &str, addresses: &[(&str, &str)]) -> Interface {
    Interface {
        name: name.to_owned(),
        hwAddr: MAC.to_owned(),
        IPAddresses: addresses
            .iter()
            .map(|(address, mask)| ip(address, mask))
            .collect(),
        ..Interface::default()
    }
}

fn route(dest: &str, gateway: &str) -> Route {
    Route {
        dest: dest.to_owned(),
        gateway: gateway.to_owned(),
        device: "eth0".to_owned(),
        ..Route::default()
    }
}

fn neighbour(address: &str, lladdr: &str) -> ARPNeighbor {
    ARPNeighbor {
        toIPAddress: Some(ip(address, "")).into(),
        device: "eth0".to_owned(),
        lladdr: lladdr.to_owned(),
        ..ARPNeighbor::default()
    }
}
