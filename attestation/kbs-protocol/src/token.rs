use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use crate::{KbsProtocolError, MAX_TOKEN_BYTES};

/// The times in an attestation token, read without checking its signature.
///
/// A guest uses them only to know for how long it may send the token again;
/// whoever relies on a token's claims must verify it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenTimes {
    /// When it was issued, in seconds since 1970.
    pub issued_at_s: Option<u64>,
    /// When it ends, in seconds since 1970.
    pub expires_at_s: u64,
}

#[derive(Deserialize)]
struct Times {
    iat: Option<f64>,
    exp: f64,
}

impl TokenTimes {
    /// Reads the times of a compact JWT (RFC 7519).
    pub fn parse(token: &str) -> Result<Self, KbsProtocolError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(KbsProtocolError::MalformedToken("it is too long"));
        }
        let mut parts = token.split('.');
        let (Some(_), Some(claims), Some(_), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(KbsProtocolError::MalformedToken(
                "it does not have three parts",
            ));
        };
        let claims = URL_SAFE_NO_PAD
            .decode(claims)
            .map_err(|_| KbsProtocolError::MalformedToken("its claims are not base64url"))?;
        let times: Times = serde_json::from_slice(&claims).map_err(|_| {
            KbsProtocolError::MalformedToken("its claims are not JSON with an expiry time")
        })?;
        let expires_at_s = seconds(times.exp).ok_or(KbsProtocolError::MalformedToken(
            "its expiry time is out of range",
        ))?;
        Ok(Self {
            issued_at_s: times.iat.and_then(seconds),
            expires_at_s,
        })
    }

    /// For how long the token is valid from its issue on, in seconds.
    pub fn lifetime_s(&self) -> Option<u64> {
        self.expires_at_s.checked_sub(self.issued_at_s?)
    }
}

/// RFC 7519 allows fractions of seconds.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the range is checked, and the fraction is dropped on purpose"
)]
fn seconds(number: f64) -> Option<u64> {
    const MAX_EXACT: f64 = 9_007_199_254_740_992.0;
    (0.0..MAX_EXACT).contains(&number).then_some(number as u64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token(claims: &str) -> String {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn times_are_read() {
        let times = TokenTimes::parse(&token(r#"{"iat":100,"exp":400.5,"x":[]}"#)).unwrap();
        assert_eq!(
            times,
            TokenTimes {
                issued_at_s: Some(100),
                expires_at_s: 400
            }
        );
        assert_eq!(times.lifetime_s(), Some(300));
    }

    #[test]
    fn tokens_without_usable_times_are_refused() {
        for text in [
            String::new(),
            "a.b".to_owned(),
            "a.b.c.d".to_owned(),
            "a.%%.c".to_owned(),
            token("[]"),
            token("{}"),
            token(r#"{"exp":-1}"#),
            token(r#"{"exp":1e300}"#),
            token(r#"{"exp":"soon"}"#),
            format!("a.{}.c", "A".repeat(MAX_TOKEN_BYTES)),
        ] {
            let parsed = TokenTimes::parse(&text);
            assert!(matches!(parsed, Err(KbsProtocolError::MalformedToken(_))));
        }
    }

    #[test]
    fn token_that_ends_before_it_starts_has_no_lifetime() {
        let times = TokenTimes::parse(&token(r#"{"iat":500,"exp":400}"#)).unwrap();
        assert_eq!(times.lifetime_s(), None);
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,200}") {
            let _ = TokenTimes::parse(&text);
        }
    }
}
