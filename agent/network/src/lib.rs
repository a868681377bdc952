//! The guest's network, set up as the agent's callers ask.
//!
//! What they ask comes from the host and is not trusted: all of a request is checked before
//! anything is changed, and the loopback device and its addresses are never touched. Two
//! requests at once do no harm, but the caller should let them follow one another.

#![forbid(unsafe_code)]

mod address;
mod check;
mod error;
mod link;
mod neighbour;
mod netlink;
mod request;
mod route;
mod show;
#[cfg(test)]
mod tests;

pub use check::{MAX_ADDRESSES, MAX_NEIGHBOURS, MAX_ROUTES};
pub use error::NetworkError;
pub use link::APPEARANCE_TIMEOUT;

use redoubt_agent_api::types;

use request::{InterfaceRequest, NeighbourRequest, RouteRequest};

/// Sets the loopback device up; the kernel gives it its addresses.
pub async fn bring_loopback_up() -> Result<(), NetworkError> {
    let handle = netlink::connect()?;
    link::bring_loopback_up(&handle).await
}

/// Sets up the interface that has the hardware address `hwAddr`, and tells how it is then.
///
/// The interface may still be about to appear: it is waited for, [`APPEARANCE_TIMEOUT`] at
/// most. An interface that holds the wanted name gets the other's former name. Addresses that
/// are not asked for are removed, except link-local IPv6 ones, which the kernel needs for
/// neighbour discovery. An MTU of 0 leaves it as it is; of the flags only `IFF_NOARP` counts.
pub async fn update_interface(
    interface: &types::Interface,
) -> Result<types::Interface, NetworkError> {
    let wanted = InterfaceRequest::parse(interface)?;
    let handle = netlink::connect()?;
    let link = link::wait_for(&handle, wanted.mac).await?;
    link::take_name(&handle, &link, &wanted.name).await?;
    link::bring_up(&handle, link.index, &wanted).await?;
    address::replace(&handle, link.index, &wanted).await?;
    let name = wanted.name.to_string();
    show::interfaces(&handle)
        .await?
        .into_iter()
        .find(|interface| interface.name == name)
        .ok_or(NetworkError::NoDevice { name })
}

/// Replaces the unicast routes of the main table, and tells which there are then.
///
/// The kernel's own routes stay, and so do those through the loopback device. Link-local
/// destinations (`fe80::/10`) are the kernel's and left out. After an error the former routes
/// are there again.
pub async fn update_routes(routes: &[types::Route]) -> Result<Vec<types::Route>, NetworkError> {
    let wanted = RouteRequest::parse_all(routes)?;
    let handle = netlink::connect()?;
    route::replace(&handle, &wanted).await?;
    show::routes(&handle).await
}

/// Adds neighbours whose hardware addresses are known, or changes them.
pub async fn add_arp_neighbors(neighbours: &[types::ARPNeighbor]) -> Result<(), NetworkError> {
    let wanted = NeighbourRequest::parse_all(neighbours)?;
    let handle = netlink::connect()?;
    neighbour::add(&handle, &wanted).await
}

/// All interfaces with their addresses.
pub async fn list_interfaces() -> Result<Vec<types::Interface>, NetworkError> {
    show::interfaces(&netlink::connect()?).await
}

/// The unicast routes of the main table, with those that the kernel made itself.
pub async fn list_routes() -> Result<Vec<types::Route>, NetworkError> {
    show::routes(&netlink::connect()?).await
}
