//! The routes of the main table.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{
    RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteMetric, RouteProtocol, RouteType,
};
use rtnetlink::{Handle, RouteMessageBuilder};

use crate::check::LinkName;
use crate::error::NetworkError;
use crate::link::{self, Link};
use crate::netlink::{dump, failed, is_errno};
use crate::request::RouteRequest;
use crate::show::destination;

/// The unicast routes of the main table, both families.
pub(crate) async fn list(handle: &Handle) -> Result<Vec<RouteMessage>, NetworkError> {
    let v4 = RouteMessageBuilder::<Ipv4Addr>::new().build();
    let v6 = RouteMessageBuilder::<Ipv6Addr>::new().build();
    let mut found = Vec::new();
    for family in [v4, v6] {
        found.extend(dump("list routes", handle.route().get(family).execute()).await?);
    }
    found.retain(|message| {
        message.header.table == RouteHeader::RT_TABLE_MAIN
            && message.header.kind == RouteType::Unicast
    });
    Ok(found)
}

/// Replaces the routes that somebody configured; after an error the former ones are back.
pub(crate) async fn replace(handle: &Handle, wanted: &[RouteRequest]) -> Result<(), NetworkError> {
    let links = link::list(handle).await?;
    let mut new = wanted
        .iter()
        .map(|route| request(route, &links))
        .collect::<Result<Vec<_>, _>>()?;
    let present = list(handle).await?;
    new.retain(|message| !present.iter().any(|other| is_kernel_s(other, message)));
    let old = configured(handle, &links).await?;
    let outcome = exchange(handle, &old, &new).await;
    if outcome.is_err() && restore(handle, &links, &old).await.is_err() {
        tracing::warn!("the former routes could not be restored");
    }
    outcome
}

/// The routes that may be replaced: neither the kernel's own nor the loopback device's.
async fn configured(handle: &Handle, links: &[Link]) -> Result<Vec<RouteMessage>, NetworkError> {
    let is_loopback = |message: &RouteMessage| {
        let device = device_of(message);
        links
            .iter()
            .any(|link| link.is_loopback() && Some(link.index) == device)
    };
    let mut found = list(handle).await?;
    found.retain(|message| {
        message.header.protocol != RouteProtocol::Kernel && !is_loopback(message)
    });
    for message in &mut found {
        keep_what_may_be_asked_for(message);
    }
    found.sort_by_key(has_gateway);
    Ok(found)
}

/// True if the kernel made this very route when an address was added. IPv6 would have it twice,
/// with another metric.
fn is_kernel_s(present: &RouteMessage, wanted: &RouteMessage) -> bool {
    present.header.protocol == RouteProtocol::Kernel
        && present.header.address_family == wanted.header.address_family
        && destination(present) == destination(wanted)
        && device_of(present) == device_of(wanted)
        && !has_gateway(wanted)
}

async fn exchange(
    handle: &Handle,
    old: &[RouteMessage],
    new: &[RouteMessage],
) -> Result<(), NetworkError> {
    // Those with gateways go first, as they came last.
    for message in old.iter().rev() {
        let gone = handle.route().del(message.clone()).execute().await;
        match gone {
            Err(error) if is_errno(&error, &[libc::ESRCH, libc::ENOENT]) => {}
            other => other.map_err(failed(format!("remove route to {}", name_of(message))))?,
        }
    }
    for message in new {
        let added = handle.route().add(message.clone()).execute().await;
        match added {
            // Asked for twice: there is only one of a destination and metric.
            Err(error) if is_errno(&error, &[libc::EEXIST]) => {}
            other => other.map_err(failed(format!("add route to {}", name_of(message))))?,
        }
    }
    Ok(())
}

async fn restore(
    handle: &Handle,
    links: &[Link],
    old: &[RouteMessage],
) -> Result<(), NetworkError> {
    let present = configured(handle, links).await?;
    exchange(handle, &present, old).await
}

/// The message that asks for a route.
fn request(route: &RouteRequest, links: &[Link]) -> Result<RouteMessage, NetworkError> {
    let index = index_of(links, &route.device)?;
    let mut message = RouteMessageBuilder::<IpAddr>::new()
        .scope(route.scope.into())
        .output_interface(index)
        .build();
    message.header.address_family = if route.ipv6 {
        AddressFamily::Inet6
    } else {
        AddressFamily::Inet
    };
    if let Some(to) = route.destination {
        message.header.destination_prefix_length = to.bits;
        message
            .attributes
            .push(RouteAttribute::Destination(to.address.into()));
    }
    if let Some(gateway) = route.gateway {
        message
            .attributes
            .push(RouteAttribute::Gateway(gateway.into()));
        // The kernel refuses the flag where there is no gateway.
        if route.onlink {
            message.header.flags |= RouteFlags::Onlink;
        }
    }
    if let Some(source) = route.source {
        message
            .attributes
            .push(RouteAttribute::PrefSource(source.into()));
    }
    if let Some(mtu) = route.mtu {
        message
            .attributes
            .push(RouteAttribute::Metrics(vec![RouteMetric::Mtu(mtu)]));
    }
    Ok(message)
}

fn index_of(links: &[Link], name: &LinkName) -> Result<u32, NetworkError> {
    Ok(link::named(links, name)?.index)
}

/// The index of a route's interface.
pub(crate) fn device_of(message: &RouteMessage) -> Option<u32> {
    message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Oif(index) => Some(*index),
            _ => None,
        })
}

fn has_gateway(message: &RouteMessage) -> bool {
    message.attributes.iter().any(|attribute| {
        matches!(
            attribute,
            RouteAttribute::Gateway(_) | RouteAttribute::Via(_) | RouteAttribute::MultiPath(_)
        )
    })
}

/// Takes away what the kernel only tells.
fn keep_what_may_be_asked_for(message: &mut RouteMessage) {
    message.header.flags &= RouteFlags::Onlink;
    message.attributes.retain(|attribute| {
        matches!(
            attribute,
            RouteAttribute::Destination(_)
                | RouteAttribute::Gateway(_)
                | RouteAttribute::Via(_)
                | RouteAttribute::MultiPath(_)
                | RouteAttribute::Oif(_)
                | RouteAttribute::PrefSource(_)
                | RouteAttribute::Priority(_)
                | RouteAttribute::Metrics(_)
        )
    });
}

/// A route's destination as messages show it.
fn name_of(message: &RouteMessage) -> String {
    destination(message).map_or_else(|| "default".to_owned(), |to| to.to_string())
}
