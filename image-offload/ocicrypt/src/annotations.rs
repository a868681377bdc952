//! The annotations of an encrypted layer's descriptor.

use std::collections::BTreeMap;

use crate::base64_text;
use crate::errors::OcicryptError;
use crate::jwe::JweMessage;
use crate::keys::PublicKey;
use crate::options::{PrivateOptions, PublicOptions};
#[cfg(feature = "rsa")]
use crate::pkcs7::Pkcs7Message;
use crate::provider::{PacketVersion, ProviderPacket};
#[cfg(feature = "rsa")]
use crate::rsa_keys::RecipientCertificate;

/// Annotation with the public options.
pub const PUBLIC_OPTIONS: &str = "org.opencontainers.image.enc.pubopts";
/// Prefix of all annotations with wrapped keys; the scheme follows.
pub const ENCRYPTED_KEY_PREFIX: &str = "org.opencontainers.image.enc.keys.";

const JWE: &str = "jwe";
#[cfg(feature = "rsa")]
const PKCS7: &str = "pkcs7";
const PROVIDER_PREFIX: &str = "provider.";
/// The provider name under which broker packets travel.
const BROKER_PROVIDER: &str = "provider.attestation-agent";
/// Wrapped keys of one layer; each costs at most one attempt to open it.
const MAX_RECIPIENTS: usize = 64;
/// Length of all annotations of one scheme.
const MAX_ANNOTATION_BYTES: usize = 512 * 1024;

/// What a descriptor says about its layer's encryption.
#[derive(Debug)]
pub struct LayerEncryption {
    /// The public options.
    pub public: PublicOptions,
    /// The wrapped keys, in the order of schemes and then of the list.
    pub recipients: Vec<Recipient>,
}

/// One wrapped key.
#[derive(Debug)]
pub enum Recipient {
    /// Wrapped with a key of the key broker.
    Provider(ProviderPacket),
    /// Wrapped for an asymmetric key.
    Jwe(JweMessage),
    /// Wrapped for the holder of a certificate.
    #[cfg(feature = "rsa")]
    Pkcs7(Pkcs7Message),
    /// Of a scheme, or in a form, that cannot be opened here.
    Unusable {
        /// Scheme as in the annotation's name, such as `pkcs7`.
        scheme: String,
        /// Why, when the scheme is one that is known.
        reason: Option<OcicryptError>,
    },
}

impl LayerEncryption {
    /// Reads a descriptor's annotations.
    ///
    /// A wrapped key that cannot be read does not spoil the others: it
    /// becomes [`Recipient::Unusable`].
    pub fn from_annotations(annotations: &BTreeMap<String, String>) -> Result<Self, OcicryptError> {
        let public = annotations
            .get(PUBLIC_OPTIONS)
            .ok_or(OcicryptError::PublicOptionsMissing)?;
        let public = base64_text::decode(public).ok_or(OcicryptError::PublicOptionsInvalid {
            reason: "not base64",
        })?;
        let public = PublicOptions::parse(&public)?;
        let mut recipients = Vec::new();
        for (name, value) in annotations {
            let Some(scheme) = name.strip_prefix(ENCRYPTED_KEY_PREFIX) else {
                continue;
            };
            let invalid = |reason| OcicryptError::AnnotationInvalid {
                name: name.clone(),
                reason,
            };
            if value.len() > MAX_ANNOTATION_BYTES {
                return Err(invalid("too long"));
            }
            for blob in value.split(',').filter(|blob| !blob.is_empty()) {
                if recipients.len() == MAX_RECIPIENTS {
                    return Err(invalid("too many wrapped keys"));
                }
                let blob = base64_text::decode(blob).ok_or_else(|| invalid("not base64"))?;
                recipients.push(Recipient::read(scheme, &blob));
            }
        }
        if recipients.is_empty() {
            return Err(OcicryptError::NoRecipients);
        }
        Ok(Self { public, recipients })
    }

    /// The schemes of all recipients, for an error.
    pub fn schemes(&self) -> String {
        let mut schemes: Vec<&str> = self.recipients.iter().map(Recipient::scheme).collect();
        schemes.dedup();
        schemes.join(", ")
    }
}

impl Recipient {
    fn read(scheme: &str, blob: &[u8]) -> Self {
        #[cfg(feature = "rsa")]
        if scheme == PKCS7 {
            return Pkcs7Message::parse(blob)
                .map_or_else(|error| Self::unusable(scheme, Some(error)), Self::Pkcs7);
        }
        let read = if scheme == JWE {
            JweMessage::parse(blob).map(Self::Jwe)
        } else if scheme.starts_with(PROVIDER_PREFIX) {
            // The provider's name is the encrypting side's matter; what can
            // be opened is decided by the packet itself.
            ProviderPacket::parse(blob).map(Self::Provider)
        } else {
            return Self::unusable(scheme, None);
        };
        read.unwrap_or_else(|error| Self::unusable(scheme, Some(error)))
    }

    fn unusable(scheme: &str, reason: Option<OcicryptError>) -> Self {
        Self::Unusable {
            scheme: scheme.chars().take(64).collect(),
            reason,
        }
    }

    /// The kind of recipient: `provider`, `jwe`, `pkcs7` or, when nothing here
    /// can open it, `unusable`.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Provider(_) => "provider",
            Self::Jwe(_) => JWE,
            #[cfg(feature = "rsa")]
            Self::Pkcs7(_) => PKCS7,
            Self::Unusable { .. } => "unusable",
        }
    }

    /// The scheme as the annotation names it.
    fn scheme(&self) -> &str {
        match self {
            Self::Unusable { scheme, .. } => scheme,
            other => other.kind(),
        }
    }
}

/// Who shall be able to open a layer.
#[derive(Clone, Copy, Default)]
pub struct Recipients<'a> {
    /// Ids and 32 bytes of keys of a key broker, for one packet each.
    pub broker_keys: &'a [(&'a str, &'a [u8])],
    /// Which form the packets have.
    pub packet_version: PacketVersion,
    /// Public keys, for one JWE each.
    pub public_keys: &'a [PublicKey],
    /// Certificates, for one PKCS #7 message together.
    #[cfg(feature = "rsa")]
    pub certificates: &'a [RecipientCertificate],
}

impl std::fmt::Debug for Recipients<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recipients").finish_non_exhaustive()
    }
}

/// The annotations for a layer that was just encrypted: public options and
/// the private options, wrapped for each recipient.
pub fn annotations_for(
    public: &PublicOptions,
    private: &PrivateOptions,
    recipients: &Recipients<'_>,
) -> Result<BTreeMap<String, String>, OcicryptError> {
    let mut annotations = BTreeMap::new();
    let mut add = |scheme: &str, messages: Vec<String>| {
        if !messages.is_empty() {
            let name = format!("{ENCRYPTED_KEY_PREFIX}{scheme}");
            annotations.insert(name, messages.join(","));
        }
    };
    let packets = recipients
        .broker_keys
        .iter()
        .map(|(kid, key)| {
            let packet = ProviderPacket::wrap(kid, key, private)?;
            Ok(base64_text::encode(
                &packet.to_json(recipients.packet_version)?,
            ))
        })
        .collect::<Result<_, OcicryptError>>()?;
    add(BROKER_PROVIDER, packets);
    let messages = recipients
        .public_keys
        .iter()
        .map(|key| Ok(base64_text::encode(&JweMessage::seal(key, private)?)))
        .collect::<Result<_, OcicryptError>>()?;
    add(JWE, messages);
    #[cfg(feature = "rsa")]
    if !recipients.certificates.is_empty() {
        let message = Pkcs7Message::seal(recipients.certificates, private)?;
        add(PKCS7, vec![base64_text::encode(&message)]);
    }
    if annotations.is_empty() {
        return Err(OcicryptError::NoRecipients);
    }
    annotations.insert(
        PUBLIC_OPTIONS.to_owned(),
        base64_text::encode(&public.to_json()),
    );
    Ok(annotations)
}

/// Whether an annotation belongs to a layer's encryption.
pub fn is_encryption_annotation(name: &str) -> bool {
    name == PUBLIC_OPTIONS || name.starts_with(ENCRYPTED_KEY_PREFIX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cipher::LayerEncryptor;
    use crate::keys::PrivateKey;
    use proptest::prelude::*;

    fn key() -> PrivateKey {
        let jwk = r#"{"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM","d":"870MB6gfuTJ4HtUnUvYMyJpr5eUZNP4Bk43bVdj3eAE"}"#;
        PrivateKey::parse(jwk.as_bytes()).unwrap()
    }

    #[test]
    fn a_layer_for_several_recipients_opens_for_each() {
        let layer = LayerEncryptor::generate().unwrap().finish();
        let keys = [key().public_key(), key().public_key()];
        let recipients = Recipients {
            broker_keys: &[("kbs:///a/b/c", &[1; 32]), ("kbs:///a/b/d", &[2; 32])],
            public_keys: &keys,
            ..Recipients::default()
        };
        let annotations = annotations_for(&layer.public, &layer.private, &recipients).unwrap();
        let read = LayerEncryption::from_annotations(&annotations).unwrap();
        assert_eq!(read.public, layer.public);
        assert_eq!(read.recipients.len(), 4);
        assert_eq!(read.schemes(), "jwe, provider");
        for recipient in &read.recipients {
            let opened = match recipient {
                Recipient::Jwe(message) => message.open(&key()).unwrap(),
                Recipient::Provider(packet) if packet.kid() == "kbs:///a/b/c" => {
                    packet.unwrap(&[1; 32]).unwrap()
                }
                Recipient::Provider(packet) => packet.unwrap(&[2; 32]).unwrap(),
                _ => panic!("{recipient:?}"),
            };
            assert_eq!(*opened.to_json(), *layer.private.to_json());
        }
    }

    #[test]
    fn a_layer_without_recipients_is_neither_written_nor_read() {
        let layer = LayerEncryptor::generate().unwrap().finish();
        let none = annotations_for(&layer.public, &layer.private, &Recipients::default());
        assert_eq!(none.unwrap_err(), OcicryptError::NoRecipients);
        let public = base64_text::encode(&layer.public.to_json());
        let annotations = BTreeMap::from([(PUBLIC_OPTIONS.to_owned(), public)]);
        let read = LayerEncryption::from_annotations(&annotations);
        assert_eq!(read.unwrap_err(), OcicryptError::NoRecipients);
        let read = LayerEncryption::from_annotations(&BTreeMap::new());
        assert_eq!(read.unwrap_err(), OcicryptError::PublicOptionsMissing);
    }

    #[test]
    fn a_broken_packet_does_not_spoil_its_neighbours() {
        let layer = LayerEncryptor::generate().unwrap().finish();
        let recipients = Recipients {
            broker_keys: &[("kbs:///a/b/c", &[1; 32])],
            ..Recipients::default()
        };
        let mut annotations = annotations_for(&layer.public, &layer.private, &recipients).unwrap();
        annotations.insert(
            format!("{ENCRYPTED_KEY_PREFIX}jwe"),
            base64_text::encode(b"{}"),
        );
        let read = LayerEncryption::from_annotations(&annotations).unwrap();
        assert!(matches!(
            &read.recipients[0],
            Recipient::Unusable {
                reason: Some(_),
                ..
            }
        ));
        assert!(matches!(&read.recipients[1], Recipient::Provider(_)));
    }

    #[test]
    fn too_many_wrapped_keys_are_refused() {
        let layer = LayerEncryptor::generate().unwrap().finish();
        let public = base64_text::encode(&layer.public.to_json());
        let annotations = BTreeMap::from([
            (PUBLIC_OPTIONS.to_owned(), public),
            (
                format!("{ENCRYPTED_KEY_PREFIX}jwe"),
                vec!["e30="; MAX_RECIPIENTS + 1].join(","),
            ),
        ]);
        let read = LayerEncryption::from_annotations(&annotations);
        assert!(matches!(read, Err(OcicryptError::AnnotationInvalid { .. })));
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = PublicOptions::parse(&bytes);
            let _ = PrivateOptions::parse(&bytes);
            let _ = ProviderPacket::parse(&bytes);
            let _ = JweMessage::parse(&bytes);
            #[cfg(feature = "rsa")]
            let _ = Pkcs7Message::parse(&bytes);
            let _ = PrivateKey::parse(&bytes);
            let _ = PublicKey::parse(&bytes);
        }
    }
}
