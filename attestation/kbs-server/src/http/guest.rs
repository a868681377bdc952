//! What guests ask for.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use axum::Router;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{ConnectInfo, Path, Query, State};
use axum::http::HeaderMap;
use axum::http::header::{COOKIE, SET_COOKIE};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use redoubt_kbs_protocol::{SESSION_COOKIE, SessionCookie};
use serde::Deserialize;

use super::body::Whole;
use super::{App, bearer, json_answer, json_bytes, tenant_of};
use crate::broker::{Answer, ResourceRequest};
use crate::refusal::{Refusal, Refused};

#[derive(Deserialize)]
struct TenantPath {
    tenant: Option<String>,
}

#[derive(Deserialize)]
struct ResourceParts {
    tenant: Option<String>,
    repository: String,
    kind: String,
    tag: String,
}

pub(super) fn paths() -> Router<App> {
    Router::new()
        .route("/auth", post(auth))
        .route("/attest", post(attest))
        .route("/resource/{repository}/{kind}/{tag}", get(resource))
}

async fn auth(
    State(app): State<App>,
    path: Result<Path<TenantPath>, PathRejection>,
    Whole(body): Whole,
) -> Result<Response, Response> {
    let challenged = parts(path)
        .and_then(|path| tenant_of(path.tenant.as_deref()))
        .and_then(|tenant| app.broker.auth(&tenant, &body?));
    let (cookie, challenge) = challenged.map_err(|refused| app.refuse(&refused))?;
    let answer = json_answer(&challenge);
    Ok(with_session(cookie.value(), app.session_lifetime_s, answer))
}

async fn attest(
    State(app): State<App>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    path: Result<Path<TenantPath>, PathRejection>,
    headers: HeaderMap,
    Whole(body): Whole,
) -> Result<Response, Response> {
    let answer = parts(path).and_then(|path| {
        Ok(Answer {
            tenant: tenant_of(path.tenant.as_deref())?,
            cookie: session_cookie(&headers),
            body: body?,
            peer: peer.to_string(),
        })
    });
    let answer = answer.map_err(|refused| app.refuse(&refused))?;
    let accepted = app.broker.attest(answer).await;
    let accepted = accepted.map_err(|refused| app.refuse(&refused))?;
    let response = json_answer(&accepted.response);
    Ok(match SessionCookie::new(&accepted.response.token) {
        Some(cookie) => with_session(cookie.value(), accepted.lifetime_s, response),
        // Too long for a cookie: the token has to come as such.
        None => response,
    })
}

async fn resource(
    State(app): State<App>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    path: Result<Path<ResourceParts>, PathRejection>,
    query: Result<Query<BTreeMap<String, String>>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Response> {
    let request = parts(path).and_then(|parts| {
        let Query(query) =
            query.map_err(|error| Refusal::InvalidPath.because(error.to_string()))?;
        Ok(ResourceRequest {
            tenant: tenant_of(parts.tenant.as_deref())?,
            token: token(&headers),
            path: format!("{}/{}/{}", parts.repository, parts.kind, parts.tag),
            query,
            peer: peer.to_string(),
        })
    });
    let request = request.map_err(|refused| app.refuse(&refused))?;
    let response = app.broker.resource(request).await;
    let response = response.map_err(|refused| app.refuse(&refused))?;
    Ok(json_bytes(response.to_json()))
}

/// The token of the `Authorization` header, or else of the cookie of an
/// attested session. The cookie of a mere challenge is no token.
fn token(headers: &HeaderMap) -> Option<String> {
    if let Some(token) = bearer(headers) {
        return Some(token.to_owned());
    }
    let cookie = session_cookie(headers)?;
    let value = cookie.value();
    value.contains('.').then(|| value.to_owned())
}

pub(super) fn parts<T>(path: Result<Path<T>, PathRejection>) -> Result<T, Refused> {
    path.map(|Path(parts)| parts)
        .map_err(|error| Refusal::InvalidPath.because(error.to_string()))
}

/// `Max-Age`, not `Expires`: a guest's clock is its host's.
fn with_session(value: &str, lifetime_s: u32, response: Response) -> Response {
    let set = format!("{SESSION_COOKIE}={value}; Path=/; Max-Age={lifetime_s}; HttpOnly");
    ([(SET_COOKIE, set)], response).into_response()
}

fn session_cookie(headers: &HeaderMap) -> Option<SessionCookie> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .find_map(SessionCookie::from_cookie)
}
