//! One registry and repository: requests, authentication, documents.

use std::time::Duration;

use reqwest::header::{ACCEPT, WWW_AUTHENTICATE};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, Proxy, RequestBuilder, Response, StatusCode, Url};
use tokio::sync::Mutex;

use crate::credentials;
use crate::digest::Digest;
use crate::errors::ImageError;
use crate::events::{PullEvent, PullObserver};
use crate::image::{MANIFEST_TYPES, MAX_MANIFEST_BYTES};
use crate::interrupt::Interrupt;
use crate::options::{RegistryOptions, RetryOptions};

use super::auth::{Authorization, Challenge, TokenAnswer};
use super::retry::{Failure, pause};
use super::tls;

const MAX_REDIRECTS: usize = 5;
const MAX_TOKEN_BYTES: u64 = 256 << 10;

/// A repository in a registry, during one pull or push.
pub(crate) struct Registry<'a> {
    http: Client,
    base: Url,
    host: String,
    repository: String,
    access: Access,
    options: &'a RegistryOptions,
    retry: RetryOptions,
    authorization: Mutex<Authorization>,
    pub(super) interrupt: Interrupt,
    observer: &'a dyn PullObserver,
}

/// What a token is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Pull,
    #[cfg_attr(
        not(feature = "host"),
        expect(dead_code, reason = "the guest never pushes")
    )]
    Push,
}

/// A kind of document under a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DocumentKind {
    Manifest,
    Config,
    /// What a signature was made over.
    Signature,
}

/// A request's answer, or the challenge that must be met first.
enum Sent {
    Answer(Response),
    Challenged,
}

impl<'a> Registry<'a> {
    pub(crate) fn new(
        registry: &str,
        repository: &str,
        access: Access,
        options: &'a RegistryOptions,
        retry: RetryOptions,
        interrupt: Interrupt,
        observer: &'a dyn PullObserver,
    ) -> Result<Self, ImageError> {
        let insecure = options.insecure.iter().any(|known| known == registry);
        let scheme = if insecure { "http" } else { "https" };
        let base =
            Url::parse(&format!("{scheme}://{registry}/v2/{repository}/")).map_err(|_| {
                ImageError::ReferenceInvalid {
                    reference: format!("{registry}/{repository}"),
                    reason: "the registry is not an address".to_owned(),
                }
            })?;
        Ok(Self {
            http: http_client(registry, options, &retry)?,
            base,
            host: registry.to_owned(),
            repository: repository.to_owned(),
            access,
            options,
            retry,
            authorization: Mutex::default(),
            interrupt,
            observer,
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.host
    }

    /// An address under the repository.
    pub(crate) fn url(&self, path: &str) -> Result<Url, ImageError> {
        self.base
            .join(path)
            .map_err(|_| ImageError::ReferenceInvalid {
                reference: format!("{}/{}", self.host, self.repository),
                reason: "it does not make an address".to_owned(),
            })
    }

    /// Starts a request.
    pub(crate) fn request(&self, method: Method, url: Url) -> RequestBuilder {
        self.http.request(method, url)
    }

    /// Fetches a document of bounded size and checks its digest.
    pub(crate) async fn document(
        &self,
        kind: DocumentKind,
        digest: Digest,
        limit_bytes: u64,
    ) -> Result<Vec<u8>, ImageError> {
        let (what, folder) = match kind {
            DocumentKind::Manifest => (format!("manifest {digest}"), "manifests"),
            DocumentKind::Config => (format!("configuration {digest}"), "blobs"),
            DocumentKind::Signature => (format!("signed document {digest}"), "blobs"),
        };
        let url = self.url(&format!("{folder}/{digest}"))?;
        let mut attempt = 1;
        let bytes = loop {
            match self
                .try_document(kind, &what, url.clone(), limit_bytes)
                .await
            {
                Ok(bytes) => break bytes,
                Err(failure) => self.pause_or_fail(&what, attempt, failure).await?,
            }
            attempt += 1;
        };
        let actual = Digest::of(&bytes);
        if actual != digest {
            return Err(ImageError::DigestMismatch {
                what,
                expected: digest,
                actual,
            });
        }
        Ok(bytes)
    }

    /// Fetches the manifest under a tag; `None` when there is none. Nothing
    /// vouches for it but what is signed in it.
    pub(crate) async fn tagged_manifest(&self, tag: &str) -> Result<Option<Vec<u8>>, ImageError> {
        let what = format!("tag {tag}");
        let url = self.url(&format!("manifests/{tag}"))?;
        let mut attempt = 1;
        loop {
            let kind = DocumentKind::Manifest;
            match self
                .try_document(kind, &what, url.clone(), MAX_MANIFEST_BYTES)
                .await
            {
                Ok(bytes) => return Ok(Some(bytes)),
                Err(Failure::Final(ImageError::RegistryStatus { status: 404, .. })) => {
                    return Ok(None);
                }
                Err(failure) => self.pause_or_fail(&what, attempt, failure).await?,
            }
            attempt += 1;
        }
    }

    /// The digest that a tag stands for now.
    pub(crate) async fn resolve_tag(&self, tag: &str) -> Result<Digest, ImageError> {
        let manifest = self.tagged_manifest(tag).await?;
        let manifest = manifest.ok_or_else(|| ImageError::RegistryStatus {
            registry: self.host.clone(),
            status: StatusCode::NOT_FOUND.as_u16(),
            what: format!("tag {tag}"),
        })?;
        Ok(Digest::of(&manifest))
    }

    async fn try_document(
        &self,
        kind: DocumentKind,
        what: &str,
        url: Url,
        limit_bytes: u64,
    ) -> Result<Vec<u8>, Failure> {
        let request = || {
            let request = self.request(Method::GET, url.clone());
            match kind {
                DocumentKind::Manifest => request.header(ACCEPT, MANIFEST_TYPES.join(", ")),
                DocumentKind::Config | DocumentKind::Signature => request,
            }
        };
        let response = self.send_authorized(request).await?;
        if response.status() != StatusCode::OK {
            return Err(Failure::from_status(&self.host, what, &response));
        }
        self.bounded_body(what, response, limit_bytes).await
    }

    async fn bounded_body(
        &self,
        what: &str,
        mut response: Response,
        limit_bytes: u64,
    ) -> Result<Vec<u8>, Failure> {
        let too_large = || {
            Failure::Final(ImageError::DocumentTooLarge {
                what: what.to_owned(),
                limit_bytes,
            })
        };
        if response
            .content_length()
            .is_some_and(|length| length > limit_bytes)
        {
            return Err(too_large());
        }
        let mut body = Vec::new();
        while let Some(chunk) = self.next_chunk(&mut response).await? {
            if body.len() as u64 + chunk.len() as u64 > limit_bytes {
                return Err(too_large());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// The next piece of a body.
    pub(super) async fn next_chunk(
        &self,
        response: &mut Response,
    ) -> Result<Option<bytes::Bytes>, Failure> {
        self.interrupt
            .run(response.chunk())
            .await?
            .map_err(|error| Failure::Passing(ImageError::Transfer(error.without_url()), None))
    }

    /// Sends a request; meets a challenge once and sends it again.
    pub(crate) async fn send_authorized(
        &self,
        request: impl Fn() -> RequestBuilder,
    ) -> Result<Response, Failure> {
        match self.send(request()).await? {
            Sent::Answer(response) => Ok(response),
            Sent::Challenged => match self.send(request()).await? {
                Sent::Answer(response) => Ok(response),
                Sent::Challenged => Err(self.unauthorized().into()),
            },
        }
    }

    /// Sends a request whose body cannot be repeated; a challenge to it is a
    /// refusal.
    #[cfg(feature = "host")]
    pub(crate) async fn send_once(&self, request: RequestBuilder) -> Result<Response, Failure> {
        match self.send(request).await? {
            Sent::Answer(response) => Ok(response),
            Sent::Challenged => Err(Failure::Passing(self.unauthorized(), None)),
        }
    }

    /// Sends a request once; on a challenge, gets the authorization that the
    /// next request needs.
    async fn send(&self, request: RequestBuilder) -> Result<Sent, Failure> {
        let authorization = self.authorization.lock().await.clone();
        let request = authorization.apply(request);
        let response = self
            .interrupt
            .run(request.send())
            .await?
            .map_err(|error| Failure::from_send(&self.host, error))?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(Sent::Answer(response));
        }
        self.meet_challenge(&authorization, &response).await?;
        Ok(Sent::Challenged)
    }

    fn unauthorized(&self) -> ImageError {
        ImageError::RegistryUnauthorized {
            registry: self.host.clone(),
            what: self.repository.clone(),
        }
    }

    async fn meet_challenge(
        &self,
        used: &Authorization,
        response: &Response,
    ) -> Result<(), Failure> {
        let challenge = response
            .headers()
            .get_all(WWW_AUTHENTICATE)
            .iter()
            .find_map(|header| Challenge::parse(header.to_str().ok()?))
            .ok_or_else(|| self.challenge("no basic or bearer challenge"))?;
        let credential = credentials::best(&self.options.credentials, &self.host, &self.repository);
        let obtained = match (challenge, credential) {
            (Challenge::Basic, Some(_)) if matches!(used, Authorization::Basic { .. }) => {
                return Err(self.unauthorized().into());
            }
            (Challenge::Basic, Some(credential)) => Authorization::Basic {
                username: credential.username.clone(),
                password: credential.password.clone(),
            },
            (Challenge::Basic, None) => return Err(self.unauthorized().into()),
            (Challenge::Bearer { realm, service }, credential) => {
                let mut request = self.token_request(&realm, service.as_deref())?;
                if let Some(credential) = credential {
                    request = request
                        .basic_auth(&credential.username, Some(credential.password.as_str()));
                }
                Authorization::Bearer(self.token(request).await?)
            }
        };
        *self.authorization.lock().await = obtained;
        Ok(())
    }

    fn challenge(&self, reason: &str) -> ImageError {
        ImageError::RegistryChallenge {
            registry: self.host.clone(),
            reason: reason.to_owned(),
        }
    }

    fn token_request(
        &self,
        realm: &str,
        service: Option<&str>,
    ) -> Result<RequestBuilder, ImageError> {
        let mut url =
            Url::parse(realm).map_err(|_| self.challenge("the realm is not an address"))?;
        // Credentials may go there: never less protected than the registry.
        if url.scheme() != "https" && !is_insecure(&self.options.insecure, &url) {
            return Err(self.challenge("the realm is not HTTPS"));
        }
        let actions = match self.access {
            Access::Pull => "pull",
            Access::Push => "pull,push",
        };
        let scope = format!("repository:{}:{actions}", self.repository);
        url.query_pairs_mut().append_pair("scope", &scope);
        if let Some(service) = service {
            url.query_pairs_mut().append_pair("service", service);
        }
        Ok(self.request(Method::GET, url))
    }

    async fn token(&self, request: RequestBuilder) -> Result<zeroize::Zeroizing<String>, Failure> {
        let response = self
            .interrupt
            .run(request.send())
            .await?
            .map_err(|error| Failure::from_send(&self.host, error))?;
        if response.status() != StatusCode::OK {
            return Err(Failure::from_status(&self.host, "a token", &response));
        }
        let body = zeroize::Zeroizing::new(
            self.bounded_body("the token", response, MAX_TOKEN_BYTES)
                .await?,
        );
        serde_json::from_slice::<TokenAnswer>(&body)
            .ok()
            .and_then(TokenAnswer::into_token)
            .ok_or_else(|| self.challenge("the token service gave no token").into())
    }

    /// Waits before the next attempt, or ends with the failure.
    pub(crate) async fn pause_or_fail(
        &self,
        what: &str,
        attempt: u32,
        failure: Failure,
    ) -> Result<(), ImageError> {
        let (error, asked) = match failure {
            Failure::Final(error) => return Err(error),
            Failure::Passing(error, asked) => (error, asked),
        };
        let pause: Duration = pause(&self.retry, attempt, asked);
        // Waiting past the deadline would only hide the reason.
        if attempt >= self.retry.attempts || self.interrupt.too_late_after(pause) {
            return Err(error);
        }
        self.observer.event(PullEvent::Retrying {
            what: what.to_owned(),
            attempt,
            pause,
            reason: one_line(&error),
        });
        self.interrupt.run(tokio::time::sleep(pause)).await
    }
}

fn one_line(error: &ImageError) -> String {
    redoubt_errors::OneLine(error).to_string()
}

/// Whether plain HTTP was configured for the host of an address.
fn is_insecure(insecure: &[String], url: &Url) -> bool {
    let Some(host) = url.host_str() else {
        return false;
    };
    let with_port = url
        .port_or_known_default()
        .map(|port| format!("{host}:{port}"));
    let without_port = url.port().is_none().then(|| host.to_owned());
    insecure
        .iter()
        .any(|known| with_port.as_ref() == Some(known) || without_port.as_ref() == Some(known))
}

fn http_client(
    registry: &str,
    options: &RegistryOptions,
    retry: &RetryOptions,
) -> Result<Client, ImageError> {
    let unusable = |source: reqwest::Error| ImageError::RegistryUnreachable {
        registry: registry.to_owned(),
        source: source.without_url(),
    };
    let insecure = options.insecure.clone();
    let redirects = Policy::custom(move |attempt| {
        let allowed = attempt.url().scheme() == "https" || is_insecure(&insecure, attempt.url());
        if !allowed || attempt.previous().len() > MAX_REDIRECTS {
            return attempt.error("redirect refused");
        }
        attempt.follow()
    });
    let mut builder = Client::builder()
        .tls_backend_preconfigured(tls::client_config(&options.trust)?)
        .http1_only()
        .user_agent("redoubt")
        .referer(false)
        .redirect(redirects)
        .connect_timeout(retry.connect_timeout)
        .read_timeout(retry.stall_timeout)
        // Only what was configured counts, not the environment.
        .no_proxy();
    if let Some(proxy) = &options.https_proxy {
        builder = builder.proxy(Proxy::https(proxy).map_err(unusable)?);
    }
    builder.build().map_err(unusable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_allowed_by_exact_host_and_port_only() {
        let insecure = ["10.0.0.1:5000".to_owned(), "plain.example".to_owned()];
        for (url, allowed) in [
            ("http://10.0.0.1:5000/v2/", true),
            ("http://10.0.0.1:5001/v2/", false),
            ("http://10.0.0.1/v2/", false),
            ("http://plain.example/x", true),
            ("http://plain.example:8080/x", false),
            ("http://plain.example.evil/x", false),
        ] {
            assert_eq!(
                is_insecure(&insecure, &Url::parse(url).unwrap()),
                allowed,
                "{url}"
            );
        }
    }
}
