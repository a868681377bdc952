//! Sessions without memory: the guest carries its challenge back itself.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use redoubt_kbs_protocol::{Nonce, SessionCookie, Tee};
use ring::hmac;
use zeroize::Zeroizing;

use crate::KbsServerError;
use crate::files::{read_text, require_private, write_new};
use crate::names::Tenant;
use crate::refusal::{Refusal, Refused};
use crate::spent::{Spend, SpentChallenges};

const KEY_BYTES: usize = 32;
const MAX_KEY_FILE_BYTES: u64 = 4096;

/// Format of a sealed challenge: this byte, the TEE, the expiry, the nonce, the seal.
const FORMAT: u8 = 1;
const EXPIRY_BYTES: usize = 8;
const HEAD_BYTES: usize = 2 + EXPIRY_BYTES;
const SEAL_BYTES: usize = 32;

/// A challenge that came back with its seal whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Challenged {
    pub(crate) nonce: Nonce,
    pub(crate) tee: Tee,
    /// When it ends, in seconds since 1970.
    pub(crate) expires_s: u64,
}

/// Seals challenges with HMAC-SHA-256. Nothing in one is a secret from its
/// guest, so that it is not encrypted. Every replica with the same key takes
/// back what another one gave out.
pub(crate) struct SessionSealer {
    key: hmac::Key,
}

impl SessionSealer {
    /// Makes a key and writes it to a file that must not exist.
    pub(crate) fn create(path: &Path) -> Result<Self, KbsServerError> {
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        getrandom::fill(key.as_mut()).map_err(|_| KbsServerError::NoRandomness)?;
        let text = Zeroizing::new(hex::encode(key.as_slice()));
        write_new(path, text.as_bytes(), 0o600)?;
        Ok(Self::of(&key))
    }

    /// Reads the key, or makes it where there is none.
    pub(crate) fn load_or_create(path: &Path) -> Result<Self, KbsServerError> {
        if !path.exists() {
            return Self::create(path);
        }
        require_private(path)?;
        let text = read_text(path, MAX_KEY_FILE_BYTES)?;
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        hex::decode_to_slice(text.trim(), key.as_mut()).map_err(|_| {
            KbsServerError::SessionKey {
                path: path.to_owned(),
            }
        })?;
        Ok(Self::of(&key))
    }

    pub(crate) fn of(key: &[u8; KEY_BYTES]) -> Self {
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, key),
        }
    }

    /// Gives a challenge the form in which the guest carries it.
    pub(crate) fn seal(&self, tenant: &Tenant, challenged: &Challenged) -> Option<SessionCookie> {
        let mut sealed = vec![FORMAT, tee_number(challenged.tee)?];
        sealed.extend_from_slice(&challenged.expires_s.to_be_bytes());
        sealed.extend_from_slice(challenged.nonce.as_str().as_bytes());
        let seal = self.tag(tenant, &sealed);
        sealed.extend_from_slice(seal.as_ref());
        SessionCookie::new(&URL_SAFE_NO_PAD.encode(sealed))
    }

    /// Takes a challenge back; `None` if this or a replica never gave it out
    /// to a guest of this tenant.
    pub(crate) fn open(&self, tenant: &Tenant, cookie: &SessionCookie) -> Option<Challenged> {
        let sealed = URL_SAFE_NO_PAD.decode(cookie.value()).ok()?;
        let (body, seal) = sealed.split_at_checked(sealed.len().checked_sub(SEAL_BYTES)?)?;
        hmac::verify(&self.key, &sealed_text(tenant, body), seal).ok()?;
        let (head, nonce) = body.split_at_checked(HEAD_BYTES)?;
        let (format, expiry) = head.split_at(2);
        if format.first() != Some(&FORMAT) {
            return None;
        }
        let nonce = String::from_utf8(nonce.to_vec()).ok()?;
        Some(Challenged {
            nonce: Nonce::new(nonce).ok()?,
            tee: tee_of(*format.get(1)?)?,
            expires_s: u64::from_be_bytes(expiry.try_into().ok()?),
        })
    }

    /// Whatever bytes carry a good seal are read without harm.
    #[cfg(feature = "fuzzing")]
    pub(crate) fn open_any(&self, tenant: &Tenant, body: &[u8]) -> Option<Challenged> {
        let seal = self.tag(tenant, body);
        let sealed = [body, seal.as_ref()].concat();
        self.open(
            tenant,
            &SessionCookie::new(&URL_SAFE_NO_PAD.encode(sealed))?,
        )
    }

    fn tag(&self, tenant: &Tenant, body: &[u8]) -> hmac::Tag {
        hmac::sign(&self.key, &sealed_text(tenant, body))
    }
}

impl fmt::Debug for SessionSealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionSealer(..)")
    }
}

/// The tenant's name holds no zero byte.
fn sealed_text(tenant: &Tenant, body: &[u8]) -> Vec<u8> {
    [
        b"redoubt-kbs challenge\0",
        tenant.as_str().as_bytes(),
        b"\0",
        body,
    ]
    .concat()
}

const fn tee_number(tee: Tee) -> Option<u8> {
    match tee {
        Tee::Snp => Some(1),
        Tee::Tdx => Some(2),
        _ => None,
    }
}

const fn tee_of(number: u8) -> Option<Tee> {
    match number {
        1 => Some(Tee::Snp),
        2 => Some(Tee::Tdx),
        _ => None,
    }
}

/// Gives out challenges and takes each back once.
#[derive(Debug)]
pub(crate) struct Sessions {
    sealer: SessionSealer,
    spent: SpentChallenges,
    lifetime: Duration,
}

impl Sessions {
    pub(crate) fn new(sealer: SessionSealer, spent: SpentChallenges, lifetime: Duration) -> Self {
        Self {
            sealer,
            spent,
            lifetime,
        }
    }

    /// Makes a challenge. Nothing is kept of it.
    pub(crate) fn challenge(
        &self,
        tenant: &Tenant,
        tee: Tee,
        now_s: u64,
    ) -> Result<(SessionCookie, Nonce), Refused> {
        let nonce =
            Nonce::generate().map_err(|_| Refusal::Internal.because("no random numbers"))?;
        let challenged = Challenged {
            nonce: nonce.clone(),
            tee,
            expires_s: now_s.saturating_add(self.lifetime.as_secs()),
        };
        let cookie = self
            .sealer
            .seal(tenant, &challenged)
            .ok_or_else(|| Refusal::Internal.because("the challenge cannot be sealed"))?;
        Ok((cookie, nonce))
    }

    /// Takes a challenge back, which nobody can do again.
    pub(crate) fn take(
        &self,
        tenant: &Tenant,
        cookie: &SessionCookie,
        now_s: u64,
    ) -> Result<Challenged, Refused> {
        let challenged = self
            .sealer
            .open(tenant, cookie)
            .ok_or_else(|| Refusal::NoSession.because("the session is not of this broker"))?;
        if now_s >= challenged.expires_s {
            return Err(Refusal::NoSession.because("the challenge has ended"));
        }
        let spent = self
            .spent
            .spend(challenged.nonce.as_str(), challenged.expires_s);
        match spent {
            Ok(Spend::First) => Ok(challenged),
            Ok(Spend::Again) => {
                Err(Refusal::ChallengeUsed.because("the challenge was answered before"))
            }
            Ok(Spend::Full) => Err(Refusal::Busy.because("too many challenges were answered")),
            Err(error) => Err(Refusal::Internal.because(format!(
                "the challenge cannot be marked as answered: {error}"
            ))),
        }
    }

    /// Removes the marks of challenges that have ended.
    pub(crate) fn sweep(&self, now_s: u64) {
        if let Err(error) = self.spent.sweep(now_s) {
            tracing::warn!(%error, "marks of answered challenges cannot be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sessions(dir: &tempfile::TempDir, key: u8) -> Sessions {
        Sessions::new(
            SessionSealer::of(&[key; KEY_BYTES]),
            SpentChallenges::open(dir.path().to_owned()).unwrap(),
            Duration::from_secs(60),
        )
    }

    fn tenant(name: &str) -> Tenant {
        Tenant::parse(name).unwrap()
    }

    #[test]
    fn challenge_of_one_replica_is_taken_once_by_another() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (sessions(&dir, 1), sessions(&dir, 1));
        let (cookie, nonce) = one.challenge(&tenant("a"), Tee::Snp, 1000).unwrap();
        let taken = two.take(&tenant("a"), &cookie, 1059).unwrap();
        assert_eq!((taken.nonce, taken.tee), (nonce, Tee::Snp));
        for replica in [&one, &two] {
            let again = replica.take(&tenant("a"), &cookie, 1059).unwrap_err();
            assert_eq!(again.refusal, Refusal::ChallengeUsed);
        }
    }

    #[test]
    fn ended_foreign_and_altered_challenges_are_no_session() {
        let dir = tempfile::tempdir().unwrap();
        let own = sessions(&dir, 1);
        let (cookie, _) = own.challenge(&tenant("a"), Tee::Snp, 1000).unwrap();
        let refused = |outcome: Result<Challenged, Refused>| {
            assert_eq!(outcome.unwrap_err().refusal, Refusal::NoSession);
        };
        refused(own.take(&tenant("a"), &cookie, 1060));
        refused(own.take(&tenant("b"), &cookie, 1000));
        refused(sessions(&dir, 2).take(&tenant("a"), &cookie, 1000));
        for index in 0..cookie.value().len() {
            let mut text = cookie.value().to_owned();
            let other = if text.as_bytes()[index] == b'A' {
                "B"
            } else {
                "A"
            };
            text.replace_range(index..=index, other);
            let altered = SessionCookie::new(&text).unwrap();
            refused(own.take(&tenant("a"), &altered, 1000));
        }
        for text in ["a", "AAAA", &"A".repeat(200)] {
            let cookie = SessionCookie::new(text).unwrap();
            refused(own.take(&tenant("a"), &cookie, 1000));
        }
        assert!(own.take(&tenant("a"), &cookie, 1000).is_ok());
    }

    #[test]
    fn session_key_is_made_once_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("session-key");
        let first = SessionSealer::load_or_create(&path).unwrap();
        let second = SessionSealer::load_or_create(&path).unwrap();
        let challenged = Challenged {
            nonce: Nonce::generate().unwrap(),
            tee: Tee::Tdx,
            expires_s: 7,
        };
        let cookie = first.seal(&tenant("t"), &challenged).unwrap();
        assert_eq!(second.open(&tenant("t"), &cookie), Some(challenged));
        std::fs::write(&path, "short").unwrap();
        let refused = SessionSealer::load_or_create(&path).unwrap_err();
        assert!(matches!(refused, KbsServerError::SessionKey { .. }));
    }
}
