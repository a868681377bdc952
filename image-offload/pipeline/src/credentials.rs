//! Credentials as container tools keep them (containers-auth.json(5)).

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use zeroize::{Zeroize, Zeroizing};

use crate::errors::ImageError;
use crate::options::RegistryCredential;

const MAX_BYTES: usize = 1 << 20;
/// Names of Docker's own registry.
const DOCKER_HUB: [&str; 2] = ["docker.io", "index.docker.io"];

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    auth: Option<String>,
    #[serde(default, rename = "identitytoken")]
    identity_token: Option<String>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.auth.zeroize();
        self.identity_token.zeroize();
    }
}

impl RegistryCredential {
    /// Reads `auth.json`, or Docker's `config.json` as far as it is the same.
    pub fn from_auth_json(json: &[u8]) -> Result<Vec<Self>, ImageError> {
        let invalid = |reason| ImageError::CredentialsInvalid { reason };
        if json.len() > MAX_BYTES {
            return Err(invalid("too large"));
        }
        let document: Document =
            serde_json::from_slice(json).map_err(|_| invalid("not the expected JSON"))?;
        let mut credentials = Vec::new();
        for (name, entry) in &document.auths {
            let Some(auth) = entry.auth.as_deref().filter(|auth| !auth.is_empty()) else {
                if entry.identity_token.is_some() {
                    return Err(invalid("identity tokens are not supported"));
                }
                // Left behind by a credential helper, which has the secret.
                continue;
            };
            let pair = Zeroizing::new(
                STANDARD
                    .decode(auth.trim())
                    .map_err(|_| invalid("an entry is not base64"))?,
            );
            let pair = std::str::from_utf8(&pair).map_err(|_| invalid("an entry is not text"))?;
            let (username, password) = pair
                .split_once(':')
                .ok_or_else(|| invalid("an entry is not user:password"))?;
            credentials.push(Self {
                registry: normalised(name),
                username: username.to_owned(),
                password: Zeroizing::new(password.trim_end_matches('\0').to_owned()),
            });
        }
        Ok(credentials)
    }

    /// How well this credential fits: the length of what it names, if that is
    /// the repository or something above it.
    fn fits(&self, registry: &str, repository: &str) -> Option<usize> {
        let (host, path) = self
            .registry
            .split_once('/')
            .unwrap_or((&self.registry, ""));
        let is_hub = DOCKER_HUB.contains(&host) && DOCKER_HUB.contains(&registry);
        if host != registry && !is_hub {
            return None;
        }
        let rest = repository.strip_prefix(path)?;
        let is_whole = path.is_empty() || rest.is_empty() || rest.starts_with('/');
        is_whole.then_some(path.len())
    }
}

/// Older files name registries as URLs with the version of their protocol.
fn normalised(name: &str) -> String {
    let name = name
        .strip_prefix("https://")
        .or_else(|| name.strip_prefix("http://"))
        .unwrap_or(name);
    let name = name.trim_end_matches('/');
    let name = name
        .strip_suffix("/v1")
        .or_else(|| name.strip_suffix("/v2"))
        .unwrap_or(name);
    name.to_owned()
}

/// The credential that names the most of a repository.
pub(crate) fn best<'a>(
    credentials: &'a [RegistryCredential],
    registry: &str,
    repository: &str,
) -> Option<&'a RegistryCredential> {
    credentials
        .iter()
        .filter_map(|known| Some((known.fits(registry, repository)?, known)))
        .max_by_key(|(length, _)| *length)
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(json: &str) -> Result<Vec<RegistryCredential>, ImageError> {
        RegistryCredential::from_auth_json(json.as_bytes())
    }

    #[test]
    fn the_entry_that_names_the_most_is_taken() {
        let credentials = read(
            r#"{"auths":{
                "r.example:5000":{"auth":"YTox"},
                "r.example:5000/ns":{"auth":"Yjoy"},
                "r.example:5000/ns/app":{"auth":"Yzoz"},
                "https://index.docker.io/v1/":{"auth":"ZDp4Onk="},
                "helper.example":{}}}"#,
        )
        .unwrap();
        for (registry, repository, user) in [
            ("r.example:5000", "other", Some("a")),
            ("r.example:5000", "ns/x", Some("b")),
            ("r.example:5000", "ns/app", Some("c")),
            ("r.example:5000", "ns/app/sub", Some("c")),
            ("r.example:5000", "nsx", Some("a")),
            ("index.docker.io", "library/busybox", Some("d")),
            ("r.example", "ns/app", None),
            ("helper.example", "x", None),
        ] {
            let found = best(&credentials, registry, repository);
            assert_eq!(
                found.map(|known| known.username.as_str()),
                user,
                "{registry}/{repository}"
            );
        }
        let hub = best(&credentials, "docker.io", "library/x").unwrap();
        assert_eq!(*hub.password, "x:y");
    }

    #[test]
    fn what_cannot_be_used_is_refused_without_a_word_of_it() {
        for json in [
            "",
            "7",
            r#"{"auths":{"r":{"auth":"***"}}}"#,
            r#"{"auths":{"r":{"auth":"c2VjcmV0"}}}"#,
            r#"{"auths":{"r":{"identitytoken":"secret"}}}"#,
        ] {
            let error = read(json).unwrap_err();
            assert!(matches!(error, ImageError::CredentialsInvalid { .. }));
            assert!(!format!("{error} {error:?}").contains("secret"), "{json}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,200}") {
            let _ = RegistryCredential::from_auth_json(text.as_bytes());
        }
    }
}
