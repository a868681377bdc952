use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum_server::Handle;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use hyper_util::rt::TokioTimer;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::audit::{AuditEvent, AuditRecord};
use crate::broker::Broker;
use crate::config::TlsFiles;
use crate::files::{read_bytes, require_private};
use crate::http::{App, router};
use crate::{KbsServerError, ServerConfig};

/// Longest wait for a request's head and for a TLS handshake.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// How often sessions that have ended are forgotten.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);

const MAX_PEM_BYTES: u64 = 1024 * 1024;

/// A key broker that listens and does not answer yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<RustlsConfig>,
    broker: Arc<Broker>,
    config: ServerConfig,
}

/// Runs a key broker until `shutdown` completes.
pub async fn serve(
    config: ServerConfig,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), KbsServerError> {
    Server::bind(config)?.run(shutdown).await
}

impl Server {
    /// Reads everything that the configuration names and starts to listen.
    pub fn bind(config: ServerConfig) -> Result<Self, KbsServerError> {
        let tls = config.tls.as_ref().map(tls_config).transpose()?;
        let broker = Arc::new(Broker::open(&config)?);
        let failed = |source| KbsServerError::Bind {
            address: config.listen,
            source,
        };
        let listener = TcpListener::bind(config.listen).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self {
            listener,
            address,
            tls,
            broker,
            config,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `shutdown` completes; open requests are then given a while.
    pub async fn run(
        self,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), KbsServerError> {
        let Self {
            listener,
            address,
            tls,
            broker,
            config,
        } = self;
        let handle = Handle::new();
        let grace = config.http.shutdown_grace();
        let waiter = tokio::spawn({
            let handle = handle.clone();
            async move {
                shutdown.await;
                handle.graceful_shutdown(Some(grace));
            }
        });
        let sweeper = tokio::spawn(sweep(Arc::clone(&broker)));
        record(&broker, AuditEvent::Started).await?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        tracing::info!("key broker listens on {scheme}://{address}");
        let app = App {
            broker: Arc::clone(&broker),
            settings: Arc::new(config.http),
            session_lifetime_s: config.session.lifetime_s,
        };
        let service = router(app).into_make_service_with_connect_info::<SocketAddr>();
        let served = async {
            let server = axum_server::from_tcp(listener)?;
            match tls {
                Some(tls) => {
                    let acceptor = RustlsAcceptor::new(tls).handshake_timeout(HEAD_TIMEOUT);
                    with_limits(server.acceptor(acceptor), handle)
                        .serve(service)
                        .await
                }
                None => with_limits(server, handle).serve(service).await,
            }
        };
        let outcome = served.await;
        waiter.abort();
        sweeper.abort();
        record(&broker, AuditEvent::Stopped).await?;
        outcome.map_err(KbsServerError::Serve)
    }
}

/// HTTP/1.1 alone, with a bound on how long a request's head may take.
fn with_limits<A>(
    server: axum_server::Server<SocketAddr, A>,
    handle: Handle<SocketAddr>,
) -> axum_server::Server<SocketAddr, A> {
    let mut server = server.http1_only().handle(handle);
    server
        .http_builder()
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT);
    server
}

async fn sweep(broker: Arc<Broker>) {
    let mut interval = tokio::time::interval(SWEEP_INTERVAL);
    loop {
        interval.tick().await;
        broker.sweep();
    }
}

async fn record(broker: &Arc<Broker>, event: AuditEvent) -> Result<(), KbsServerError> {
    let broker = Arc::clone(broker);
    let written =
        tokio::task::spawn_blocking(move || broker.audit().record(event, AuditRecord::default()));
    written
        .await
        .unwrap_or_else(|error| Err(KbsServerError::Serve(std::io::Error::other(error))))
}

fn tls_config(files: &TlsFiles) -> Result<RustlsConfig, KbsServerError> {
    let unusable = |path: &Path, reason: &dyn std::fmt::Display| KbsServerError::TlsMaterial {
        path: path.to_owned(),
        reason: reason.to_string(),
    };
    let pem = read_bytes(&files.certificate, MAX_PEM_BYTES)?;
    let chain = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| unusable(&files.certificate, &error))?;
    if chain.is_empty() {
        return Err(unusable(
            &files.certificate,
            &"there is no certificate in it",
        ));
    }
    require_private(&files.private_key)?;
    let pem = read_bytes(&files.private_key, MAX_PEM_BYTES)?;
    let key = PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|error| unusable(&files.private_key, &error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(&files.certificate, &error))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| unusable(&files.private_key, &error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(RustlsConfig::from_config(Arc::new(config)))
}
