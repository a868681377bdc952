//! Traffic between an interface and a tap, redirected in the kernel.
//!
//! Each of the two gets an ingress queueing discipline and one filter that matches everything
//! and sends it out of the other one (tc-mirred(8), `egress redirect`).

use std::time::Duration;

use rtnetlink::Handle;
use rtnetlink::packet_route::tc::{TcAttribute, TcHandle};

use super::error::NetworkError;
use super::tap::{errno, index_of, is_gone};

/// How often a busy queueing discipline is tried again.
const TRIES: u32 = 5;
/// By how much the pause between two tries grows.
const PAUSE: Duration = Duration::from_millis(10);
/// The ingress queueing discipline's handle, `ffff:`.
const INGRESS: u32 = 0xffff_0000;
/// `ETH_P_ALL` in network byte order, as `tcm_info` wants it.
const ALL_PROTOCOLS: u16 = 0x0003_u16.to_be();

/// Sends everything that arrives at one interface out of the other, both ways.
pub(super) async fn redirect_both_ways(
    handle: &Handle,
    tap: u32,
    peer: u32,
    tap_name: &str,
    peer_name: &str,
) -> Result<(), NetworkError> {
    add_ingress(handle, tap, tap_name).await?;
    add_ingress(handle, peer, peer_name).await?;
    redirect(handle, tap, peer, tap_name, peer_name).await?;
    redirect(handle, peer, tap, peer_name, tap_name).await
}

async fn add_ingress(handle: &Handle, index: u32, name: &str) -> Result<(), NetworkError> {
    let mut tries = 1;
    loop {
        match handle.qdisc().add(signed(index)).ingress().execute().await {
            Ok(()) => return Ok(()),
            Err(error) if errno(&error) == Some(libc::EBUSY) && tries < TRIES => {
                tokio::time::sleep(PAUSE * tries).await;
                tries += 1;
            }
            Err(source) => {
                let action = format!("add an ingress queueing discipline to {name}");
                return Err(NetworkError::Netlink { action, source });
            }
        }
    }
}

async fn redirect(
    handle: &Handle,
    from: u32,
    to: u32,
    from_name: &str,
    to_name: &str,
) -> Result<(), NetworkError> {
    let failed = |source| NetworkError::Netlink {
        action: format!("redirect {from_name} to {to_name}"),
        source,
    };
    handle
        .traffic_filter(signed(from))
        .add()
        .parent(INGRESS)
        .protocol(ALL_PROTOCOLS)
        .redirect(to)
        .map_err(failed)?
        .execute()
        .await
        .map_err(failed)
}

/// Removes an interface's ingress queueing discipline and with it its filters.
pub(super) async fn remove_ingress(handle: &Handle, name: &str) -> Result<(), NetworkError> {
    let Some(index) = index_of(handle, name).await? else {
        return Ok(());
    };
    let mut request = handle.qdisc().del(signed(index));
    let message = request.message_mut();
    message.header.parent = TcHandle::INGRESS;
    message.header.handle = TcHandle::from(INGRESS);
    message
        .attributes
        .push(TcAttribute::Kind("ingress".to_owned()));
    match request.execute().await {
        Err(error) if !is_gone(&error) => Err(NetworkError::Netlink {
            action: format!("remove the ingress queueing discipline of {name}"),
            source: error,
        }),
        _ => Ok(()),
    }
}

/// Traffic control's messages hold the index as a signed number; the kernel's are positive.
fn signed(index: u32) -> i32 {
    i32::try_from(index).unwrap_or(i32::MAX)
}
