//! What administrators ask for. Where Trustee has a path for it, it is the same.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{ConnectInfo, FromRequestParts, Path, Query, State};
use axum::http::request::Parts;
use axum::response::Response;
use axum::routing::{delete, get, post};
use redoubt_kbs_protocol::ResourcePath;
use serde::Deserialize;
use serde_json::json;
use zeroize::Zeroizing;

use super::body::Whole;
use super::guest::parts;
use super::{App, bearer, json_answer, tenant_of};
use crate::admin::AdminRequest;
use crate::names::{PolicyName, ReferenceSetName};
use crate::refusal::{Refusal, Refused};

/// The name of sets that are imported without one, as Trustee's tools do.
const UNNAMED_SET: &str = "imported";

#[derive(Deserialize)]
struct ResourceParts {
    repository: String,
    kind: String,
    tag: String,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

#[derive(Deserialize)]
struct PutQuery {
    policy: Option<String>,
}

#[derive(Deserialize)]
struct ListQuery {
    after: Option<String>,
}

#[derive(Deserialize)]
struct ImportQuery {
    name: Option<String>,
    #[serde(default)]
    ignore_others: bool,
}

pub(super) fn paths() -> Router<App> {
    Router::new()
        .route(
            "/resource/{repository}/{kind}/{tag}",
            post(put_resource).delete(delete_resource),
        )
        .route("/resources", get(list_resources))
        .route("/resource-policy", post(put_policy).get(list_policies))
        .route(
            "/resource-policy/{name}",
            get(get_policy).delete(delete_policy),
        )
        .route(
            "/reference-value",
            post(import_references).get(list_references),
        )
        .route("/reference-value/{name}", delete(delete_references))
        .route("/audit-head", get(audit_head))
        .route("/storage-key", post(rotate_key))
}

/// Who asks, and for which tenant.
struct Caller(AdminRequest);

impl FromRequestParts<App> for Caller {
    type Rejection = Response;

    async fn from_request_parts(request: &mut Parts, app: &App) -> Result<Self, Response> {
        #[derive(Deserialize)]
        struct TenantPath {
            tenant: Option<String>,
        }
        let path = Path::<TenantPath>::from_request_parts(request, app).await;
        let tenant = parts(path).and_then(|path| tenant_of(path.tenant.as_deref()));
        let tenant = tenant.map_err(|refused| app.refuse(&refused))?;
        let ConnectInfo(peer) = ConnectInfo::<SocketAddr>::from_request_parts(request, app)
            .await
            .map_err(|error| app.refuse(&Refusal::Internal.because(error.to_string())))?;
        let bearer = bearer(&request.headers).map(|token| Zeroizing::new(token.to_owned()));
        Ok(Self(AdminRequest {
            bearer,
            tenant,
            peer: peer.to_string(),
        }))
    }
}

type Outcome = Result<Response, Response>;

async fn put_resource(
    State(app): State<App>,
    Caller(caller): Caller,
    path: Result<Path<ResourceParts>, PathRejection>,
    query: Result<Query<PutQuery>, QueryRejection>,
    Whole(body): Whole,
) -> Outcome {
    let refuse = |refused: Refused| app.refuse_admin(&refused);
    let path = resource_path(path).map_err(refuse)?;
    let policy = match fields(query).map_err(refuse)?.policy {
        None => PolicyName::default(),
        Some(name) => policy_name(&name).map_err(refuse)?,
    };
    let bytes = Zeroizing::new(body.map_err(refuse)?);
    let done = app.admin.put_resource(&caller, path, policy, bytes).await;
    done.map_err(refuse)?;
    Ok(json_answer(&json!({})))
}

async fn delete_resource(
    State(app): State<App>,
    Caller(caller): Caller,
    path: Result<Path<ResourceParts>, PathRejection>,
) -> Outcome {
    let refuse = |refused: Refused| app.refuse_admin(&refused);
    let path = resource_path(path).map_err(refuse)?;
    let existed = app.admin.delete_resource(&caller, path).await;
    Ok(deleted(&app, existed))
}

async fn list_resources(
    State(app): State<App>,
    Caller(caller): Caller,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Outcome {
    let refuse = |refused: Refused| app.refuse_admin(&refused);
    let after = fields(query).map_err(refuse)?.after;
    let after = after
        .map(|path| ResourcePath::parse(&path))
        .transpose()
        .map_err(|error| refuse(Refusal::InvalidPath.because(error.to_string())))?;
    let page = app.admin.list_resources(&caller, after).await;
    Ok(json_answer(&page.map_err(refuse)?))
}

async fn put_policy(State(app): State<App>, Caller(caller): Caller, Whole(body): Whole) -> Outcome {
    let refuse = |refused: Refused| app.refuse_admin(&refused);
    let body = body.map_err(refuse)?;
    let done = app.admin.put_policy(&caller, &body).await;
    done.map_err(refuse)?;
    Ok(json_answer(&json!({})))
}

async fn list_policies(State(app): State<App>, Caller(caller): Caller) -> Outcome {
    let list = app.admin.list_policies(&caller).await;
    let list = list.map_err(|refused| app.refuse_admin(&refused))?;
    Ok(json_answer(&list))
}

async fn get_policy(
    State(app): State<App>,
    Caller(caller): Caller,
    path: Result<Path<Named>, PathRejection>,
) -> Outcome {
    let refuse = |refused: Refused| app.refuse_admin(&refused);
    let name = parts(path).and_then(|path| policy_name(&path.name));
    let policy = app.admin.policy(&caller, name.map_err(refuse)?).await;
    match policy.map_err(refuse)? {
        Some(policy) => Ok(json_answer(&policy)),
        None => Err(refuse(Refusal::NoSuchResource.because("no such policy"))),
    }
}

async fn delete_policy(
    State(app): State<App>,
    Caller(caller): Caller,
    path: Result<Path<Named>, PathRejection>,
) -> Outcome {
    let refuse = |refused: Refused| app.refuse_admin(&refused);
    let name = parts(path).and_then(|path| policy_name(&path.name));
    let existed = app
        .admin
        .delete_policy(&caller, name.map_err(refuse)?)
        .await;
    Ok(deleted(&app, existed))
}

async fn import_references(
    State(app): State<App>,
    Caller(caller): Caller,
    query: Result<Query<ImportQuery>, QueryRejection>,
    Whole(body): Whole,
) -> Outcome {
    let refuse = |refused: Refused| app.refuse_admin(&refused);
    let query = fields(query).map_err(refuse)?;
    let name = set_name(query.name.as_deref().unwrap_or(UNNAMED_SET)).map_err(refuse)?;
    let body = body.map_err(refuse)?;
    let report = app
        .admin
        .import_references(&caller, name, query.ignore_others, &body)
        .await;
    Ok(json_answer(&report.map_err(refuse)?))
}

async fn list_references(State(app): State<App>, Caller(caller): Caller) -> Outcome {
    let list = app.admin.list_references(&caller).await;
    let list = list.map_err(|refused| app.refuse_admin(&refused))?;
    Ok(json_answer(&list))
}

async fn delete_references(
    State(app): State<App>,
    Caller(caller): Caller,
    path: Result<Path<Named>, PathRejection>,
) -> Outcome {
    let refuse = |refused: Refused| app.refuse_admin(&refused);
    let name = parts(path).and_then(|path| set_name(&path.name));
    let existed = app
        .admin
        .delete_references(&caller, name.map_err(refuse)?)
        .await;
    Ok(deleted(&app, existed))
}

async fn audit_head(State(app): State<App>, Caller(caller): Caller) -> Outcome {
    let head = app.admin.audit_head(&caller).await;
    let head = head.map_err(|refused| app.refuse_admin(&refused))?;
    Ok(json_answer(&head))
}

async fn rotate_key(State(app): State<App>, Caller(caller): Caller) -> Outcome {
    let id = app.admin.rotate_key(&caller).await;
    let id = id.map_err(|refused| app.refuse_admin(&refused))?;
    Ok(json_answer(&json!({ "key_id": id })))
}

/// The answer to a removal: what was not there is said to be missing.
fn deleted(app: &App, existed: Result<bool, Refused>) -> Response {
    let existed = existed.and_then(|existed| {
        existed
            .then_some(())
            .ok_or_else(|| Refusal::NoSuchResource.because("it was not there"))
    });
    match existed {
        Ok(()) => json_answer(&json!({})),
        Err(refused) => app.refuse_admin(&refused),
    }
}

fn resource_path(
    path: Result<Path<ResourceParts>, PathRejection>,
) -> Result<ResourcePath, Refused> {
    let ResourceParts {
        repository,
        kind,
        tag,
    } = parts(path)?;
    ResourcePath::parse(&format!("{repository}/{kind}/{tag}"))
        .map_err(|error| Refusal::InvalidPath.because(error.to_string()))
}

fn fields<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, Refused> {
    query
        .map(|Query(fields)| fields)
        .map_err(|error| Refusal::ChangeRefused.because(error.to_string()))
}

fn policy_name(name: &str) -> Result<PolicyName, Refused> {
    name.parse()
        .map_err(|reason: &str| Refusal::ChangeRefused.because(reason))
}

fn set_name(name: &str) -> Result<ReferenceSetName, Refused> {
    name.parse()
        .map_err(|reason: &str| Refusal::ChangeRefused.because(reason))
}
