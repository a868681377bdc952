//! Asks a key broker as its administrator.

#![expect(
    clippy::doc_markdown,
    reason = "doc comments of options are their help"
)]

use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use clap::Args;
use redoubt_kbs_protocol::{BASE_PATH, ErrorBody};
use redoubt_kbs_server::{
    ADMIN_KEY_FILE, AdminClaims, AdminRole, AdminSigner, ServerConfig, Tenant,
};
use reqwest::{Method, StatusCode};
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::error::AdminError;
use crate::failure::Failure;
use crate::{files, runtime};

/// How long one request may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// For how long a token is valid, in seconds: each request has its own.
const TOKEN_LIFETIME_S: u64 = 60;

/// Longest answer of a broker, in bytes.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// Which broker is asked, and by whom.
#[derive(Debug, Args)]
pub(crate) struct BrokerArgs {
    /// Configuration of a broker on this machine: its address, certificate and administrator's key are used.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address of the broker, such as https://kbs.example.org:8443.
    #[arg(long)]
    url: Option<String>,
    /// Certificate that the broker must show (PEM); without it the public roots decide.
    #[arg(long, value_name = "FILE")]
    certificate: Option<PathBuf>,
    /// The administrator's private key (Ed25519, PKCS#8 in PEM).
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Whose resources, policies and reference values.
    #[arg(long, value_name = "NAME")]
    tenant: Option<Tenant>,
    /// Name of the administrator for the audit log.
    #[arg(long = "as", value_name = "NAME", default_value = "admin")]
    subject: String,
}

/// A connection to a broker.
pub(crate) struct AdminClient {
    http: reqwest::Client,
    base: String,
    signer: AdminSigner,
    subject: String,
}

impl BrokerArgs {
    /// Prepares requests; nothing is sent yet.
    pub(crate) fn client(&self) -> Result<AdminClient, Failure> {
        let config = self.config.as_deref().map(ServerConfig::load).transpose()?;
        let own = config.as_ref();
        let url = match (&self.url, own) {
            (Some(url), _) => url.clone(),
            (None, Some(config)) => address_of(config),
            (None, None) => return Err(AdminError::NoBroker.into()),
        };
        let own_certificate = own.and_then(|config| config.tls.as_ref());
        let certificate = self
            .certificate
            .as_ref()
            .or_else(|| own_certificate.map(|tls| &tls.certificate));
        let own_key = self.config.as_deref().map(beside_config);
        let key = self.key.clone().or(own_key).ok_or(AdminError::NoBroker)?;
        let pem = certificate.map(|path| files::read_text(path)).transpose()?;
        let tls = redoubt_kbs_client::tls_config(pem.as_deref())?;
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .redirect(reqwest::redirect::Policy::none())
            .timeout(TIMEOUT)
            .build()
            .map_err(AdminError::Setup)?;
        let tenant = match &self.tenant {
            Some(tenant) => format!("/tenants/{tenant}"),
            None => String::new(),
        };
        Ok(AdminClient {
            http,
            base: format!("{}{tenant}{BASE_PATH}", url.trim_end_matches('/')),
            signer: AdminSigner::load(&key)?,
            subject: self.subject.clone(),
        })
    }
}

/// Where a broker on this machine is reached.
fn address_of(config: &ServerConfig) -> String {
    let scheme = if config.tls.is_some() {
        "https"
    } else {
        "http"
    };
    let ip = match config.listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    format!("{scheme}://{}", SocketAddr::new(ip, config.listen.port()))
}

fn beside_config(config: &Path) -> PathBuf {
    config.with_file_name(ADMIN_KEY_FILE)
}

impl AdminClient {
    /// Sends a request and reads the answer.
    pub(crate) fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Result<T, Failure> {
        let url = self.base.clone();
        let bytes = runtime::runtime()?.block_on(self.send(method, path, query, body))?;
        serde_json::from_slice(&bytes).map_err(|source| AdminError::Answer { url, source }.into())
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Result<Vec<u8>, Failure> {
        let unreachable = |source: reqwest::Error| AdminError::Unreachable {
            url: self.base.clone(),
            source: source.without_url(),
        };
        let mut url = reqwest::Url::parse(&format!("{}{path}", self.base)).map_err(|error| {
            AdminError::Refused {
                url: self.base.clone(),
                status: 0,
                detail: error.to_string(),
            }
        })?;
        url.query_pairs_mut().extend_pairs(query);
        let request = self
            .http
            .request(method, url)
            .bearer_auth(self.token().as_str())
            .body(body);
        let mut response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        let mut answer = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if answer.len() + chunk.len() > MAX_ANSWER_BYTES {
                return Err(AdminError::TooLarge {
                    limit_bytes: MAX_ANSWER_BYTES,
                }
                .into());
            }
            answer.extend_from_slice(&chunk);
        }
        if status == StatusCode::OK {
            return Ok(answer);
        }
        let detail = ErrorBody::parse(&answer).map_or_else(String::new, |body| {
            redoubt_errors::flatten(&body.detail)
                .chars()
                .take(500)
                .collect()
        });
        Err(AdminError::Refused {
            url: self.base.clone(),
            status: status.as_u16(),
            detail,
        }
        .into())
    }

    fn token(&self) -> Zeroizing<String> {
        let now_s = SystemTime::UNIX_EPOCH
            .elapsed()
            .map_or(0, |since| since.as_secs());
        let claims = AdminClaims::new(
            self.subject.as_str(),
            AdminRole::Admin,
            now_s,
            TOKEN_LIFETIME_S,
        );
        self.signer.sign(&claims)
    }
}

/// Reads a file or, for `-`, standard input, of at most so many bytes. The
/// content may be a secret.
pub(crate) fn read_input(
    path: &Path,
    limit_bytes: usize,
) -> Result<Zeroizing<Vec<u8>>, AdminError> {
    let failed = |source| AdminError::Read {
        path: path.to_owned(),
        source,
    };
    // Room for all of it at once: a growing buffer would leave copies behind.
    let mut content = Zeroizing::new(Vec::with_capacity(limit_bytes + 1));
    let limit = limit_bytes as u64 + 1;
    if path == Path::new("-") {
        std::io::stdin()
            .lock()
            .take(limit)
            .read_to_end(&mut content)
            .map_err(failed)?;
    } else {
        std::fs::File::open(path)
            .and_then(|file| file.take(limit).read_to_end(&mut content))
            .map_err(failed)?;
    }
    if content.len() > limit_bytes {
        return Err(AdminError::TooLarge { limit_bytes });
    }
    Ok(content)
}
