//! One request, one answer.

use std::time::Duration;

use redoubt_verifier::{CollateralId, CollateralItem, MAX_ITEM_BYTES};
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode, Url};
use rustls::{ClientConfig, RootCertStore};
use time::OffsetDateTime;

use crate::backoff::retry_after;
use crate::error::CollateralError;
use crate::request::{Request, Services, percent_decoded};

/// The longest chain in a header that is taken, in bytes.
const MAX_CHAIN_BYTES: usize = 64 * 1024;

/// Longest that one connection attempt may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What came of a request.
pub(crate) enum Answer {
    /// The document.
    Item(CollateralItem),
    /// The service has too much to do; it may have said when to come back.
    Busy(Option<Duration>),
}

/// HTTP towards the services, over TLS under the web's roots.
pub(crate) fn http_client(
    services: &Services,
    timeout: Duration,
) -> Result<Client, CollateralError> {
    for url in [&services.amd_kds, &services.intel_pcs, &services.intel_root] {
        let parsed = Url::parse(url).ok();
        if !parsed.is_some_and(|url| matches!(url.scheme(), "https" | "http") && url.has_host()) {
            return Err(CollateralError::Address { url: url.clone() });
        }
    }
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let roots = RootCertStore {
        roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
    };
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|_| CollateralError::Address {
            url: services.amd_kds.clone(),
        })?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(timeout)
        .user_agent(concat!("redoubt/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(CollateralError::Setup)
}

/// Asks once.
pub(crate) async fn ask(
    http: &Client,
    id: CollateralId,
    request: &Request,
) -> Result<Answer, CollateralError> {
    let service = request.service;
    let response = http.get(&request.url).send().await;
    let response = response.map_err(|cause| CollateralError::Unreachable {
        service,
        cause: cause.without_url(),
    })?;
    let now = OffsetDateTime::now_utc();
    match response.status() {
        StatusCode::OK => {}
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            return Ok(Answer::Busy(asked_pause(response.headers(), now)));
        }
        StatusCode::NOT_FOUND => return Err(CollateralError::Unknown { service, id }),
        status => {
            return Err(CollateralError::Status {
                service,
                status: status.as_u16(),
            });
        }
    }
    let issuer_chain = request
        .chain_header
        .and_then(|name| response.headers().get(name))
        .filter(|value| value.len() <= MAX_CHAIN_BYTES)
        .and_then(|value| percent_decoded(value.to_str().ok()?));
    let item = CollateralItem {
        id,
        body: read(response, request).await?,
        issuer_chain,
        fetched_at: now,
    };
    item.check()
        .map_err(|cause| CollateralError::Content { service, cause })?;
    Ok(Answer::Item(item))
}

fn asked_pause(headers: &HeaderMap, now: OffsetDateTime) -> Option<Duration> {
    retry_after(headers.get(RETRY_AFTER)?.to_str().ok()?, now)
}

/// Reads the body, which may not be longer than a document can be.
async fn read(mut response: Response, request: &Request) -> Result<Vec<u8>, CollateralError> {
    let service = request.service;
    let too_large = || CollateralError::AnswerTooLarge {
        service,
        limit: MAX_ITEM_BYTES,
    };
    let announced = response.content_length().unwrap_or(0);
    if usize::try_from(announced).map_or(true, |length| length > MAX_ITEM_BYTES) {
        return Err(too_large());
    }
    let mut body = Vec::new();
    loop {
        let chunk = response.chunk().await;
        let chunk = chunk.map_err(|cause| CollateralError::Truncated {
            service,
            cause: cause.without_url(),
        })?;
        let Some(chunk) = chunk else {
            return Ok(body);
        };
        if chunk.len() > MAX_ITEM_BYTES - body.len() {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
}
