//! Where layer keys come from.

use std::collections::HashMap;
use std::error::Error;
use std::fmt;

use async_trait::async_trait;
use redoubt_errors::{ErrorCode, UserError};
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use crate::errors::ImageError;

/// Gives the 32-byte key for a key id such as `kbs:///repo/type/tag`.
#[async_trait]
pub trait KeySource: Send + Sync {
    /// Fetches one key. Called once per key id and pull.
    async fn key(&self, kid: &str) -> Result<Zeroizing<Vec<u8>>, KeySourceError>;
}

/// A key could not be had; carries the broker's own error with its code.
#[derive(Debug)]
pub struct KeySourceError {
    kid: String,
    cause: Box<dyn UserError>,
}

impl KeySourceError {
    /// Wraps the reason why the key with this id is not available.
    pub fn new(kid: &str, cause: impl UserError) -> Self {
        Self {
            kid: kid.to_owned(),
            cause: Box::new(cause),
        }
    }

    /// The key id that was asked for.
    pub fn kid(&self) -> &str {
        &self.kid
    }
}

impl fmt::Display for KeySourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot get key {}", self.kid)
    }
}

impl Error for KeySourceError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.cause)
    }
}

impl UserError for KeySourceError {
    fn code(&self) -> ErrorCode {
        self.cause.code()
    }

    fn hint(&self) -> Option<String> {
        self.cause.hint()
    }
}

/// Keys that are at hand, by key id.
#[derive(Default)]
pub struct StaticKeys(HashMap<String, Zeroizing<Vec<u8>>>);

impl StaticKeys {
    /// No keys: for images that are not encrypted.
    pub fn none() -> Self {
        Self::default()
    }

    /// Adds a key.
    #[must_use]
    pub fn with(mut self, kid: impl Into<String>, key: Zeroizing<Vec<u8>>) -> Self {
        self.0.insert(kid.into(), key);
        self
    }
}

impl fmt::Debug for StaticKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[async_trait]
impl KeySource for StaticKeys {
    async fn key(&self, kid: &str) -> Result<Zeroizing<Vec<u8>>, KeySourceError> {
        self.0.get(kid).cloned().ok_or_else(|| {
            KeySourceError::new(
                kid,
                ImageError::KeyUnknown {
                    kid: kid.to_owned(),
                },
            )
        })
    }
}

/// The keys of one pull: each id is fetched once, all are wiped at the end.
pub(crate) struct KeyCache<'a> {
    source: &'a dyn KeySource,
    known: Mutex<HashMap<String, Zeroizing<Vec<u8>>>>,
}

impl<'a> KeyCache<'a> {
    pub(crate) fn new(source: &'a dyn KeySource) -> Self {
        Self {
            source,
            known: Mutex::default(),
        }
    }

    pub(crate) async fn key(&self, kid: &str) -> Result<Zeroizing<Vec<u8>>, ImageError> {
        // The lock is held across the fetch on purpose: layers that share a
        // key wait for the one request instead of sending their own.
        let mut known = self.known.lock().await;
        if let Some(key) = known.get(kid) {
            return Ok(key.clone());
        }
        let key = self.source.key(kid).await?;
        known.insert(kid.to_owned(), key.clone());
        Ok(key)
    }
}
