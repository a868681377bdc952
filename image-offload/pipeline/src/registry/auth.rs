//! Authentication: basic, and bearer tokens by challenge (RFC 6750, Docker
//! registry token specification).

use std::fmt;

use serde::Deserialize;
use zeroize::Zeroizing;

/// How the next requests prove who asks; shows nothing of itself.
#[derive(Clone, Default)]
pub(crate) enum Authorization {
    #[default]
    None,
    Basic {
        username: String,
        password: Zeroizing<String>,
    },
    Bearer(Zeroizing<String>),
}

impl fmt::Debug for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Basic { .. } => "Basic",
            Self::Bearer(_) => "Bearer",
        })
    }
}

impl Authorization {
    pub(crate) fn apply(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        match self {
            Self::None => request,
            Self::Basic { username, password } => {
                request.basic_auth(username, Some(password.as_str()))
            }
            Self::Bearer(token) => request.bearer_auth(token.as_str()),
        }
    }
}

/// The challenge of a 401 answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    Basic,
    Bearer {
        realm: String,
        service: Option<String>,
    },
}

impl Challenge {
    /// Reads a `WWW-Authenticate` header; `None` when it is neither kind.
    pub(crate) fn parse(header: &str) -> Option<Self> {
        let (scheme, parameters) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let (mut realm, mut service) = (None, None);
        let mut rest = parameters;
        while let Some((name, after)) = rest.split_once('=') {
            let (value, next) = match after.trim_start().strip_prefix('"') {
                Some(quoted) => quoted.split_once('"')?,
                None => after.split_once(',').unwrap_or((after, "")),
            };
            match name.trim_matches([' ', ',']).to_ascii_lowercase().as_str() {
                "realm" => realm = Some(value.trim().to_owned()),
                "service" => service = Some(value.trim().to_owned()),
                _ => {}
            }
            rest = next.trim_start_matches([' ', ',']);
        }
        Some(Self::Bearer {
            realm: realm?,
            service,
        })
    }
}

/// The answer of a token service.
#[derive(Deserialize)]
pub(super) struct TokenAnswer {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
}

impl TokenAnswer {
    pub(super) fn into_token(self) -> Option<Zeroizing<String>> {
        self.token
            .or(self.access_token)
            .filter(|token| !token.is_empty())
            .map(Zeroizing::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn challenges_are_read() {
        let header = r#"Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a/b:pull,push""#;
        assert_eq!(
            Challenge::parse(header),
            Some(Challenge::Bearer {
                realm: "https://auth.example/token".to_owned(),
                service: Some("registry.example".to_owned()),
            })
        );
        assert_eq!(
            Challenge::parse("Basic realm=\"x\""),
            Some(Challenge::Basic)
        );
        assert_eq!(Challenge::parse("basic"), Some(Challenge::Basic));
        assert_eq!(Challenge::parse("Negotiate abc"), None);
        assert_eq!(Challenge::parse("Bearer service=\"x\""), None);
        assert_eq!(Challenge::parse("Bearer realm=\"unclosed"), None);
    }

    #[test]
    fn authorizations_never_show_themselves() {
        let token = Authorization::Bearer(Zeroizing::new("secret".to_owned()));
        assert_eq!(format!("{token:?}"), "Bearer");
    }

    proptest! {
        #[test]
        fn no_header_makes_the_parser_panic(header in ".{0,200}") {
            let _ = Challenge::parse(&header);
        }
    }
}
