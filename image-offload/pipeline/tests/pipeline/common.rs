//! A registry on loopback that serves layouts and misbehaves on request.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use futures::stream::{self, StreamExt};
use redoubt_image_offload::{
    Digest, ImageError, ImageStore, PullEvent, PullObserver, PullOptions, PulledImage,
    RegistryOptions, RetryOptions, StaticKeys,
};
use serde_json::{Value, json};
use zeroize::Zeroizing;

/// What a registry does instead of answering properly.
#[derive(Clone, Debug)]
pub enum Fault {
    /// One byte of the content is changed.
    FlipByte,
    /// The content ends early, with a length that fits.
    Short,
    /// The content goes on, with a length that fits.
    Long,
    /// The content goes on, without a length.
    LongChunked,
    /// The connection breaks half way, this many times.
    Break(usize),
    /// Nothing comes after the first half.
    Stall,
    /// This status, this many times, with `Retry-After` in seconds.
    Status(u16, usize, Option<u32>),
    /// A redirect.
    Redirect(String),
}

/// One request as it came.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: Method,
    pub path: String,
    pub range: Option<String>,
    pub authorization: Option<String>,
}

#[derive(Default)]
pub struct Content {
    blobs: HashMap<String, Vec<u8>>,
    faults: HashMap<String, Fault>,
    seen: Vec<Seen>,
    ranges: bool,
    /// Token that requests must carry, and where to get it.
    token: Option<String>,
    /// Authorization that requests must carry.
    basic: Option<String>,
    tags: HashMap<String, String>,
}

#[derive(Clone)]
pub struct TestRegistry {
    pub address: SocketAddr,
    content: Arc<Mutex<Content>>,
}

impl TestRegistry {
    pub async fn start() -> Self {
        let content = Arc::new(Mutex::new(Content {
            ranges: true,
            ..Content::default()
        }));
        let router = Router::new().fallback(answer).with_state(content.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, content }
    }

    pub fn router(&self) -> Router {
        Router::new()
            .fallback(answer)
            .with_state(self.content.clone())
    }

    pub fn host(&self) -> String {
        self.address.to_string()
    }

    pub fn with<T>(&self, change: impl FnOnce(&mut Content) -> T) -> T {
        change(&mut self.content.lock().unwrap())
    }

    pub fn add(&self, bytes: impl Into<Vec<u8>>) -> Digest {
        let bytes = bytes.into();
        let digest = Digest::of(&bytes);
        self.with(|content| content.blobs.insert(digest.to_string(), bytes));
        digest
    }

    pub fn blob(&self, digest: &str) -> Option<Vec<u8>> {
        self.with(|content| content.blobs.get(digest).cloned())
    }

    pub fn tag(&self, tag: &str) -> Option<String> {
        self.with(|content| content.tags.get(tag).cloned())
    }

    pub fn set_tag(&self, tag: &str, digest: &str) {
        self.with(|content| content.tags.insert(tag.to_owned(), digest.to_owned()));
    }

    pub fn without_ranges(&self) {
        self.with(|content| content.ranges = false);
    }

    pub fn require_token(&self, token: &str) {
        self.with(|content| content.token = Some(token.to_owned()));
    }

    pub fn require_basic(&self, username: &str, password: &str) {
        let pair =
            base64::engine::general_purpose::STANDARD.encode(format!("{username}:{password}"));
        self.with(|content| content.basic = Some(format!("Basic {pair}")));
    }

    pub fn fault(&self, digest: impl AsRef<str>, fault: Fault) {
        self.with(|content| content.faults.insert(digest.as_ref().to_owned(), fault));
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.with(|content| content.seen.clone())
    }

    /// Serves all blobs of a layout; returns the reference of its image.
    pub fn serve_layout(&self, layout: &Path) -> String {
        for entry in std::fs::read_dir(layout.join("blobs/sha256")).unwrap() {
            self.add(std::fs::read(entry.unwrap().path()).unwrap());
        }
        let index = std::fs::read(layout.join("index.json")).unwrap();
        let index: Value = serde_json::from_slice(&index).unwrap();
        self.reference(index["manifests"][0]["digest"].as_str().unwrap())
    }

    pub fn reference(&self, digest: impl Into<String>) -> String {
        format!("{}/test/image:v1@{}", self.host(), digest.into())
    }

    /// Serves an image made of gzip layers with these archives.
    pub fn serve_archives(&self, archives: &[Vec<u8>]) -> String {
        let layers: Vec<(Vec<u8>, &str)> = archives
            .iter()
            .map(|archive| (gzip(archive), "application/vnd.oci.image.layer.v1.tar+gzip"))
            .collect();
        self.serve_image(&layers, archives)
    }

    /// Serves an image of these blobs, with the `diff_ids` of these archives.
    pub fn serve_image(&self, layers: &[(Vec<u8>, &str)], archives: &[Vec<u8>]) -> String {
        let diff_ids: Vec<String> = archives
            .iter()
            .map(|archive| Digest::of(archive).to_string())
            .collect();
        let config = json!({
            "architecture": "amd64", "os": "linux",
            "config": {"Cmd": ["/bin/true"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        })
        .to_string();
        let descriptors: Vec<Value> = layers
            .iter()
            .map(|(blob, media_type)| {
                let digest = self.add(blob.clone()).to_string();
                json!({"mediaType": media_type, "digest": digest, "size": blob.len()})
            })
            .collect();
        let manifest = manifest(&config, self.add(config.clone()), &descriptors);
        self.reference(self.add(manifest.to_string()))
    }
}

pub fn manifest(config: &str, config_digest: Digest, layers: &[Value]) -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": config_digest.to_string(), "size": config.len(),
        },
        "layers": layers,
    })
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// An archive with plain files.
pub fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, data) in files {
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o644);
        header.set_size(data.len() as u64);
        builder.append_data(&mut header, name, *data).unwrap();
    }
    builder.into_inner().unwrap()
}

async fn answer(State(content): State<Arc<Mutex<Content>>>, request: Request) -> Response {
    let headers = request.headers().clone();
    let header = |name| {
        headers
            .get(name)
            .and_then(|v| v.to_str().ok())
            .map(str::to_owned)
    };
    let path = request.uri().path().to_owned();
    let seen = Seen {
        method: request.method().clone(),
        path: path.clone(),
        range: header(header::RANGE),
        authorization: header(header::AUTHORIZATION),
    };
    let (name, fault, token) = {
        let mut content = content.lock().unwrap();
        content.seen.push(seen.clone());
        let name = path.rsplit('/').next().unwrap_or_default().to_owned();
        let fault = content.faults.get(&name).cloned();
        (name, fault, content.token.clone())
    };
    let basic = content.lock().unwrap().basic.clone();
    if basic.is_some() && seen.authorization != basic {
        let challenge = "Basic realm=\"test\"".to_owned();
        return (
            StatusCode::UNAUTHORIZED,
            [(header::WWW_AUTHENTICATE, challenge)],
        )
            .into_response();
    }
    if path == "/token" {
        return axum::Json(json!({"token": token})).into_response();
    }
    if let Some(token) = token
        && seen.authorization != Some(format!("Bearer {token}"))
    {
        let host = header(header::HOST).unwrap_or_default();
        let challenge = format!("Bearer realm=\"http://{host}/token\",service=\"test\"");
        return (
            StatusCode::UNAUTHORIZED,
            [(header::WWW_AUTHENTICATE, challenge)],
        )
            .into_response();
    }
    match *request.method() {
        Method::GET | Method::HEAD => get(&content, &name, fault, &seen),
        Method::POST => (
            StatusCode::ACCEPTED,
            [(header::LOCATION, format!("{path}session?state=1"))],
        )
            .into_response(),
        Method::PUT => put(&content, request, name).await,
        _ => StatusCode::METHOD_NOT_ALLOWED.into_response(),
    }
}

async fn put(content: &Mutex<Content>, request: Request, name: String) -> Response {
    let query = request.uri().query().unwrap_or_default().to_owned();
    let body = to_bytes(request.into_body(), 64 << 20).await.unwrap();
    let digest = Digest::of(&body).to_string();
    // An upload names its digest in the query, a manifest may in its path.
    let claimed = query
        .split("digest=")
        .nth(1)
        .map(|digest| digest.replace("%3A", ":"));
    let is_manifest = claimed.is_none();
    if claimed.is_some_and(|claimed| claimed != digest) {
        return StatusCode::BAD_REQUEST.into_response();
    }
    let mut content = content.lock().unwrap();
    content.blobs.insert(digest.clone(), body.to_vec());
    if is_manifest {
        content.tags.insert(name, digest);
    }
    StatusCode::CREATED.into_response()
}

fn get(content: &Mutex<Content>, name: &str, fault: Option<Fault>, seen: &Seen) -> Response {
    let (blob, ranges) = {
        let content = content.lock().unwrap();
        let digest = content.tags.get(name).map_or(name, String::as_str);
        (content.blobs.get(digest).cloned(), content.ranges)
    };
    let Some(mut blob) = blob else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let consume = |left: usize, next: Fault| {
        let mut content = content.lock().unwrap();
        if left <= 1 {
            content.faults.remove(name);
        } else {
            content.faults.insert(name.to_owned(), next);
        }
    };
    let offset: usize = seen
        .range
        .as_deref()
        .filter(|_| ranges)
        .and_then(|range| {
            range
                .strip_prefix("bytes=")?
                .strip_suffix('-')?
                .parse()
                .ok()
        })
        .unwrap_or(0);
    match fault {
        Some(Fault::FlipByte) => *blob.last_mut().unwrap() ^= 1,
        Some(Fault::Short) => blob.truncate(blob.len() / 2),
        Some(Fault::Long) => blob.push(0),
        Some(Fault::LongChunked) => {
            blob.push(0);
            let pieces = stream::iter([Ok::<_, std::io::Error>(Bytes::from(blob))]);
            return Body::from_stream(pieces).into_response();
        }
        Some(Fault::Break(left)) => {
            consume(left, Fault::Break(left - 1));
            let total = blob.len();
            let half = Bytes::copy_from_slice(&blob[offset..offset + (total - offset) / 2]);
            // The first half must be on its way before the connection goes.
            let broken = stream::once(async {
                tokio::time::sleep(Duration::from_millis(50)).await;
                Err(std::io::Error::other("broken"))
            });
            let pieces = stream::iter([Ok(half)]).chain(broken);
            return partial(offset, total, Body::from_stream(pieces));
        }
        Some(Fault::Stall) => {
            let half = Bytes::copy_from_slice(&blob[..blob.len() / 2]);
            let pieces = stream::iter([Ok::<_, std::io::Error>(half)]).chain(stream::pending());
            return partial(0, blob.len(), Body::from_stream(pieces));
        }
        Some(Fault::Status(status, left, after)) => {
            consume(left, Fault::Status(status, left - 1, after));
            let mut headers = HeaderMap::new();
            if let Some(after) = after {
                headers.insert(header::RETRY_AFTER, HeaderValue::from(after));
            }
            return (StatusCode::from_u16(status).unwrap(), headers).into_response();
        }
        Some(Fault::Redirect(to)) => {
            return (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, to)]).into_response();
        }
        None => {}
    }
    let total = blob.len();
    partial(offset, total, Body::from(blob.split_off(offset.min(total))))
}

fn partial(offset: usize, total: usize, body: Body) -> Response {
    let length = (header::CONTENT_LENGTH, (total - offset).to_string());
    if offset == 0 {
        return ([length], body).into_response();
    }
    let range = (
        header::CONTENT_RANGE,
        format!("bytes {offset}-{}/{total}", total - 1),
    );
    (StatusCode::PARTIAL_CONTENT, [length, range], body).into_response()
}

/// Collects the events of a pull.
#[derive(Default)]
pub struct Events(Mutex<Vec<PullEvent>>);

impl Events {
    pub fn all(&self) -> Vec<PullEvent> {
        self.0.lock().unwrap().clone()
    }
}

impl PullObserver for Events {
    fn event(&self, event: PullEvent) {
        self.0.lock().unwrap().push(event);
    }
}

pub fn ocicrypt_testdata(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../ocicrypt/testdata")
        .join(path)
}

pub fn layout(name: &str) -> PathBuf {
    ocicrypt_testdata("layouts").join(name)
}

pub fn broker_keys() -> StaticKeys {
    let key = std::fs::read(ocicrypt_testdata("keys/kek1.bin")).unwrap();
    StaticKeys::none().with("kbs:///default/key/vector1", Zeroizing::new(key))
}

/// Options that fail fast.
pub fn options(registry: &TestRegistry) -> PullOptions {
    PullOptions {
        registries: RegistryOptions {
            insecure: vec![registry.host()],
            ..RegistryOptions::default()
        },
        retry: RetryOptions {
            deadline: Duration::from_secs(20),
            attempts: 4,
            first_pause: Duration::from_millis(5),
            connect_timeout: Duration::from_secs(2),
            stall_timeout: Duration::from_millis(300),
        },
        ..PullOptions::default()
    }
}

/// A registry, a store, and what a test needs around them.
pub struct Setup {
    pub registry: TestRegistry,
    pub store: ImageStore,
    pub directory: tempfile::TempDir,
    pub events: Events,
}

impl Setup {
    pub async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self {
            registry: TestRegistry::start().await,
            store: ImageStore::open(directory.path().join("store")).unwrap(),
            directory,
            events: Events::default(),
        }
    }

    pub async fn pull(&self, reference: &str) -> Result<PulledImage, ImageError> {
        self.pull_with(reference, &options(&self.registry)).await
    }

    pub async fn pull_with(
        &self,
        reference: &str,
        options: &PullOptions,
    ) -> Result<PulledImage, ImageError> {
        self.store
            .pull(reference, options, &broker_keys(), &self.events)
            .await
    }

    /// Pulls what must be refused, and checks that nothing remains.
    pub async fn refused(&self, reference: &str) -> ImageError {
        self.refused_with(reference, &options(&self.registry)).await
    }

    pub async fn refused_with(&self, reference: &str, options: &PullOptions) -> ImageError {
        let error = self.pull_with(reference, options).await.unwrap_err();
        self.assert_empty();
        error
    }

    pub fn assert_empty(&self) {
        for part in ["layers", "staging"] {
            let path = self.directory.path().join("store").join(part);
            let left = std::fs::read_dir(path).map_or(0, Iterator::count);
            assert_eq!(left, 0, "{part} is not empty");
        }
    }
}

/// The innermost error of a failed layer.
pub fn cause(error: &ImageError) -> &ImageError {
    match error {
        ImageError::Layer { source, .. } => source,
        other => other,
    }
}

pub fn one_line(error: &ImageError) -> String {
    redoubt_errors::OneLine(error).to_string()
}
