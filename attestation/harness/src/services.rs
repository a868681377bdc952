//! A server that answers as AMD's key distribution service and Intel's
//! provisioning certification service do, about simulated platforms.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use redoubt_evidence::Product;
use redoubt_verifier::{CollateralId, CollateralItem};
use tokio::task::JoinHandle;

use crate::error::HarnessError;
use crate::site::Site;
use crate::snp::Draft;
use crate::tdx::documents_of;

/// How a service is disposed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mood {
    /// It answers.
    #[default]
    Willing,
    /// It answers every second request, and others with 429 and the seconds to wait.
    Busy {
        /// What `Retry-After` says.
        retry_after_s: u32,
    },
    /// It answers every second request, and others with 503 and no word about when.
    Failing,
}

/// What a service holds: by path and beginning of the query.
#[derive(Debug, Default)]
struct Shelf {
    documents: HashMap<String, Document>,
    mood: Mood,
    asked: AtomicU32,
    log: Mutex<Vec<String>>,
}

#[derive(Clone, Debug)]
struct Document {
    body: Vec<u8>,
    /// The header that carries the issuer's chain, and the chain.
    chain: Option<(&'static str, String)>,
}

/// Both services on one loopback address.
#[derive(Debug)]
pub struct LocalServices {
    address: SocketAddr,
    shelf: Arc<Shelf>,
    task: JoinHandle<()>,
}

impl LocalServices {
    /// Serves the documents of a site's platforms, on a port of its own with
    /// port 0.
    pub fn start(site: &Site, listen: SocketAddr, mood: Mood) -> Result<Self, HarnessError> {
        let failed = |source| HarnessError::File {
            path: listen.to_string().into(),
            action: "listened on",
            source,
        };
        let listener = TcpListener::bind(listen).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let shelf = Arc::new(Shelf {
            documents: documents(site)?,
            mood,
            ..Shelf::default()
        });
        let router = Router::new()
            .fallback(answer)
            .with_state(Arc::clone(&shelf));
        let server = axum_server::from_tcp(listener).map_err(failed)?;
        let task = tokio::spawn(async move {
            // It ends with its task.
            let _ = server.serve(router.into_make_service()).await;
        });
        Ok(Self {
            address,
            shelf,
            task,
        })
    }

    /// The address of both services.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The paths that were asked for, in order.
    pub fn asked(&self) -> Vec<String> {
        self.shelf
            .log
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Drop for LocalServices {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Both services' documents, by path.
fn documents(site: &Site) -> Result<HashMap<String, Document>, HarnessError> {
    let mut documents = HashMap::new();
    let mut put = |path: String, body: Vec<u8>, chain| {
        documents.insert(path, Document { body, chain });
    };
    let draft = Draft::genoa(site.launch_digest, site.host_data, [0; 64]);
    let [vcek, chain, list] = site.snp.documents(&draft)?;
    put(vcek_path(&draft), vcek, None);
    put(
        format!("/vcek/v1/{}/cert_chain", Product::Genoa),
        chain,
        None,
    );
    put(format!("/vcek/v1/{}/crl", Product::Genoa), list, None);
    for item in documents_of(&site.tdx)? {
        let (path, header) = intel_path(&item);
        let chain = header.zip(item.issuer_chain);
        put(path, item.body, chain);
    }
    Ok(documents)
}

/// The chip in the path, its firmware in the query.
fn vcek_path(draft: &Draft) -> String {
    let tcb = draft.profile.tcb;
    format!(
        "/vcek/v1/{}/{}?blSPL={:02}&teeSPL={:02}&snpSPL={:02}&ucodeSPL={:02}",
        Product::Genoa,
        hex::encode(draft.raw.chip_id),
        tcb.bootloader,
        tcb.tee,
        tcb.snp,
        tcb.microcode
    )
}

fn intel_path(item: &CollateralItem) -> (String, Option<&'static str>) {
    match item.id {
        CollateralId::TcbInfo(fmspc) => (
            format!("/tdx/certification/v4/tcb?fmspc={fmspc}"),
            Some("TCB-Info-Issuer-Chain"),
        ),
        CollateralId::PckCrl(authority) => (
            format!("/sgx/certification/v4/pckcrl?ca={}", authority.name()),
            Some("SGX-PCK-CRL-Issuer-Chain"),
        ),
        CollateralId::RootCaCrl => ("/IntelSGXRootCA.der".to_owned(), None),
        _ => (
            "/tdx/certification/v4/qe/identity".to_owned(),
            Some("SGX-Enclave-Identity-Issuer-Chain"),
        ),
    }
}

async fn answer(State(shelf): State<Arc<Shelf>>, request: Request) -> Response {
    let path = request
        .uri()
        .path_and_query()
        .map_or_else(String::new, ToString::to_string);
    shelf
        .log
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(path.clone());
    let number = shelf.asked.fetch_add(1, Ordering::Relaxed);
    match shelf.mood {
        Mood::Busy { retry_after_s } if number % 2 == 0 => {
            let after = [(RETRY_AFTER, retry_after_s.to_string())];
            return (StatusCode::TOO_MANY_REQUESTS, after).into_response();
        }
        Mood::Failing if number % 2 == 0 => return StatusCode::SERVICE_UNAVAILABLE.into_response(),
        _ => {}
    }
    match shelf.find(&path) {
        Some(document) => (headers(document), document.body.clone()).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

impl Shelf {
    /// What stands behind further parameters of the query does not count.
    fn find(&self, path: &str) -> Option<&Document> {
        if let Some(document) = self.documents.get(path) {
            return Some(document);
        }
        let shorter = path.rsplit_once(['&', '?'])?.0;
        self.find(shorter)
    }
}

fn headers(document: &Document) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let kind = HeaderValue::from_static("application/octet-stream");
    headers.insert(CONTENT_TYPE, kind);
    if let Some((name, chain)) = &document.chain
        && let (Ok(name), Ok(value)) = (
            HeaderName::try_from(*name),
            HeaderValue::try_from(percent_encoded(chain)),
        )
    {
        headers.insert(name, value);
    }
    headers
}

fn percent_encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push_str(&hex::encode_upper([byte]));
        }
    }
    out
}
