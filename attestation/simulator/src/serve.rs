//! The secure processor's socket.
//!
//! The guest behind it is hostile: messages, connections and rates are bounded,
//! and whatever it sends ends at worst its own connection.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use redoubt_evidence::psp::REQUEST_BYTES;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::error::SimulatorError;
use crate::psp::SoftwarePsp;

/// What one guest may take of its secure processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServeLimits {
    /// Connections at the same time; further ones are closed at once.
    pub connections: usize,
    /// Requests, and likewise connections, per second in the long run.
    pub per_second: u32,
    /// How many of them may come at once.
    pub burst: u32,
    /// How long a connection may be silent, or a response unread.
    pub idle: Duration,
}

impl Default for ServeLimits {
    fn default() -> Self {
        Self {
            connections: 8,
            per_second: 50,
            burst: 25,
            idle: Duration::from_secs(30),
        }
    }
}

/// Serves one guest until the future is dropped.
pub async fn serve(psp: Arc<SoftwarePsp>, listener: UnixListener) {
    serve_with(psp, listener, ServeLimits::default()).await;
}

/// Serves one guest with limits of the caller's choice.
pub async fn serve_with(psp: Arc<SoftwarePsp>, listener: UnixListener, limits: ServeLimits) {
    let slots = Arc::new(Semaphore::new(limits.connections));
    let requests = Arc::new(Pace::new(limits));
    let connections = Pace::new(limits);
    // Dropping the set with this future ends every connection.
    let mut tasks = JoinSet::new();
    loop {
        connections.turn().await;
        let stream = match listener.accept().await {
            Ok((stream, _address)) => stream,
            Err(error) => {
                tracing::warn!(%error, "the simulated secure processor cannot accept");
                sleep(Duration::from_millis(200)).await;
                continue;
            }
        };
        while tasks.try_join_next().is_some() {}
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
            tracing::debug!("too many connections to the simulated secure processor");
            continue;
        };
        let (psp, requests) = (Arc::clone(&psp), Arc::clone(&requests));
        tasks.spawn(async move {
            if let Err(error) = connection(&psp, stream, &requests, limits.idle).await {
                tracing::debug!(%error, "a connection to the simulated secure processor ended");
            }
            drop(slot);
        });
    }
}

/// Why a connection ended before its time.
#[derive(Debug, thiserror::Error, displaydoc::Display)]
enum ConnectionError {
    /// the guest was silent for too long
    Idle,
    /// the guest announced a message of {0} bytes
    Length(u32),
    /// the socket failed: {0}
    Socket(#[from] io::Error),
    /// no response could be made: {0}
    Psp(#[from] SimulatorError),
}

async fn connection(
    psp: &SoftwarePsp,
    mut stream: UnixStream,
    requests: &Pace,
    idle: Duration,
) -> Result<(), ConnectionError> {
    while let Some(request) = timeout(idle, read_request(&mut stream))
        .await
        .map_err(|_elapsed| ConnectionError::Idle)??
    {
        requests.turn().await;
        let response = psp.respond(&request)?;
        let mut frame = Vec::with_capacity(4 + response.len());
        let length = u32::try_from(response.len()).unwrap_or(u32::MAX);
        frame.extend_from_slice(&length.to_le_bytes());
        frame.extend_from_slice(&response);
        timeout(idle, stream.write_all(&frame))
            .await
            .map_err(|_elapsed| ConnectionError::Idle)??;
    }
    Ok(())
}

/// Reads one framed request; `None` at the end of the stream.
async fn read_request(
    stream: &mut UnixStream,
) -> Result<Option<[u8; REQUEST_BYTES]>, ConnectionError> {
    let length = match stream.read_u32_le().await {
        Ok(length) => length,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    // Every request has the same length; nothing else is ever buffered.
    if usize::try_from(length) != Ok(REQUEST_BYTES) {
        return Err(ConnectionError::Length(length));
    }
    let mut request = [0; REQUEST_BYTES];
    stream.read_exact(&mut request).await?;
    Ok(Some(request))
}

/// Lets events through at a bounded rate, with some at once.
struct Pace {
    /// The time that one event takes of the long-run rate.
    interval: Duration,
    /// How far the schedule may lie behind, in time.
    credit: Duration,
    /// When the next event is due by the long-run rate.
    next: Mutex<Instant>,
}

impl Pace {
    fn new(limits: ServeLimits) -> Self {
        let interval = Duration::from_secs(1) / limits.per_second.max(1);
        let credit = interval * limits.burst;
        let now = Instant::now();
        Self {
            interval,
            credit,
            next: Mutex::new(now.checked_sub(credit).unwrap_or(now)),
        }
    }

    /// Waits until one more event may happen.
    async fn turn(&self) {
        let mut next = self.next.lock().await;
        let now = Instant::now();
        let earliest = now.checked_sub(self.credit).unwrap_or(now);
        let due = (*next).max(earliest);
        sleep_until(due).await;
        *next = due + self.interval;
    }
}
