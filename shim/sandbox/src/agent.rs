//! The ttRPC connection to the guest's agent.

use std::time::Duration;

use ttrpc::asynchronous::Client;
use ttrpc::asynchronous::transport::Socket;

use crate::vsock::{GuestPorts, GuestStream};

/// The vsock port on which the agent listens.
pub const AGENT_PORT: u32 = 1024;

/// Pause between two tries to connect.
const PAUSE: Duration = Duration::from_millis(20);

/// How long one try may take. A connection request that reached a guest without a
/// driver for its vsock device is never answered.
const TRY_TIMEOUT: Duration = Duration::from_millis(500);

/// Connects to the agent as soon as it listens; tries for ever.
pub(crate) async fn connect(ports: &GuestPorts) -> Client {
    loop {
        match tokio::time::timeout(TRY_TIMEOUT, ports.connect(AGENT_PORT)).await {
            Ok(Ok(stream)) => return client(stream),
            Ok(Err(error)) => tracing::trace!(%error, "the agent does not listen yet"),
            Err(_) => tracing::trace!("the guest does not answer yet"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn client(stream: GuestStream) -> Client {
    Client::new(match stream {
        GuestStream::Vsock(stream) => Socket::new(stream),
        GuestStream::Hybrid(stream) => Socket::new(stream),
    })
}
