//! The protocol's requests, each to be sent as a case wants it.

use std::sync::Arc;
use std::time::Duration;

use redoubt_kbs_protocol::{
    AttestRequest, AttestResponse, AuthRequest, BASE_PATH, Challenge, ErrorBody, JweResponse,
    MAX_RESPONSE_BYTES, SESSION_COOKIE, SessionCookie, Tee,
};
use reqwest::header::{AUTHORIZATION, COOKIE, SET_COOKIE};
use reqwest::{Client, RequestBuilder, StatusCode};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use crate::case::{Observed, Step};
use crate::error::HarnessError;

/// How long one request may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Speaks to one broker.
#[derive(Clone, Debug)]
pub struct BrokerClient {
    http: Client,
    url: String,
}

/// What a broker said.
pub(crate) enum Answer<T> {
    /// What was asked for.
    Given(T),
    /// A refusal, or something else.
    Not(Observed),
}

/// A challenge and the session that it is for.
pub(crate) struct Session {
    pub(crate) challenge: Challenge,
    pub(crate) cookie: Option<SessionCookie>,
}

struct Raw {
    status: StatusCode,
    cookie: Option<SessionCookie>,
    body: Vec<u8>,
}

impl BrokerClient {
    /// A client for the broker at this address. Its certificate must come from
    /// one of the web's authorities or be among those given in PEM.
    pub fn new(url: &str, certificates: Option<&[u8]>) -> Result<Self, HarnessError> {
        let unusable = |reason: String| HarnessError::Tls { reason };
        let mut roots = RootCertStore {
            roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
        };
        for certificate in CertificateDer::pem_slice_iter(certificates.unwrap_or_default()) {
            let certificate = certificate.map_err(|error| unusable(error.to_string()))?;
            roots
                .add(certificate)
                .map_err(|error| unusable(error.to_string()))?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let http = Client::builder()
            .tls_backend_preconfigured(tls)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .timeout(TIMEOUT)
            .build()
            .map_err(|source| HarnessError::Http {
                url: url.to_owned(),
                source,
            })?;
        Ok(Self {
            http,
            url: url.trim_end_matches('/').to_owned(),
        })
    }

    /// `POST /auth`.
    pub(crate) async fn auth(&self, tee: Tee) -> Result<Answer<Session>, HarnessError> {
        let request = self.post("/auth").json(&AuthRequest::new(tee));
        let raw = self.send(request).await?;
        if raw.status != StatusCode::OK {
            return Ok(Answer::Not(refusal(Step::Evidence, &raw)));
        }
        let cookie = raw.cookie;
        Ok(match Challenge::parse(&raw.body) {
            Ok(challenge) => Answer::Given(Session { challenge, cookie }),
            Err(error) => Answer::Not(Observed::Broken(error.to_string())),
        })
    }

    /// `POST /attest`; the token.
    pub(crate) async fn attest(
        &self,
        cookie: Option<&SessionCookie>,
        request: &AttestRequest,
    ) -> Result<Answer<String>, HarnessError> {
        let request = with_cookie(self.post("/attest"), cookie).json(request);
        let raw = self.send(request).await?;
        if raw.status != StatusCode::OK {
            return Ok(Answer::Not(refusal(Step::Evidence, &raw)));
        }
        Ok(match AttestResponse::parse(&raw.body) {
            Ok(response) => Answer::Given(response.token),
            Err(error) => Answer::Not(Observed::Broken(error.to_string())),
        })
    }

    /// `GET /resource/...` with a token; the encrypted resource.
    pub(crate) async fn resource(
        &self,
        token: Option<&str>,
        path: &str,
    ) -> Result<Answer<JweResponse>, HarnessError> {
        let url = format!("{}{BASE_PATH}/resource/{path}", self.url);
        let mut request = self.http.get(url);
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let raw = self.send(request).await?;
        if raw.status != StatusCode::OK {
            return Ok(Answer::Not(refusal(Step::Resource, &raw)));
        }
        Ok(match JweResponse::parse(&raw.body) {
            Ok(response) => Answer::Given(response),
            Err(error) => Answer::Not(Observed::Broken(error.to_string())),
        })
    }

    fn post(&self, path: &str) -> RequestBuilder {
        self.http.post(format!("{}{BASE_PATH}{path}", self.url))
    }

    async fn send(&self, request: RequestBuilder) -> Result<Raw, HarnessError> {
        let failed = |source: reqwest::Error| HarnessError::Http {
            url: self.url.clone(),
            source: source.without_url(),
        };
        let mut response = request.send().await.map_err(failed)?;
        let status = response.status();
        let cookie = response
            .headers()
            .get_all(SET_COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .find_map(SessionCookie::from_set_cookie);
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if chunk.len() > MAX_RESPONSE_BYTES - body.len() {
                return Err(HarnessError::AnswerTooLarge {
                    url: self.url.clone(),
                    limit: MAX_RESPONSE_BYTES,
                });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Raw {
            status,
            cookie,
            body,
        })
    }
}

fn with_cookie(request: RequestBuilder, cookie: Option<&SessionCookie>) -> RequestBuilder {
    match cookie {
        Some(cookie) => request.header(COOKIE, format!("{SESSION_COOKIE}={}", cookie.value())),
        None => request,
    }
}

/// A refusal, if it is one: a server's failure is none.
fn refusal(step: Step, raw: &Raw) -> Observed {
    let body = ErrorBody::parse(&raw.body);
    let kind = body
        .as_ref()
        .map_or_else(String::new, |body| body.kind().name().to_owned());
    let detail = body.map_or_else(String::new, |body| body.short_detail());
    let words = format!("{} {kind} {detail}", raw.status.as_u16());
    if !raw.status.is_client_error() {
        return Observed::Broken(words);
    }
    // Brokers of another make have no such code.
    let code = detail.split_whitespace().next().unwrap_or_default();
    let codes = if code.starts_with("RDT-") {
        vec![code.to_owned()]
    } else {
        Vec::new()
    };
    Observed::Refused {
        step,
        codes,
        detail: words,
    }
}
