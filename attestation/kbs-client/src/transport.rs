use std::error::Error as StdError;
use std::time::Duration;

use redoubt_kbs_protocol::{BASE_PATH, SessionCookie};
use reqwest::header::{COOKIE, HeaderMap, SET_COOKIE};
use reqwest::{RequestBuilder, StatusCode, Url};
use zeroize::Zeroizing;

use crate::deadline::Deadline;
use crate::tls::tls_config;
use crate::{KbsClientConfig, KbsClientError};

/// Longest that one connection attempt may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// HTTP towards one broker.
#[derive(Debug)]
pub(crate) struct Transport {
    http: reqwest::Client,
    url: String,
    base: String,
}

/// An answer, read whole.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) cookie: Option<SessionCookie>,
    pub(crate) body: Zeroizing<Vec<u8>>,
}

impl Transport {
    pub(crate) fn new(config: &KbsClientConfig) -> Result<Self, KbsClientError> {
        let base = base_url(&config.url)?;
        let pinned = config
            .pinned_cert_pem
            .as_deref()
            .filter(|pem| !pem.trim().is_empty());
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls_config(pinned)?)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .user_agent(concat!("redoubt-kbs-client/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(KbsClientError::Setup)?;
        Ok(Self {
            http,
            url: config.url.clone(),
            base,
        })
    }

    /// The broker's address as it was configured, for messages.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn post(&self, path: &str) -> RequestBuilder {
        self.http.post(format!("{}{path}", self.base))
    }

    pub(crate) fn get(&self, path: &str) -> RequestBuilder {
        self.http.get(format!("{}{path}", self.base))
    }

    /// Sends a request and reads at most `limit_bytes` of the answer.
    pub(crate) async fn send(
        &self,
        request: RequestBuilder,
        limit_bytes: usize,
        deadline: &Deadline,
        doing: &'static str,
    ) -> Result<Answer, KbsClientError> {
        let exchange = async {
            let response = request.send().await.map_err(|error| self.failure(error))?;
            let status = response.status();
            let cookie = session_cookie(response.headers());
            let body = self.read(response, limit_bytes).await?;
            Ok(Answer {
                status,
                cookie,
                body,
            })
        };
        match tokio::time::timeout(deadline.remaining(), exchange).await {
            Ok(outcome) => outcome,
            Err(_) => Err(self.given_up(deadline, doing)),
        }
    }

    /// The error when the deadline passed.
    pub(crate) fn given_up(&self, deadline: &Deadline, doing: &'static str) -> KbsClientError {
        KbsClientError::Deadline {
            url: self.url.clone(),
            deadline_ms: deadline.whole_ms(),
            doing,
        }
    }

    async fn read(
        &self,
        mut response: reqwest::Response,
        limit_bytes: usize,
    ) -> Result<Zeroizing<Vec<u8>>, KbsClientError> {
        let too_large = || KbsClientError::AnswerTooLarge {
            url: self.url.clone(),
            limit_bytes,
        };
        let announced = response.content_length().unwrap_or(0);
        if usize::try_from(announced).map_or(true, |length| length > limit_bytes) {
            return Err(too_large());
        }
        let mut body = Zeroizing::new(Vec::new());
        while let Some(chunk) = response
            .chunk()
            .await
            .map_err(|error| self.failure(error))?
        {
            if chunk.len() > limit_bytes - body.len() {
                return Err(too_large());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// Tells a broker with a wrong identity, which is final, from one out of reach.
    fn failure(&self, error: reqwest::Error) -> KbsClientError {
        match tls_cause(&error) {
            Some(source) => KbsClientError::Tls {
                url: self.url.clone(),
                source,
            },
            None => KbsClientError::Unreachable {
                url: self.url.clone(),
                tries: 1,
                source: error.without_url(),
            },
        }
    }
}

/// Finds a TLS refusal below an HTTP error. A connection that broke in the
/// middle of TLS is no refusal.
fn tls_cause(error: &reqwest::Error) -> Option<rustls::Error> {
    let mut cause: Option<&(dyn StdError + 'static)> = error.source();
    while let Some(current) = cause {
        if let Some(tls) = current.downcast_ref::<rustls::Error>() {
            return Some(tls.clone());
        }
        // `source` of an I/O error passes over what the error wraps.
        let wrapped = current
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref);
        cause = match wrapped {
            Some(inner) => Some(inner),
            None => current.source(),
        };
    }
    None
}

fn session_cookie(headers: &HeaderMap) -> Option<SessionCookie> {
    headers
        .get_all(SET_COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .find_map(SessionCookie::from_set_cookie)
}

/// Adds the session's cookie to a request.
pub(crate) fn with_cookie(
    request: RequestBuilder,
    cookie: Option<&SessionCookie>,
) -> RequestBuilder {
    match cookie {
        Some(cookie) => request.header(COOKIE, cookie.to_header()),
        None => request,
    }
}

/// Checks the configured address and appends the protocol's base path.
fn base_url(text: &str) -> Result<String, KbsClientError> {
    let refuse = |reason| KbsClientError::InvalidUrl {
        url: text.chars().take(200).collect(),
        reason,
    };
    let url = Url::parse(text.trim()).map_err(|_| refuse("it is not a URL"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(refuse("it does not begin with https:// or http://"));
    }
    if !url.has_host() {
        return Err(refuse("it names no host"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refuse("it holds a user name or password"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(refuse("it has a query or fragment"));
    }
    let text = url.as_str().trim_end_matches('/');
    let text = text.strip_suffix(BASE_PATH).unwrap_or(text);
    Ok(format!("{text}{BASE_PATH}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_get_the_base_path_once() {
        for url in [
            "https://b:8080",
            "https://b:8080/",
            "https://b:8080/kbs/v0/",
        ] {
            assert_eq!(base_url(url).unwrap(), "https://b:8080/kbs/v0");
        }
        assert_eq!(
            base_url("http://[::1]:80/p").unwrap(),
            "http://[::1]/p/kbs/v0"
        );
    }

    #[test]
    fn unusable_addresses_are_refused() {
        for url in [
            "",
            "broker:8080",
            "ftp://b",
            "https://",
            "https://u:p@b",
            "https://b?x=1",
            "https://b#f",
            "unix:///run/kbs.sock",
        ] {
            assert!(
                matches!(base_url(url), Err(KbsClientError::InvalidUrl { .. })),
                "{url:?}"
            );
        }
    }
}
