use std::sync::Arc;

use redoubt_attester::Attester;
use redoubt_kbs_protocol::{JweResponse, ResourcePath};
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use crate::answer::Step;
use crate::deadline::{Backoff, Deadline};
use crate::handshake::{Session, attest, exchange};
use crate::transport::{Transport, with_cookie};
use crate::{Attested, KbsClientConfig, KbsClientError};

/// A client of one key broker, to be shared by everything in the guest that
/// needs resources.
pub struct KbsClient {
    config: KbsClientConfig,
    transport: Transport,
    attester: Arc<dyn Attester>,
    /// Locked during a handshake, so that tasks that come together make one.
    session: Mutex<Option<Arc<Session>>>,
}

impl KbsClient {
    /// Prepares a client; nothing is sent yet.
    pub fn new(
        config: KbsClientConfig,
        attester: Arc<dyn Attester>,
    ) -> Result<Self, KbsClientError> {
        let transport = Transport::new(&config)?;
        Ok(Self {
            config,
            transport,
            attester,
            session: Mutex::new(None),
        })
    }

    /// The broker's address.
    pub fn url(&self) -> &str {
        self.transport.url()
    }

    /// Fetches a resource, after a handshake where there is no usable token.
    pub async fn get_resource(
        &self,
        path: &ResourcePath,
    ) -> Result<Zeroizing<Vec<u8>>, KbsClientError> {
        let deadline = Deadline::after(self.config.deadline);
        let mut backoff = Backoff::new();
        let mut handshake_repeated = false;
        let mut last_failure = None;
        loop {
            let tries = backoff.count();
            let error = match self.try_once(path, &deadline).await {
                Ok(resource) => {
                    if let Some(observer) = &self.config.observer {
                        observer.on_resource(path);
                    }
                    return Ok(resource);
                }
                Err(error) => error,
            };
            match error {
                // The session may have ended at the broker: one fresh handshake can help.
                KbsClientError::SessionRefused { .. } if !handshake_repeated => {
                    handshake_repeated = true;
                    self.session.lock().await.take();
                }
                // An earlier failure says more than that time ran out.
                KbsClientError::Deadline { .. } if last_failure.is_some() => {
                    return Err(last_failure.unwrap_or(error));
                }
                error if error.is_transient() => {
                    let error = with_tries(error, tries);
                    let Some(pause) = backoff.pause(&deadline) else {
                        return Err(error);
                    };
                    tracing::warn!(
                        url = self.url(),
                        tries,
                        "key broker did not answer, trying again"
                    );
                    last_failure = Some(error);
                    tokio::time::sleep(pause).await;
                }
                error => return Err(error),
            }
        }
    }

    async fn try_once(
        &self,
        path: &ResourcePath,
        deadline: &Deadline,
    ) -> Result<Zeroizing<Vec<u8>>, KbsClientError> {
        let session = self.session(deadline).await?;
        let step = Step::Resource(path);
        let request = self
            .transport
            .get(&format!("/resource/{path}"))
            .bearer_auth(session.token.as_str());
        let request = with_cookie(request, session.cookie.as_ref());
        let answer = exchange(&self.transport, request, step, deadline).await?;
        let opened = JweResponse::parse(&answer.body).and_then(|jwe| jwe.open(&session.key));
        opened.map_err(|source| KbsClientError::Protocol {
            url: self.url().to_owned(),
            source,
        })
    }

    /// The kept session, or that of a fresh handshake.
    async fn session(&self, deadline: &Deadline) -> Result<Arc<Session>, KbsClientError> {
        let locked = tokio::time::timeout(deadline.remaining(), self.session.lock()).await;
        let mut kept = locked.map_err(|_| {
            self.transport
                .given_up(deadline, "waiting for another handshake")
        })?;
        if let Some(session) = kept.as_ref().filter(|session| session.is_usable()) {
            return Ok(Arc::clone(session));
        }
        *kept = None;
        let initdata = self.config.initdata.as_deref();
        let session = attest(&self.transport, &*self.attester, initdata, deadline).await?;
        let session = Arc::new(session);
        *kept = Some(Arc::clone(&session));
        if let Some(observer) = &self.config.observer {
            observer.on_attested(&Attested {
                url: self.url().to_owned(),
                tee: session.tee,
                token_lifetime_s: session.lifetime.as_secs(),
            });
        }
        Ok(session)
    }
}

impl std::fmt::Debug for KbsClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KbsClient")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

fn with_tries(error: KbsClientError, tries: u32) -> KbsClientError {
    match error {
        KbsClientError::Unreachable { url, source, .. } => {
            KbsClientError::Unreachable { url, tries, source }
        }
        KbsClientError::Unavailable {
            url,
            status,
            detail,
            ..
        } => KbsClientError::Unavailable {
            url,
            status,
            tries,
            detail,
        },
        other => other,
    }
}
