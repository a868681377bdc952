//! The broker over HTTP.

mod admin;
mod body;
mod guest;
mod limits;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use redoubt_kbs_protocol::{BASE_PATH, ErrorBody};
use serde::Serialize;
use serde_json::json;
use tokio::sync::Semaphore;

pub(crate) use limits::RateLimiter;

use crate::admin::Admin;
use crate::broker::Broker;
use crate::config::HttpSettings;
use crate::metrics::{CONTENT_TYPE as METRICS_TYPE, Endpoint, Metrics};
use crate::names::Tenant;
use crate::refusal::{Refusal, Refused};

/// What stands before the base path in the addresses of tenants.
const TENANTS: &str = "/tenants/";

/// What every request can reach.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) broker: Arc<Broker>,
    pub(crate) admin: Arc<Admin>,
    pub(crate) settings: Arc<HttpSettings>,
    pub(crate) limiter: Arc<RateLimiter>,
    pub(crate) in_flight: Arc<Semaphore>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) session_lifetime_s: u32,
}

/// The broker's paths: once for the default tenant, once for named ones.
pub(crate) fn router(app: App) -> Router {
    let mut paths = guest::paths();
    if app.admin.is_enabled() {
        paths = paths.merge(admin::paths());
    }
    Router::new()
        .nest(BASE_PATH, paths.clone())
        .nest(&format!("{TENANTS}{{tenant}}{BASE_PATH}"), paths)
        .route("/.well-known/jwks.json", get(jwks))
        .route("/.well-known/openid-configuration", get(openid))
        .route("/healthz", get(async || "ok\n"))
        .fallback(other_path)
        .method_not_allowed_fallback(other_path)
        .layer(middleware::from_fn_with_state(app.clone(), within_limits))
        .with_state(app)
}

/// The metrics, on an address of their own.
pub(crate) fn metrics_router(metrics: Arc<Metrics>) -> Router {
    let text = |State(metrics): State<Arc<Metrics>>| async move {
        ([(CONTENT_TYPE, METRICS_TYPE)], metrics.text())
    };
    Router::new()
        .route("/metrics", get(text))
        .with_state(metrics)
}

/// Refuses what is too much, ends what takes too long, and counts the rest.
async fn within_limits(
    State(app): State<App>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    let start = Instant::now();
    let endpoint = endpoint(request.uri().path());
    let response = match app.limiter.admit(peer.ip(), start) {
        Err(pause) => {
            let refused = Refusal::TooManyRequests.because(format!("{} asks too often", peer.ip()));
            let mut response = app.refuse(&refused);
            let seconds = HeaderValue::from(pause.as_secs().saturating_add(1));
            response.headers_mut().insert(RETRY_AFTER, seconds);
            response
        }
        Ok(()) => app.answer(request, next).await,
    };
    let status = response.status().as_u16();
    app.metrics.answered(endpoint, status, start.elapsed());
    response
}

/// Announces the keys of tokens to services that check them.
async fn jwks(State(app): State<App>) -> Response {
    json_answer(app.broker.signer().keys())
}

/// Announces the issuer, where it is an address.
async fn openid(State(app): State<App>) -> Response {
    let issuer = app.broker.signer().issuer();
    if !issuer.starts_with("https://") {
        return app.refuse(&Refusal::InvalidPath.because("the issuer is not an address"));
    }
    let jwks_uri = format!("{}/.well-known/jwks.json", issuer.trim_end_matches('/'));
    json_answer(&json!({ "issuer": issuer, "jwks_uri": jwks_uri }))
}

/// Tells a mistyped path from a plugin that is not here.
async fn other_path(State(app): State<App>, request: Request) -> Response {
    let refusal = match protocol_path(request.uri().path()) {
        Some(rest) if endpoint_of(rest) == Endpoint::Other && !rest.is_empty() => {
            Refusal::NoSuchPlugin
        }
        _ => Refusal::InvalidPath,
    };
    app.refuse(&refusal.because("no such path or method"))
}

/// A path below the base path, of whichever tenant.
fn protocol_path(path: &str) -> Option<&str> {
    let path = match path.strip_prefix(TENANTS) {
        Some(rest) => rest.get(rest.find('/')?..)?,
        None => path,
    };
    path.strip_prefix(BASE_PATH)?.strip_prefix('/')
}

fn endpoint(path: &str) -> Endpoint {
    protocol_path(path).map_or(Endpoint::Other, endpoint_of)
}

fn endpoint_of(rest: &str) -> Endpoint {
    match rest.split('/').next().unwrap_or_default() {
        "auth" => Endpoint::Auth,
        "attest" => Endpoint::Attest,
        "resource" => Endpoint::Resource,
        "resources" | "resource-policy" | "reference-value" | "audit-head" | "storage-key" => {
            Endpoint::Admin
        }
        _ => Endpoint::Other,
    }
}

impl App {
    async fn answer(&self, request: Request, next: Next) -> Response {
        let Ok(_permit) = self.in_flight.try_acquire() else {
            return self.refuse(&Refusal::Busy.because("too many requests are worked on"));
        };
        match tokio::time::timeout(self.settings.request_timeout(), next.run(request)).await {
            Ok(response) => response,
            Err(_) => self.refuse(&Refusal::Timeout.because("the request took too long")),
        }
    }

    /// The answer to a guest's refusal: its code and nothing else.
    fn refuse(&self, refused: &Refused) -> Response {
        let refusal = refused.refusal;
        self.refuse_with(refused, format!("{} {refusal}", refusal.code()))
    }

    /// The answer to an administrator's: the reason as well, once it is known who asks.
    fn refuse_admin(&self, refused: &Refused) -> Response {
        if refused.refusal == Refusal::NotAdministrator {
            return self.refuse(refused);
        }
        let refusal = refused.refusal;
        let reason = redoubt_errors::flatten(&refused.reason);
        self.refuse_with(refused, format!("{} {refusal}: {reason}", refusal.code()))
    }

    fn refuse_with(&self, refused: &Refused, detail: String) -> Response {
        let refusal = refused.refusal;
        self.metrics.refused(refusal.code());
        tracing::info!(
            code = refusal.code(),
            reason = redoubt_errors::flatten(&refused.reason),
            "request refused"
        );
        let status = StatusCode::from_u16(refusal.status(self.settings.trustee_status_codes))
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = json_answer(&ErrorBody::new(&refusal.kind(), detail));
        *response.status_mut() = status;
        response
    }
}

/// The tenant in an address; the default one where there is none.
fn tenant_of(name: Option<&str>) -> Result<Tenant, Refused> {
    match name {
        None => Ok(Tenant::default()),
        Some(name) => Tenant::parse(name)
            .ok_or_else(|| Refusal::InvalidPath.because("the tenant's name is not one")),
    }
}

fn json_answer(value: &impl Serialize) -> Response {
    json_bytes(json!(value).to_string().into_bytes())
}

fn json_bytes(body: Vec<u8>) -> Response {
    (
        [
            (CONTENT_TYPE, "application/json"),
            (CACHE_CONTROL, "no-store"),
        ],
        body,
    )
        .into_response()
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_tenants_count_as_the_same_endpoints() {
        assert_eq!(endpoint("/kbs/v0/auth"), Endpoint::Auth);
        assert_eq!(endpoint("/tenants/a/kbs/v0/attest"), Endpoint::Attest);
        assert_eq!(
            endpoint("/tenants/a/kbs/v0/resource/a/b/c"),
            Endpoint::Resource
        );
        assert_eq!(endpoint("/kbs/v0/resource-policy"), Endpoint::Admin);
        for path in [
            "",
            "/",
            "/kbs/v0",
            "/kbs/v0/",
            "/tenants/a",
            "/x/kbs/v0/auth",
        ] {
            assert_eq!(endpoint(path), Endpoint::Other, "{path}");
        }
    }
}
