//! Remembers certificate signatures that were found good.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use ring::digest::{Context, SHA256};

use crate::cert::Cert;
use crate::error::VerifierError;

const HASH_BYTES: usize = 32;

/// Pairs of certificates of which the second has signed the first.
///
/// The signatures of a chain cost more than that of a report, and each chip shows
/// the same chain again and again. Only good signatures are remembered, under a
/// hash of both certificates; validity and revocation are looked at each time.
pub struct ChainCache {
    known: Mutex<HashSet<[u8; HASH_BYTES]>>,
    capacity: usize,
}

impl ChainCache {
    /// A cache of at most so many pairs (two for each chip). A full one starts anew.
    pub fn new(capacity: usize) -> Self {
        Self {
            known: Mutex::new(HashSet::new()),
            capacity,
        }
    }

    /// The same outcome as [`Cert::verify_issued_by`].
    pub(crate) fn verify(&self, subject: &Cert, issuer: &Cert) -> Result<(), VerifierError> {
        let pair = pair_hash(subject.der(), issuer.der());
        if self.lock().contains(&pair) {
            return Ok(());
        }
        subject.verify_issued_by(issuer)?;
        let mut known = self.lock();
        if known.len() >= self.capacity {
            known.clear();
        }
        known.insert(pair);
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashSet<[u8; HASH_BYTES]>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for ChainCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChainCache")
            .field("pairs", &self.lock().len())
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}

fn pair_hash(subject: &[u8], issuer: &[u8]) -> [u8; HASH_BYTES] {
    let mut context = Context::new(&SHA256);
    context.update(&(subject.len() as u64).to_be_bytes());
    context.update(subject);
    context.update(issuer);
    let mut hash = [0; HASH_BYTES];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}
