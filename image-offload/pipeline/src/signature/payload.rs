//! What a signature says (containers-signature(5), "simple signing").

use serde::Deserialize;

use crate::digest::Digest;

/// A payload is a few hundred bytes; more is refused before it is parsed.
pub(crate) const MAX_PAYLOAD_BYTES: u64 = 64 * 1024;

const ATOMIC: &str = "atomic container signature";
const COSIGN: &str = "cosign container image signature";

/// The critical part of a signed document: which image, under which name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignaturePayload {
    digest: Digest,
    reference: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    critical: Critical,
    // Anyone may write what they like here, so nothing depends on it.
    #[serde(default, rename = "optional")]
    _optional: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Critical {
    #[serde(rename = "type")]
    kind: String,
    image: Image,
    identity: Identity,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Image {
    #[serde(rename = "docker-manifest-digest")]
    digest: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Identity {
    #[serde(rename = "docker-reference")]
    reference: String,
}

/// Who makes payloads of which type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PayloadKind {
    Atomic,
    Cosign,
}

impl SignaturePayload {
    /// Reads a payload of either type.
    ///
    /// Critical members that are not known change what the signer meant, so
    /// their presence is a refusal; `None` stands for every refusal.
    pub fn parse(json: &[u8]) -> Option<Self> {
        Self::parse_kind(json).map(|(_, payload)| payload)
    }

    pub(crate) fn parse_kind(json: &[u8]) -> Option<(PayloadKind, Self)> {
        if json.len() as u64 > MAX_PAYLOAD_BYTES {
            return None;
        }
        let Document { critical, .. } = serde_json::from_slice(json).ok()?;
        let kind = match critical.kind.as_str() {
            ATOMIC => PayloadKind::Atomic,
            COSIGN => PayloadKind::Cosign,
            _ => return None,
        };
        let payload = Self {
            digest: critical.image.digest.parse().ok()?,
            reference: critical.identity.reference,
        };
        Some((kind, payload))
    }

    /// The manifest that was signed.
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// The name that it was signed under.
    pub fn reference(&self) -> &str {
        &self.reference
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn document(kind: &str, more: &str) -> String {
        format!(
            r#"{{"critical":{{"type":"{kind}","image":{{"docker-manifest-digest":"{DIGEST}"}},"identity":{{"docker-reference":"r/a:v1"}}{more}}},"optional":{{"creator":"x"}}}}"#
        )
    }

    #[test]
    fn both_types_are_read() {
        for kind in [ATOMIC, COSIGN] {
            let payload = SignaturePayload::parse(document(kind, "").as_bytes()).unwrap();
            assert_eq!(payload.digest().to_string(), DIGEST);
            assert_eq!(payload.reference(), "r/a:v1");
        }
    }

    #[test]
    fn unknown_types_and_critical_members_are_refused() {
        for json in [
            document("other", ""),
            document(ATOMIC, r#","new":1"#),
            String::new(),
            "{}".to_owned(),
            document(ATOMIC, "").replace("sha256:e", "sha512:e"),
        ] {
            assert_eq!(SignaturePayload::parse(json.as_bytes()), None, "{json}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = SignaturePayload::parse(&bytes);
        }
    }
}
