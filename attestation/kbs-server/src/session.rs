use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use redoubt_kbs_protocol::{Nonce, SessionCookie, Tee};

use crate::refusal::{Refusal, Refused};
use crate::token::TokenClaims;

/// Sessions in memory: bounded in number, each with one challenge that can be
/// answered once.
#[derive(Debug)]
pub(crate) struct SessionStore {
    sessions: Mutex<HashMap<String, Session>>,
    lifetime: Duration,
    max_sessions: usize,
}

#[derive(Debug)]
struct Session {
    state: State,
    ends: Instant,
}

#[derive(Debug)]
enum State {
    Challenged(Challenged),
    /// Somebody has answered the challenge; what came of it is not known yet, or was bad.
    Answered,
    Attested(Arc<TokenClaims>),
}

/// A challenge that waits for its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Challenged {
    pub(crate) nonce: Nonce,
    pub(crate) tee: Tee,
}

impl SessionStore {
    pub(crate) fn new(lifetime: Duration, max_sessions: usize) -> Self {
        Self {
            sessions: Mutex::new(HashMap::new()),
            lifetime,
            max_sessions,
        }
    }

    /// Opens a session with a fresh nonce.
    pub(crate) fn open(&self, tee: Tee) -> Result<(SessionCookie, Nonce), Refused> {
        let no_randomness = || Refusal::Internal.because("no random numbers");
        let nonce = Nonce::generate().map_err(|_| no_randomness())?;
        let mut id = [0_u8; 16];
        getrandom::fill(&mut id).map_err(|_| no_randomness())?;
        let cookie = SessionCookie::new(&hex::encode(id)).ok_or_else(no_randomness)?;
        let now = Instant::now();
        let mut sessions = self.lock();
        if sessions.len() >= self.max_sessions {
            sessions.retain(|_, session| session.ends > now);
        }
        if sessions.len() >= self.max_sessions {
            return Err(Refusal::Busy.because("every session is in use"));
        }
        let state = State::Challenged(Challenged {
            nonce: nonce.clone(),
            tee,
        });
        let session = Session {
            state,
            ends: now + self.lifetime,
        };
        sessions.insert(cookie.value().to_owned(), session);
        Ok((cookie, nonce))
    }

    /// Takes a session's challenge, which nobody can take again.
    pub(crate) fn take_challenge(&self, cookie: &SessionCookie) -> Result<Challenged, Refused> {
        let mut sessions = self.lock();
        let session = sessions
            .get_mut(cookie.value())
            .filter(|session| session.ends > Instant::now())
            .ok_or_else(|| Refusal::NoSession.because("the session is unknown or has ended"))?;
        match std::mem::replace(&mut session.state, State::Answered) {
            State::Challenged(challenged) => Ok(challenged),
            other => {
                session.state = other;
                Err(Refusal::ChallengeUsed.because("the challenge was answered before"))
            }
        }
    }

    /// Keeps what was found out about the guest until its token ends.
    pub(crate) fn attested(
        &self,
        cookie: &SessionCookie,
        claims: Arc<TokenClaims>,
        lifetime: Duration,
    ) {
        if let Some(session) = self.lock().get_mut(cookie.value()) {
            session.state = State::Attested(claims);
            session.ends = Instant::now() + lifetime;
        }
    }

    /// What was found out about the guest of an attested session.
    pub(crate) fn claims(&self, cookie: &SessionCookie) -> Option<Arc<TokenClaims>> {
        match self.lock().get(cookie.value()) {
            Some(Session {
                state: State::Attested(claims),
                ends,
            }) if *ends > Instant::now() => Some(Arc::clone(claims)),
            _ => None,
        }
    }

    /// Forgets sessions that have ended.
    pub(crate) fn sweep(&self) {
        let now = Instant::now();
        self.lock().retain(|_, session| session.ends > now);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Session>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(max: usize) -> SessionStore {
        SessionStore::new(Duration::from_secs(60), max)
    }

    #[test]
    fn challenge_is_taken_once() {
        let store = store(10);
        let (cookie, nonce) = store.open(Tee::Snp).unwrap();
        let challenged = store.take_challenge(&cookie).unwrap();
        assert_eq!(
            challenged,
            Challenged {
                nonce,
                tee: Tee::Snp
            }
        );
        let again = store.take_challenge(&cookie).unwrap_err();
        assert_eq!(again.refusal, Refusal::ChallengeUsed);
        assert!(store.claims(&cookie).is_none());
    }

    #[test]
    fn sessions_are_bounded_and_come_free_when_they_end() {
        let full = store(2);
        full.open(Tee::Snp).unwrap();
        full.open(Tee::Snp).unwrap();
        assert_eq!(full.open(Tee::Snp).unwrap_err().refusal, Refusal::Busy);
        let ended = SessionStore::new(Duration::ZERO, 2);
        for _ in 0..5 {
            let (cookie, _) = ended.open(Tee::Snp).unwrap();
            assert_eq!(
                ended.take_challenge(&cookie).unwrap_err().refusal,
                Refusal::NoSession
            );
        }
        ended.sweep();
        assert!(ended.lock().is_empty());
    }

    #[test]
    fn cookies_have_32_hex_digits_and_unknown_ones_are_no_session() {
        let store = store(10);
        let (cookie, _) = store.open(Tee::Snp).unwrap();
        assert_eq!(cookie.value().len(), 32);
        assert!(cookie.value().bytes().all(|b| b.is_ascii_hexdigit()));
        let other = SessionCookie::new("00000000000000000000000000000000").unwrap();
        assert_eq!(
            store.take_challenge(&other).unwrap_err().refusal,
            Refusal::NoSession
        );
    }
}
