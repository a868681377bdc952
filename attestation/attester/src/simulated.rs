//! Reports of a software secure processor.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use redoubt_evidence::SnpEvidence;
use redoubt_evidence::psp::{MAX_RESPONSE_BYTES, ReportRequest, ReportResponse, VSOCK_PORT};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio_vsock::{VMADDR_CID_HOST, VsockAddr, VsockStream};

use crate::error::AttesterError;
use crate::kind::TeeKind;
use crate::{Attester, check_echo};

/// How long one request may take, connection included.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Where a software secure processor listens.
#[async_trait]
pub trait PspAddress: fmt::Debug + fmt::Display + Send + Sync {
    /// The connection to it.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send;

    /// Connects.
    async fn connect(&self) -> io::Result<Self::Stream>;
}

/// A vsock address, seen from the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VsockAddress {
    /// The context id.
    pub cid: u32,
    /// The port.
    pub port: u32,
}

impl VsockAddress {
    /// The software secure processor's port on the host.
    pub fn host() -> Self {
        Self {
            cid: VMADDR_CID_HOST,
            port: VSOCK_PORT,
        }
    }
}

impl fmt::Display for VsockAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "vsock {}:{}", self.cid, self.port)
    }
}

#[async_trait]
impl PspAddress for VsockAddress {
    type Stream = VsockStream;

    async fn connect(&self) -> io::Result<VsockStream> {
        VsockStream::connect(VsockAddr::new(self.cid, self.port)).await
    }
}

/// A Unix socket, for a client outside of a VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnixAddress(pub PathBuf);

impl fmt::Display for UnixAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.display())
    }
}

#[async_trait]
impl PspAddress for UnixAddress {
    type Stream = UnixStream;

    async fn connect(&self) -> io::Result<UnixStream> {
        UnixStream::connect(&self.0).await
    }
}

/// Gets reports from a software secure processor, one connection per report.
#[derive(Clone, Debug)]
pub struct SimulatedAttester<A> {
    address: A,
    timeout: Duration,
}

impl<A: PspAddress> SimulatedAttester<A> {
    /// A client of the software secure processor at `address`.
    pub fn new(address: A) -> Self {
        Self {
            address,
            timeout: TIMEOUT,
        }
    }

    /// The same client with another limit for one request.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Connects. A busy host may take longer than the kernel waits for a vsock
    /// connection: then it is asked again, within the limit of the request.
    async fn connect(&self) -> Result<A::Stream, AttesterError> {
        loop {
            match self.address.connect().await {
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {}
                outcome => {
                    return outcome.map_err(|source| AttesterError::Connect {
                        address: self.address.to_string(),
                        source,
                    });
                }
            }
        }
    }

    async fn request(&self, report_data: &[u8; 64]) -> Result<SnpEvidence, AttesterError> {
        let mut stream = self.connect().await?;
        let response = exchange(&mut stream, &ReportRequest::new(*report_data)).await?;
        Ok(ReportResponse::parse(&response)?)
    }
}

/// Sends one framed request and reads one framed response.
async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    request: &ReportRequest,
) -> Result<Vec<u8>, AttesterError> {
    let request = request.to_bytes();
    let mut frame = Vec::with_capacity(4 + request.len());
    // The request's length is a constant far below `u32::MAX`.
    frame.extend_from_slice(&u32::try_from(request.len()).unwrap_or(0).to_le_bytes());
    frame.extend_from_slice(&request);
    stream
        .write_all(&frame)
        .await
        .map_err(AttesterError::Exchange)?;
    stream.flush().await.map_err(AttesterError::Exchange)?;
    let length = stream
        .read_u32_le()
        .await
        .map_err(AttesterError::Exchange)?;
    let length_bytes = usize::try_from(length).unwrap_or(usize::MAX);
    if length_bytes > MAX_RESPONSE_BYTES {
        return Err(AttesterError::MessageTooLong(length));
    }
    let mut response = vec![0; length_bytes];
    stream
        .read_exact(&mut response)
        .await
        .map_err(AttesterError::Exchange)?;
    Ok(response)
}

#[async_trait]
impl<A: PspAddress> Attester for SimulatedAttester<A> {
    fn tee(&self) -> TeeKind {
        TeeKind::SimulatedSnp
    }

    async fn evidence(&self, report_data: &[u8; 64]) -> Result<SnpEvidence, AttesterError> {
        let evidence = tokio::time::timeout(self.timeout, self.request(report_data))
            .await
            .map_err(|_elapsed| AttesterError::Timeout {
                seconds: self.timeout.as_secs(),
            })??;
        check_echo(evidence, report_data)
    }
}
