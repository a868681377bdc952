use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{ConnectInfo, DefaultBodyLimit, Path, Query, Request, State};
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, COOKIE, SET_COOKIE};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use redoubt_kbs_protocol::{
    BASE_PATH, ErrorBody, MAX_REQUEST_BYTES, SESSION_COOKIE, SessionCookie,
};
use serde_json::json;

use crate::broker::{Broker, ResourceRequest};
use crate::config::HttpSettings;
use crate::refusal::{Refusal, Refused};

/// What every request can reach.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) broker: Arc<Broker>,
    pub(crate) settings: Arc<HttpSettings>,
    pub(crate) session_lifetime_s: u32,
}

/// The broker's paths.
pub(crate) fn router(app: App) -> Router {
    let at = |path: &str| format!("{BASE_PATH}{path}");
    Router::new()
        .route(&at("/auth"), post(auth))
        .route(&at("/attest"), post(attest))
        .route(&at("/resource/{repository}/{kind}/{tag}"), get(resource))
        .route("/healthz", get(async || "ok\n"))
        .fallback(other_path)
        .method_not_allowed_fallback(other_path)
        .layer(DefaultBodyLimit::max(MAX_REQUEST_BYTES))
        .layer(middleware::from_fn_with_state(app.clone(), within_time))
        .with_state(app)
}

/// Ends a request that takes too long, whether its body is slow or its answer.
async fn within_time(State(app): State<App>, request: Request, next: Next) -> Response {
    match tokio::time::timeout(app.settings.request_timeout(), next.run(request)).await {
        Ok(response) => response,
        Err(_) => app.refuse(&Refusal::Timeout.because("the request took too long")),
    }
}

async fn auth(
    State(app): State<App>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Response> {
    let body = whole(body).map_err(|refused| app.refuse(&refused))?;
    let lifetime_s = app.session_lifetime_s;
    let (cookie, challenge) = app.run(move |broker| broker.auth(&body)).await?;
    Ok(with_session(
        &cookie,
        lifetime_s,
        json!(challenge).to_string().into_bytes(),
    ))
}

async fn attest(
    State(app): State<App>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Response> {
    let body = whole(body).map_err(|refused| app.refuse(&refused))?;
    let cookie = session_cookie(&headers);
    let peer = peer.to_string();
    let accepted = app
        .run(move |broker| broker.attest(cookie.as_ref(), &body, &peer))
        .await?;
    let body = json!(accepted.response).to_string().into_bytes();
    Ok(with_session(&accepted.cookie, accepted.lifetime_s, body))
}

async fn resource(
    State(app): State<App>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    path: Result<Path<(String, String, String)>, PathRejection>,
    query: Result<Query<BTreeMap<String, String>>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Response> {
    let invalid = |reason: String| app.refuse(&Refusal::InvalidPath.because(reason));
    let Path((repository, kind, tag)) = path.map_err(|error| invalid(error.to_string()))?;
    let Query(query) = query.map_err(|error| invalid(error.to_string()))?;
    let request = ResourceRequest {
        cookie: session_cookie(&headers),
        bearer: bearer(&headers),
        path: format!("{repository}/{kind}/{tag}"),
        query,
        peer: peer.to_string(),
    };
    let response = app.run(move |broker| broker.resource(&request)).await?;
    Ok(json_answer(response.to_json()))
}

/// Tells a mistyped path from a plugin that is not here.
async fn other_path(State(app): State<App>, request: Request) -> Response {
    let path = request.uri().path();
    let refusal = match path
        .strip_prefix(BASE_PATH)
        .and_then(|rest| rest.strip_prefix('/'))
    {
        Some(rest) if is_unknown_plugin(rest) => Refusal::NoSuchPlugin,
        _ => Refusal::InvalidPath,
    };
    app.refuse(&refusal.because("no such path or method"))
}

fn is_unknown_plugin(rest: &str) -> bool {
    let first = rest.split('/').next().unwrap_or_default();
    !matches!(first, "" | "auth" | "attest" | "resource")
}

impl App {
    /// Runs the broker's work, which blocks on files and cryptography, off the
    /// threads that serve connections.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Broker) -> Result<T, Refused> + Send + 'static,
    ) -> Result<T, Response> {
        let broker = Arc::clone(&self.broker);
        let outcome = tokio::task::spawn_blocking(move || work(&broker)).await;
        let outcome = outcome.unwrap_or_else(|error| {
            Err(Refusal::Internal.because(format!("a task failed: {error}")))
        });
        outcome.map_err(|refused| self.refuse(&refused))
    }

    /// The answer to a refusal: its code and nothing else.
    fn refuse(&self, refused: &Refused) -> Response {
        let refusal = refused.refusal;
        tracing::info!(
            code = refusal.code(),
            reason = redoubt_errors::flatten(&refused.reason),
            "request refused"
        );
        let status = StatusCode::from_u16(refusal.status(self.settings.trustee_status_codes))
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let detail = format!("{} {refusal}", refusal.code());
        let body = ErrorBody::new(&refusal.kind(), detail);
        let mut response = json_answer(json!(body).to_string().into_bytes());
        *response.status_mut() = status;
        response
    }
}

/// A body that arrived whole and within its limit.
fn whole(body: Result<Bytes, BytesRejection>) -> Result<Bytes, Refused> {
    body.map_err(|rejection| {
        let refusal = if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
            Refusal::TooLarge
        } else {
            Refusal::MalformedRequest
        };
        refusal.because(rejection.to_string())
    })
}

fn json_answer(body: Vec<u8>) -> Response {
    (
        [
            (CONTENT_TYPE, "application/json"),
            (CACHE_CONTROL, "no-store"),
        ],
        body,
    )
        .into_response()
}

/// `Max-Age`, not `Expires`: a guest's clock is its host's.
fn with_session(cookie: &SessionCookie, lifetime_s: u32, body: Vec<u8>) -> Response {
    let set = format!(
        "{SESSION_COOKIE}={}; Path={BASE_PATH}; Max-Age={lifetime_s}; HttpOnly",
        cookie.value()
    );
    ([(SET_COOKIE, set)], json_answer(body)).into_response()
}

fn session_cookie(headers: &HeaderMap) -> Option<SessionCookie> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .find_map(SessionCookie::from_cookie)
}

fn bearer(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| token.trim().to_owned())
}
