use std::sync::Arc;
use std::time::Duration;

use crate::KbsObserver;

/// How to reach a key broker and what to tell it.
#[derive(Clone)]
pub struct KbsClientConfig {
    /// The broker's address, for instance `https://10.0.0.5:8080`.
    pub url: String,
    /// The broker's own certificate, or the certificate of its issuer, in PEM;
    /// without it the public roots of the web decide. Only `https` uses it.
    pub pinned_cert_pem: Option<String>,
    /// The measured init-data document (TOML text, byte for byte).
    pub initdata: Option<String>,
    /// How long one [`get_resource`](crate::KbsClient::get_resource) may take, retries included.
    pub deadline: Duration,
    /// Who hears of the handshake's progress.
    pub observer: Option<Arc<dyn KbsObserver>>,
}

impl KbsClientConfig {
    /// Time that one resource may take unless said otherwise.
    pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(20);

    /// Asks the broker at this address, without a pinned certificate, init-data or observer.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            pinned_cert_pem: None,
            initdata: None,
            deadline: Self::DEFAULT_DEADLINE,
            observer: None,
        }
    }
}

impl std::fmt::Debug for KbsClientConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KbsClientConfig")
            .field("url", &self.url)
            .field("pinned", &self.pinned_cert_pem.is_some())
            .field("initdata", &self.initdata.is_some())
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}
