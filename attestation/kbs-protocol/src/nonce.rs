use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::KbsProtocolError;

/// A challenge's nonce, as the text that both sides hash.
///
/// Brokers send 32 random bytes in base64, but the guest must not care: the
/// text is bound as it came.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Nonce(String);

impl Nonce {
    const MAX_BYTES: usize = 1024;

    /// Takes a nonce's text.
    pub fn new(text: String) -> Result<Self, KbsProtocolError> {
        let visible = text.bytes().all(|b| b.is_ascii_graphic());
        if text.is_empty() || text.len() > Self::MAX_BYTES || !visible {
            return Err(KbsProtocolError::InvalidNonce(text.len()));
        }
        Ok(Self(text))
    }

    /// Makes a fresh nonce: 32 random bytes in standard base64 (44 characters).
    pub fn generate() -> Result<Self, KbsProtocolError> {
        let mut bytes = [0_u8; 32];
        getrandom::fill(&mut bytes).map_err(|_| KbsProtocolError::NoRandomness)?;
        Ok(Self(STANDARD.encode(bytes)))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Nonce {
    type Error = KbsProtocolError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::new(text)
    }
}

impl From<Nonce> for String {
    fn from(nonce: Nonce) -> Self {
        nonce.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fresh_nonces_have_44_characters_and_differ() {
        let first = Nonce::generate().unwrap();
        let second = Nonce::generate().unwrap();
        assert_eq!(first.as_str().len(), 44);
        assert_ne!(first, second);
    }

    #[test]
    fn empty_long_and_invisible_nonces_are_refused() {
        for text in [
            String::new(),
            "a".repeat(1025),
            "a b".to_owned(),
            "a\nb".to_owned(),
        ] {
            assert!(matches!(
                Nonce::new(text),
                Err(KbsProtocolError::InvalidNonce(_))
            ));
        }
    }
}
