use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum_server::Handle;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use hyper_util::rt::TokioTimer;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::Semaphore;

use crate::admin::{Admin, AdminKeys};
use crate::audit::{AuditEvent, AuditLog, AuditRecord};
use crate::broker::Broker;
use crate::config::TlsFiles;
use crate::files::{read_bytes, require_private};
use crate::http::{App, RateLimiter, metrics_router, router};
use crate::metrics::Metrics;
use crate::storage::Storage;
use crate::{KbsServerError, ServerConfig};

/// Longest wait for a request's head and for a TLS handshake.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Largest buffer of a connection, in bytes, and with it the largest head of a
/// request. A token has about four thousand.
const MAX_BUFFER_BYTES: usize = 16 * 1024;

/// How often the marks of ended challenges are removed.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);

const MAX_PEM_BYTES: u64 = 1024 * 1024;

/// A key broker that listens and does not answer yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    metrics: Option<(TcpListener, SocketAddr)>,
    tls: Option<RustlsConfig>,
    broker: Arc<Broker>,
    admin: Arc<Admin>,
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
        let storage = Arc::new(Storage::open(&config.storage)?);
        let audit = Arc::new(AuditLog::open(&config.storage.audit_log)?);
        let keys = AdminKeys::load(&config.admin.public_keys)?;
        let admin = Admin::new(keys, Arc::clone(&storage), Arc::clone(&audit));
        let broker = Arc::new(Broker::open(&config, storage, audit)?);
        let (listener, address) = listen(config.listen)?;
        let metrics = config.metrics.listen.map(listen).transpose()?;
        Ok(Self {
            listener,
            address,
            metrics,
            tls,
            broker,
            admin: Arc::new(admin),
            config,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where its metrics are served.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics.as_ref().map(|(_, address)| *address)
    }

    /// Answers until `shutdown` completes; open requests are then given a while.
    pub async fn run(
        self,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), KbsServerError> {
        let Self {
            listener,
            address,
            metrics,
            tls,
            broker,
            admin,
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
        let in_flight = usize::try_from(config.limits.max_requests_in_flight).unwrap_or(usize::MAX);
        let app = App {
            broker: Arc::clone(&broker),
            admin,
            settings: Arc::new(config.http),
            limiter: Arc::new(RateLimiter::new(&config.limits)),
            in_flight: Arc::new(Semaphore::new(in_flight.min(Semaphore::MAX_PERMITS))),
            metrics: Arc::new(Metrics::new()),
            session_lifetime_s: config.session.lifetime_s,
        };
        let metrics_task = metrics.map(|(listener, address)| {
            tracing::info!("metrics are at http://{address}/metrics");
            tokio::spawn(serve_metrics(listener, Arc::clone(&app.metrics)))
        });
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
        if let Some(task) = metrics_task {
            task.abort();
        }
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
        .max_buf_size(MAX_BUFFER_BYTES)
        .header_read_timeout(HEAD_TIMEOUT);
    server
}

async fn sweep(broker: Arc<Broker>) {
    let mut interval = tokio::time::interval(SWEEP_INTERVAL);
    loop {
        interval.tick().await;
        let broker = Arc::clone(&broker);
        // It reads and removes directories.
        let _ = tokio::task::spawn_blocking(move || broker.sweep()).await;
    }
}

async fn record(broker: &Broker, event: AuditEvent) -> Result<(), KbsServerError> {
    broker.audit().record(event, AuditRecord::default()).await
}

async fn serve_metrics(listener: TcpListener, metrics: Arc<Metrics>) {
    let served = async {
        let server = axum_server::from_tcp(listener)?;
        with_limits(server, Handle::new())
            .serve(metrics_router(metrics).into_make_service())
            .await
    };
    if let Err(error) = served.await {
        tracing::error!(%error, "metrics are not served any more");
    }
}

fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), KbsServerError> {
    let failed = |source| KbsServerError::Bind { address, source };
    let listener = TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
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
