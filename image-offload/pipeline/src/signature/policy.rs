//! The policy document (containers-policy.json(5)).

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;

use crate::errors::ImageError;

use super::identity::{ImageIdentity, SignedIdentity};

const MAX_POLICY_BYTES: usize = 1 << 20;
/// The transport that all images here come by.
const DOCKER: &str = "docker";

/// Who must have signed which images.
#[derive(Clone, Debug)]
pub struct SignaturePolicy {
    default: Vec<Requirement>,
    docker: BTreeMap<String, Vec<Requirement>>,
}

/// One thing that must hold; all of a list must.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Requirement {
    /// Holds for every image.
    AcceptAnything,
    /// Holds for none.
    Reject,
    /// A cosign signature by one of these keys.
    Sigstore(SigstoreSigned),
    /// Something that is not supported, by its name: holds for none, and says why.
    Unsupported(&'static str),
}

/// What a cosign signature must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SigstoreSigned {
    pub(crate) keys: Vec<KeyLocation>,
    pub(crate) identity: SignedIdentity,
}

/// Where a key is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum KeyLocation {
    /// In the policy itself.
    Inline(Vec<u8>),
    /// A file, or a resource of the key broker (`kbs:///…`).
    Path(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    default: Vec<Value>,
    #[serde(default)]
    transports: Unique<Unique<Vec<Value>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RequirementDocument {
    #[serde(rename = "type")]
    kind: String,
    key_type: Option<String>,
    key_path: Option<String>,
    key_paths: Option<Vec<String>>,
    key_data: Option<String>,
    key_datas: Option<Vec<String>>,
    signed_identity: Option<IdentityDocument>,
    base_layer_identity: Option<IdentityDocument>,
    fulcio: Option<Value>,
    pki: Option<Value>,
    rekor_public_key_path: Option<String>,
    rekor_public_key_paths: Option<Vec<String>>,
    rekor_public_key_data: Option<String>,
    rekor_public_key_datas: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct IdentityDocument {
    #[serde(rename = "type")]
    kind: String,
    docker_reference: Option<String>,
    docker_repository: Option<String>,
    prefix: Option<String>,
    signed_prefix: Option<String>,
}

/// A map that refuses a key that appears twice: two readers could take
/// different ones.
#[derive(Default)]
struct Unique<T>(BTreeMap<String, T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Unique<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Walk<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Walk<T> {
            type Value = Unique<T>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Unique<T>, A::Error> {
                let mut found = BTreeMap::new();
                while let Some((key, value)) = map.next_entry::<String, T>()? {
                    if found.insert(key, value).is_some() {
                        return Err(serde::de::Error::custom("a scope appears twice"));
                    }
                }
                Ok(Unique(found))
            }
        }
        deserializer.deserialize_map(Walk(std::marker::PhantomData))
    }
}

fn invalid(reason: impl Into<String>) -> ImageError {
    ImageError::PolicyInvalid {
        reason: reason.into(),
    }
}

impl SignaturePolicy {
    /// Reads `policy.json`. What is not known is refused, because a policy
    /// must not be weaker than it reads.
    pub fn parse(json: &[u8]) -> Result<Self, ImageError> {
        if json.len() > MAX_POLICY_BYTES {
            return Err(invalid("it is too large"));
        }
        let document: Document = serde_json::from_slice(json)
            .map_err(|error| invalid(format!("not the expected JSON: {error}")))?;
        let mut docker = BTreeMap::new();
        for (transport, scopes) in document.transports.0 {
            for (scope, requirements) in scopes.0 {
                // Read in every transport, so that errors show everywhere.
                let requirements = read_requirements(requirements)?;
                if transport == DOCKER {
                    check_scope(&scope)?;
                    docker.insert(scope, requirements);
                }
            }
        }
        Ok(Self {
            default: read_requirements(document.default)?,
            docker,
        })
    }

    /// What must hold for an image: the narrowest scope's list.
    pub(crate) fn requirements(&self, image: &ImageIdentity) -> &[Requirement] {
        image
            .scopes()
            .iter()
            .find_map(|scope| self.docker.get(scope))
            .unwrap_or(&self.default)
    }

    /// Whether an image is accepted only with a signature, so that its tag is
    /// as good as a digest.
    pub fn requires_signature(&self, image: &ImageIdentity) -> bool {
        self.requirements(image)
            .iter()
            .any(|requirement| matches!(requirement, Requirement::Sigstore(_)))
    }
}

fn check_scope(scope: &str) -> Result<(), ImageError> {
    let is_valid = match scope.strip_prefix("*.") {
        Some(host) => !host.is_empty() && !host.contains(['/', '*', ':', '@']),
        None => !scope.contains('*') && !scope.ends_with('/'),
    };
    if is_valid {
        Ok(())
    } else {
        Err(invalid(format!(
            "\"{}\" is not a scope",
            scope.chars().take(200).collect::<String>()
        )))
    }
}

fn read_requirements(list: Vec<Value>) -> Result<Vec<Requirement>, ImageError> {
    if list.is_empty() {
        return Err(invalid("a list of requirements is empty"));
    }
    list.into_iter()
        .map(|value| {
            let document: RequirementDocument = serde_json::from_value(value)
                .map_err(|error| invalid(format!("a requirement: {error}")))?;
            document.read()
        })
        .collect()
}

impl RequirementDocument {
    fn read(self) -> Result<Requirement, ImageError> {
        match self.kind.as_str() {
            "insecureAcceptAnything" | "reject" if self.has_members() => {
                Err(invalid(format!("\"{}\" has no other members", self.kind)))
            }
            "insecureAcceptAnything" => Ok(Requirement::AcceptAnything),
            "reject" => Ok(Requirement::Reject),
            "signedBy" => self.signed_by(),
            "signedBaseLayer" => self.signed_base_layer(),
            "sigstoreSigned" => self.sigstore_signed(),
            other => Err(invalid(format!(
                "\"{}\" is not a requirement",
                other.chars().take(64).collect::<String>()
            ))),
        }
    }

    fn has_keys(&self) -> bool {
        self.key_path.is_some()
            || self.key_paths.is_some()
            || self.key_data.is_some()
            || self.key_datas.is_some()
    }

    fn asks_for_rekor(&self) -> bool {
        self.rekor_public_key_path.is_some()
            || self.rekor_public_key_paths.is_some()
            || self.rekor_public_key_data.is_some()
            || self.rekor_public_key_datas.is_some()
    }

    fn has_members(&self) -> bool {
        self.has_keys()
            || self.asks_for_rekor()
            || self.key_type.is_some()
            || self.signed_identity.is_some()
            || self.base_layer_identity.is_some()
            || self.fulcio.is_some()
            || self.pki.is_some()
    }

    fn signed_by(self) -> Result<Requirement, ImageError> {
        let unsupported = match self.key_type.as_deref() {
            Some("GPGKeys" | "signedByGPGKeys") => "OpenPGP signatures (signedBy)",
            Some("X509Certificates" | "signedByX509CAs") => "X.509 signatures (signedBy)",
            _ => return Err(invalid("\"signedBy\" has an unknown keyType")),
        };
        if !self.has_keys() {
            return Err(invalid("\"signedBy\" has no keys"));
        }
        if let Some(identity) = self.signed_identity {
            identity.read()?;
        }
        Ok(Requirement::Unsupported(unsupported))
    }

    fn signed_base_layer(self) -> Result<Requirement, ImageError> {
        let identity = self.base_layer_identity;
        identity
            .ok_or_else(|| invalid("\"signedBaseLayer\" has no identity"))?
            .read()?;
        Ok(Requirement::Unsupported(
            "signed base layers (signedBaseLayer)",
        ))
    }

    fn sigstore_signed(self) -> Result<Requirement, ImageError> {
        if self.key_type.is_some() {
            return Err(invalid("\"sigstoreSigned\" has no keyType"));
        }
        // A demand that cannot be met must not be passed over.
        let unsupported = if self.fulcio.is_some() {
            Some("Fulcio certificates (fulcio)")
        } else if self.pki.is_some() {
            Some("certificates of a private PKI (pki)")
        } else if self.asks_for_rekor() {
            Some("a transparency log (rekorPublicKey)")
        } else {
            None
        };
        let identity = match self.signed_identity {
            Some(identity) => identity.read()?,
            None => SignedIdentity::MatchRepoDigestOrExact,
        };
        if let Some(what) = unsupported {
            return Ok(Requirement::Unsupported(what));
        }
        let sources = [
            self.key_path.is_some(),
            self.key_paths.is_some(),
            self.key_data.is_some(),
            self.key_datas.is_some(),
        ];
        if sources.iter().filter(|&&given| given).count() != 1 {
            return Err(invalid("\"sigstoreSigned\" needs one source of keys"));
        }
        let paths = self
            .key_path
            .into_iter()
            .chain(self.key_paths.unwrap_or_default());
        let mut keys: Vec<KeyLocation> = paths.map(KeyLocation::Path).collect();
        let datas = self
            .key_data
            .into_iter()
            .chain(self.key_datas.unwrap_or_default());
        for data in datas {
            let key = STANDARD
                .decode(data)
                .map_err(|_| invalid("keyData is not base64"))?;
            keys.push(KeyLocation::Inline(key));
        }
        if keys.is_empty() {
            return Err(invalid("\"sigstoreSigned\" has no keys"));
        }
        Ok(Requirement::Sigstore(SigstoreSigned { keys, identity }))
    }
}

impl IdentityDocument {
    fn read(self) -> Result<SignedIdentity, ImageError> {
        let Self {
            kind,
            docker_reference,
            docker_repository,
            prefix,
            signed_prefix,
        } = self;
        match (
            kind.as_str(),
            docker_reference,
            docker_repository,
            prefix,
            signed_prefix,
        ) {
            ("matchExact", None, None, None, None) => Ok(SignedIdentity::MatchExact),
            ("matchRepoDigestOrExact", None, None, None, None) => {
                Ok(SignedIdentity::MatchRepoDigestOrExact)
            }
            ("matchRepository", None, None, None, None) => Ok(SignedIdentity::MatchRepository),
            ("exactReference", Some(name), None, None, None) => {
                Ok(SignedIdentity::ExactReference(name))
            }
            ("exactRepository", None, Some(name), None, None) => {
                Ok(SignedIdentity::ExactRepository(name))
            }
            ("remapIdentity", None, None, Some(prefix), Some(signed_prefix)) => {
                Ok(SignedIdentity::RemapIdentity {
                    prefix,
                    signed_prefix,
                })
            }
            _ => Err(invalid(
                "a signedIdentity is unknown or has the wrong members",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(json: &str) -> Result<SignaturePolicy, ImageError> {
        SignaturePolicy::parse(json.as_bytes())
    }

    fn image(name: &str) -> ImageIdentity {
        let (registry, repository) = name.split_once('/').unwrap();
        ImageIdentity::pinned(registry, repository)
    }

    #[test]
    fn the_narrowest_scope_decides() {
        let policy = parse(
            r#"{"default":[{"type":"reject"}],"transports":{"docker":{
                "r.example":[{"type":"insecureAcceptAnything"}],
                "r.example/ns":[{"type":"reject"}],
                "*.wild.example":[{"type":"insecureAcceptAnything"}]},
                "dir":{"":[{"type":"insecureAcceptAnything"}]}}}"#,
        )
        .unwrap();
        let accepts = |name| *policy.requirements(&image(name)) == [Requirement::AcceptAnything];
        assert!(accepts("r.example/app"));
        assert!(!accepts("r.example/ns/app"));
        assert!(!accepts("r.example:5000/app"));
        assert!(accepts("a.wild.example/app"));
        assert!(accepts("a.b.wild.example/app"));
        assert!(!accepts("wild.example/app"));
        assert!(!accepts("other.example/app"));
    }

    #[test]
    fn a_demand_that_cannot_be_met_is_kept_as_one() {
        for (requirement, what) in [
            (
                r#"{"type":"signedBy","keyType":"GPGKeys","keyPath":"k"}"#,
                "OpenPGP",
            ),
            (r#"{"type":"sigstoreSigned","fulcio":{}}"#, "Fulcio"),
            (
                r#"{"type":"sigstoreSigned","keyPath":"k","rekorPublicKeyPath":"r"}"#,
                "transparency",
            ),
        ] {
            let policy = parse(&format!(r#"{{"default":[{requirement}]}}"#)).unwrap();
            assert!(matches!(
                policy.requirements(&image("r/a")),
                [Requirement::Unsupported(named)] if named.contains(what)
            ));
            assert!(!policy.requires_signature(&image("r/a")));
        }
    }

    #[test]
    fn a_key_in_the_policy_is_decoded() {
        let policy = parse(r#"{"default":[{"type":"sigstoreSigned","keyData":"a2V5"}]}"#).unwrap();
        assert!(policy.requires_signature(&image("r/a")));
        let [Requirement::Sigstore(signed)] = policy.requirements(&image("r/a")) else {
            panic!()
        };
        assert_eq!(signed.keys, [KeyLocation::Inline(b"key".to_vec())]);
        assert_eq!(signed.identity, SignedIdentity::MatchRepoDigestOrExact);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for json in [
            "",
            "{}",
            r#"{"default":[]}"#,
            r#"{"default":[{"type":"trust"}]}"#,
            r#"{"default":[{"type":"reject","keyPath":"k"}]}"#,
            r#"{"default":[{"type":"reject"}],"more":1}"#,
            r#"{"default":[{"type":"reject"}],"transports":{"docker":{"a":[{"type":"reject"}],"a":[{"type":"insecureAcceptAnything"}]}}}"#,
            r#"{"default":[{"type":"reject"}],"transports":{"docker":{"a*":[{"type":"reject"}]}}}"#,
            r#"{"default":[{"type":"reject"}],"transports":{"docker":{"a/":[{"type":"reject"}]}}}"#,
            r#"{"default":[{"type":"sigstoreSigned"}]}"#,
            r#"{"default":[{"type":"sigstoreSigned","keyPath":"a","keyData":"a2V5"}]}"#,
            r#"{"default":[{"type":"sigstoreSigned","keyData":"*"}]}"#,
            r#"{"default":[{"type":"sigstoreSigned","keyPath":"a","signedIdentity":{"type":"matchAny"}}]}"#,
            r#"{"default":[{"type":"sigstoreSigned","keyPath":"a","signedIdentity":{"type":"exactReference"}}]}"#,
            r#"{"default":[{"type":"signedBy","keyPath":"a"}]}"#,
        ] {
            assert!(
                matches!(parse(json), Err(ImageError::PolicyInvalid { .. })),
                "{json}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,200}") {
            let _ = SignaturePolicy::parse(text.as_bytes());
        }
    }
}
