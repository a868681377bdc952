//! Neighbours whose hardware addresses are given.

use rtnetlink::Handle;
use rtnetlink::packet_route::neighbour::NeighbourFlags;

use crate::error::NetworkError;
use crate::link;
use crate::netlink::failed;
use crate::request::NeighbourRequest;

/// Adds neighbours, or changes them.
pub(crate) async fn add(handle: &Handle, wanted: &[NeighbourRequest]) -> Result<(), NetworkError> {
    let links = link::list(handle).await?;
    let found = wanted
        .iter()
        .map(|neighbour| Ok((neighbour, link::named(&links, &neighbour.device)?.index)))
        .collect::<Result<Vec<_>, NetworkError>>()?;
    for (neighbour, index) in found {
        let NeighbourRequest {
            address,
            device,
            mac,
            state,
            flags,
        } = neighbour;
        let added = handle
            .neighbours()
            .add(index, *address)
            .link_layer_address(&mac.0)
            .state((*state).into())
            .flags(NeighbourFlags::from_bits_retain(*flags))
            .replace()
            .execute()
            .await;
        added.map_err(failed(format!(
            "add neighbour {address} to interface {device}"
        )))?;
    }
    Ok(())
}
