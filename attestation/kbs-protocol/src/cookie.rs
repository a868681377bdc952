/// Name of the cookie that carries a session.
pub const SESSION_COOKIE: &str = "kbs-session-id";

/// The value of a session cookie: 1 to 16384 characters that a cookie may have.
///
/// Trustee's has 32 hexadecimal digits; one that carries a token is as long as it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SessionCookie(String);

impl SessionCookie {
    const MAX_BYTES: usize = 16 * 1024;

    /// Takes a value if it is one that a cookie may have (RFC 6265 section 4.1.1).
    pub fn new(value: &str) -> Option<Self> {
        let allowed = |b: u8| b.is_ascii_graphic() && !matches!(b, b'"' | b',' | b';' | b'\\');
        let fits = (1..=Self::MAX_BYTES).contains(&value.len());
        (fits && value.bytes().all(allowed)).then(|| Self(value.to_owned()))
    }

    /// Finds the session in a `Set-Cookie` header.
    pub fn from_set_cookie(header: &str) -> Option<Self> {
        let pair = header.split(';').next()?;
        Self::from_pair(pair)
    }

    /// Finds the session in a `Cookie` header.
    pub fn from_cookie(header: &str) -> Option<Self> {
        header.split(';').find_map(Self::from_pair)
    }

    fn from_pair(pair: &str) -> Option<Self> {
        let (name, value) = pair.split_once('=')?;
        if name.trim() != SESSION_COOKIE {
            return None;
        }
        Self::new(value.trim())
    }

    /// The value.
    pub fn value(&self) -> &str {
        &self.0
    }

    /// The `Cookie` header that carries the session.
    pub fn to_header(&self) -> String {
        format!("{SESSION_COOKIE}={}", self.0)
    }
}

impl std::fmt::Debug for SessionCookie {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SessionCookie(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_is_found_in_both_headers() {
        let set = "kbs-session-id=bda61b9973f44026906720a79907cd8a; Expires=Sat, 21 Nov 2026 01:14:19 GMT";
        let session = SessionCookie::from_set_cookie(set).unwrap();
        assert_eq!(session.value(), "bda61b9973f44026906720a79907cd8a");
        let header = format!("other=1; {}", session.to_header());
        assert_eq!(SessionCookie::from_cookie(&header).unwrap(), session);
    }

    #[test]
    fn foreign_and_hostile_cookies_are_not_sessions() {
        for header in [
            "",
            "kbs-session-id",
            "kbs-session-id=",
            "x=kbs-session-id",
            "kbs-session-id=a b",
        ] {
            assert!(SessionCookie::from_cookie(header).is_none(), "{header:?}");
        }
        assert!(SessionCookie::new(&"a".repeat(16 * 1024 + 1)).is_none());
        assert!(SessionCookie::new("a\r\nX: y").is_none());
    }

    #[test]
    fn debug_does_not_show_the_session() {
        let session = SessionCookie::new("secret-session").unwrap();
        assert!(!format!("{session:?}").contains("secret-session"));
    }
}
