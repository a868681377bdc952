//! JSON web encryption (RFC 7516) as far as layers use it: ECDH-ES+A256KW on
//! P-256 and, for host tools, RSA-OAEP, with A256GCM content, in the JSON
//! serialisations.

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use aes_kw::KwAes256;
use p256::SecretKey;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::base64_text::{decode_url, encode_url};
use crate::errors::OcicryptError;
use crate::keys::{Jwk, PrivateKey, PrivateKeyKind, PublicKey, PublicKeyKind};
use crate::options::{MAX_DOCUMENT_BYTES, PrivateOptions};
#[cfg(feature = "rsa")]
use crate::rsa_keys::{self, RsaPadding};

const KEY_AGREEMENT: &str = "ECDH-ES+A256KW";
const CONTENT_CIPHER: &str = "A256GCM";
#[cfg(feature = "rsa")]
const RSA_OAEP: &str = "RSA-OAEP";
#[cfg(feature = "rsa")]
const RSA_OAEP_256: &str = "RSA-OAEP-256";
/// Recipients of one message; the format has one message per recipient list.
const MAX_RECIPIENTS: usize = 64;

/// A JWE whose plaintext is a layer's private options.
#[derive(Debug)]
pub struct JweMessage {
    protected: String,
    additional: Option<String>,
    iv: [u8; 12],
    /// Ciphertext with the tag behind it, as AEAD libraries expect it.
    sealed: Vec<u8>,
    recipients: Vec<JweRecipient>,
}

#[derive(Debug)]
struct JweRecipient {
    header: Header,
    encrypted_key: Vec<u8>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    protected: Option<String>,
    #[serde(default)]
    unprotected: Option<Header>,
    #[serde(default)]
    header: Option<Header>,
    #[serde(default)]
    encrypted_key: Option<String>,
    #[serde(default)]
    recipients: Option<Vec<RecipientDocument>>,
    #[serde(default)]
    aad: Option<String>,
    iv: String,
    ciphertext: String,
    tag: String,
}

#[derive(Deserialize)]
struct RecipientDocument {
    #[serde(default)]
    header: Option<Header>,
    #[serde(default)]
    encrypted_key: Option<String>,
}

/// The header parameters that matter. `crit` and `zip` change the meaning of
/// the message, so their presence is kept in order to refuse them.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Header {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    alg: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    enc: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    epk: Option<serde_json::Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    apu: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    apv: Option<String>,
    #[serde(default, skip_serializing)]
    crit: Option<serde_json::Value>,
    #[serde(default, skip_serializing)]
    zip: Option<serde_json::Value>,
}

impl std::fmt::Debug for Header {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Header")
            .field("alg", &self.alg)
            .finish_non_exhaustive()
    }
}

fn invalid(reason: &'static str) -> OcicryptError {
    OcicryptError::JweInvalid { reason }
}

/// Joins two headers; a parameter may stand in one of them only (RFC 7516 §4).
fn join<T>(first: Option<T>, second: Option<T>) -> Result<Option<T>, OcicryptError> {
    if first.is_some() && second.is_some() {
        return Err(invalid("a header parameter appears twice"));
    }
    Ok(first.or(second))
}

impl Header {
    fn joined(self, other: Self) -> Result<Self, OcicryptError> {
        Ok(Self {
            alg: join(self.alg, other.alg)?,
            enc: join(self.enc, other.enc)?,
            epk: join(self.epk, other.epk)?,
            apu: join(self.apu, other.apu)?,
            apv: join(self.apv, other.apv)?,
            crit: join(self.crit, other.crit)?,
            zip: join(self.zip, other.zip)?,
        })
    }
}

impl JweMessage {
    /// Reads the flattened or general JSON serialisation.
    pub fn parse(json: &[u8]) -> Result<Self, OcicryptError> {
        if json.len() > 8 * MAX_DOCUMENT_BYTES {
            return Err(invalid("too large"));
        }
        let document: Document =
            serde_json::from_slice(json).map_err(|_| invalid("not the expected JSON"))?;
        let protected = document.protected.unwrap_or_default();
        let shared = parse_header(&protected)?.joined(document.unprotected.unwrap_or_default())?;
        let recipients = match document.recipients {
            None => vec![RecipientDocument {
                header: document.header,
                encrypted_key: document.encrypted_key,
            }],
            Some(_) if document.header.is_some() || document.encrypted_key.is_some() => {
                return Err(invalid("flattened and general members are mixed"));
            }
            Some(list) if list.is_empty() || list.len() > MAX_RECIPIENTS => {
                return Err(invalid("no or too many recipients"));
            }
            Some(list) => list,
        };
        let mut sealed = decode_url(&document.ciphertext)
            .ok_or_else(|| invalid("ciphertext is not base64"))?
            .to_vec();
        let tag = decode_url(&document.tag)
            .filter(|tag| tag.len() == 16)
            .ok_or_else(|| invalid("the tag is not 16 bytes"))?;
        sealed.extend_from_slice(&tag);
        let iv = decode_url(&document.iv)
            .and_then(|iv| <[u8; 12]>::try_from(iv.as_slice()).ok())
            .ok_or_else(|| invalid("the iv is not 12 bytes"))?;
        Ok(Self {
            protected,
            additional: document.aad,
            iv,
            sealed,
            recipients: recipients
                .into_iter()
                .map(|recipient| JweRecipient::read(recipient, shared.clone()))
                .collect::<Result<_, _>>()?,
        })
    }

    /// Opens the message with a private key and reads the private options.
    pub fn open(&self, key: &PrivateKey) -> Result<PrivateOptions, OcicryptError> {
        let mut last = OcicryptError::JweWrongKey;
        for recipient in &self.recipients {
            match recipient.content_key(key) {
                Ok(content_key) => return self.open_content(&content_key),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn open_content(&self, content_key: &[u8; 32]) -> Result<PrivateOptions, OcicryptError> {
        let mut aad = self.protected.clone();
        if let Some(additional) = &self.additional {
            aad.push('.');
            aad.push_str(additional);
        }
        let payload = Payload {
            msg: &self.sealed,
            aad: aad.as_bytes(),
        };
        let opened = Aes256Gcm::new(&(*content_key).into())
            .decrypt(&Nonce::from(self.iv), payload)
            .map_err(|_| invalid("the content was changed"))?;
        PrivateOptions::parse(&Zeroizing::new(opened))
    }

    /// Seals private options for one public key and writes the flattened form.
    pub fn seal(recipient: &PublicKey, private: &PrivateOptions) -> Result<Vec<u8>, OcicryptError> {
        let mut content_key = Zeroizing::new([0; 32]);
        let mut iv = [0; 12];
        getrandom::fill(content_key.as_mut_slice()).map_err(|_| OcicryptError::Random)?;
        getrandom::fill(&mut iv).map_err(|_| OcicryptError::Random)?;
        let (header, wrapped) = wrap_content_key(recipient, &content_key)?;
        let protected =
            encode_url(&serde_json::to_vec(&header).map_err(|_| invalid("cannot be written"))?);
        let json = private.to_json();
        let payload = Payload {
            msg: json.as_slice(),
            aad: protected.as_bytes(),
        };
        let sealed = Aes256Gcm::new(&(*content_key).into())
            .encrypt(&Nonce::from(iv), payload)
            .map_err(|_| invalid("the content cannot be sealed"))?;
        let (ciphertext, tag) = sealed.split_at(sealed.len().saturating_sub(16));
        Ok(format!(
            r#"{{"protected":"{protected}","encrypted_key":"{}","iv":"{}","ciphertext":"{}","tag":"{}"}}"#,
            encode_url(&wrapped),
            encode_url(&iv),
            encode_url(ciphertext),
            encode_url(tag),
        )
        .into_bytes())
    }
}

/// The content key for one recipient, with the header that says how.
fn wrap_content_key(
    recipient: &PublicKey,
    content_key: &[u8; 32],
) -> Result<(Header, Vec<u8>), OcicryptError> {
    let header = |algorithm: &str| Header {
        alg: Some(algorithm.to_owned()),
        enc: Some(CONTENT_CIPHER.to_owned()),
        ..Header::default()
    };
    match &recipient.0 {
        PublicKeyKind::Ec(recipient) => {
            let ephemeral = random_secret()?;
            let epk = serde_json::to_value(Jwk::of(&ephemeral.public_key()))
                .map_err(|_| invalid("cannot be written"))?;
            let wrapping_key = agree(&ephemeral, recipient, &[], &[]);
            let mut wrapped = [0; 40];
            KwAes256::new(&(*wrapping_key).into())
                .wrap_key(content_key.as_slice(), &mut wrapped)
                .map_err(|_| invalid("the content key cannot be wrapped"))?;
            let header = Header {
                epk: Some(epk),
                ..header(KEY_AGREEMENT)
            };
            Ok((header, wrapped.to_vec()))
        }
        #[cfg(feature = "rsa")]
        PublicKeyKind::Rsa(recipient) => {
            let wrapped = rsa_keys::wrap(recipient, RsaPadding::OaepSha1, content_key)?;
            Ok((header(RSA_OAEP), wrapped))
        }
    }
}

fn parse_header(protected: &str) -> Result<Header, OcicryptError> {
    if protected.is_empty() {
        return Ok(Header::default());
    }
    let json = decode_url(protected).ok_or_else(|| invalid("the header is not base64"))?;
    serde_json::from_slice(&json).map_err(|_| invalid("the header is not the expected JSON"))
}

impl JweRecipient {
    fn read(document: RecipientDocument, shared: Header) -> Result<Self, OcicryptError> {
        let header = shared.joined(document.header.unwrap_or_default())?;
        if header.crit.is_some() || header.zip.is_some() {
            return Err(invalid(
                "critical extensions and compression are not supported",
            ));
        }
        let encrypted_key = document
            .encrypted_key
            .as_deref()
            .and_then(decode_url)
            .ok_or_else(|| invalid("encrypted_key is not base64"))?;
        Ok(Self {
            header,
            encrypted_key: encrypted_key.to_vec(),
        })
    }

    fn content_key(&self, key: &PrivateKey) -> Result<Zeroizing<[u8; 32]>, OcicryptError> {
        let named = |name: &Option<String>| name.clone().unwrap_or_else(|| "(none)".to_owned());
        let unsupported = |name: &Option<String>| OcicryptError::JweAlgorithm {
            algorithm: named(name).chars().take(64).collect(),
        };
        if self.header.enc.as_deref() != Some(CONTENT_CIPHER) {
            return Err(unsupported(&self.header.enc));
        }
        match (self.header.alg.as_deref(), &key.0) {
            (Some(KEY_AGREEMENT), PrivateKeyKind::Ec(key)) => self.agreed_content_key(key),
            #[cfg(feature = "rsa")]
            (Some(RSA_OAEP), PrivateKeyKind::Rsa(key)) => {
                self.transported_content_key(key, RsaPadding::OaepSha1)
            }
            #[cfg(feature = "rsa")]
            (Some(RSA_OAEP_256), PrivateKeyKind::Rsa(key)) => {
                self.transported_content_key(key, RsaPadding::OaepSha256)
            }
            #[cfg(feature = "rsa")]
            (Some(KEY_AGREEMENT | RSA_OAEP | RSA_OAEP_256), _) => Err(OcicryptError::JweWrongKey),
            _ => Err(unsupported(&self.header.alg)),
        }
    }

    #[cfg(feature = "rsa")]
    fn transported_content_key(
        &self,
        key: &rsa::RsaPrivateKey,
        padding: RsaPadding,
    ) -> Result<Zeroizing<[u8; 32]>, OcicryptError> {
        rsa_keys::unwrap(key, padding, &self.encrypted_key)
            .and_then(|content_key| <[u8; 32]>::try_from(content_key.as_slice()).ok())
            .map(Zeroizing::new)
            .ok_or(OcicryptError::JweWrongKey)
    }

    fn agreed_content_key(&self, key: &SecretKey) -> Result<Zeroizing<[u8; 32]>, OcicryptError> {
        let epk = self
            .header
            .epk
            .clone()
            .ok_or_else(|| invalid("no ephemeral key"))?;
        let epk: Jwk =
            serde_json::from_value(epk).map_err(|_| invalid("the ephemeral key is not a key"))?;
        let epk = epk
            .public_key()
            .map_err(|_| invalid("the ephemeral key is not on P-256"))?;
        let party = |text: &Option<String>| match text {
            None => Ok(Zeroizing::default()),
            Some(text) => decode_url(text).ok_or_else(|| invalid("apu or apv is not base64")),
        };
        let wrapping_key = agree(
            key,
            &epk,
            &party(&self.header.apu)?,
            &party(&self.header.apv)?,
        );
        let mut content_key = Zeroizing::new([0; 32]);
        if self.encrypted_key.len() != 40 {
            return Err(invalid("encrypted_key is not 40 bytes"));
        }
        KwAes256::new(&(*wrapping_key).into())
            .unwrap_key(&self.encrypted_key, content_key.as_mut_slice())
            .map_err(|_| OcicryptError::JweWrongKey)?;
        Ok(content_key)
    }
}

/// ECDH-ES with the concatenation KDF (RFC 7518 §4.6.2) for a 256-bit key.
fn agree(
    secret: &SecretKey,
    public: &p256::PublicKey,
    apu: &[u8],
    apv: &[u8],
) -> Zeroizing<[u8; 32]> {
    let shared = p256::ecdh::diffie_hellman(secret.to_nonzero_scalar(), public.as_affine());
    let mut kdf = Sha256::new();
    kdf.update(1_u32.to_be_bytes());
    kdf.update(shared.raw_secret_bytes());
    for field in [KEY_AGREEMENT.as_bytes(), apu, apv] {
        // Header fields are bounded by the document, far below 4 GiB.
        kdf.update(u32::try_from(field.len()).unwrap_or(u32::MAX).to_be_bytes());
        kdf.update(field);
    }
    kdf.update(256_u32.to_be_bytes());
    Zeroizing::new(kdf.finalize().into())
}

fn random_secret() -> Result<SecretKey, OcicryptError> {
    // A random 256-bit number is a valid scalar but for one chance in 2^32.
    for _ in 0..8 {
        let mut scalar = Zeroizing::new([0; 32]);
        getrandom::fill(scalar.as_mut_slice()).map_err(|_| OcicryptError::Random)?;
        if let Ok(secret) = SecretKey::from_slice(scalar.as_slice()) {
            return Ok(secret);
        }
    }
    Err(OcicryptError::Random)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cipher::LayerEncryptor;

    fn secret(seed: u8) -> SecretKey {
        SecretKey::from_slice(&[seed; 32]).unwrap()
    }

    fn key(seed: u8) -> PrivateKey {
        secret(seed).into()
    }

    fn sealed() -> (PrivateOptions, serde_json::Value) {
        let private = LayerEncryptor::generate().unwrap().finish().private;
        let json = JweMessage::seal(&key(1).public_key(), &private).unwrap();
        (private, serde_json::from_slice(&json).unwrap())
    }

    fn open(json: &serde_json::Value, key: &PrivateKey) -> Result<PrivateOptions, OcicryptError> {
        JweMessage::parse(json.to_string().as_bytes())?.open(key)
    }

    #[test]
    fn a_message_opens_for_its_recipient_only() {
        let (private, json) = sealed();
        assert_eq!(*open(&json, &key(1)).unwrap().to_json(), *private.to_json());
        assert_eq!(
            open(&json, &key(2)).unwrap_err(),
            OcicryptError::JweWrongKey
        );
    }

    #[test]
    fn the_general_serialisation_finds_its_recipient_among_others() {
        let (private, json) = sealed();
        let (_, other) = sealed();
        let general = serde_json::json!({
            "protected": json["protected"],
            "recipients": [
                {"encrypted_key": other["encrypted_key"]},
                {"encrypted_key": json["encrypted_key"]},
            ],
            "iv": json["iv"], "ciphertext": json["ciphertext"], "tag": json["tag"],
        });
        assert_eq!(
            *open(&general, &key(1)).unwrap().to_json(),
            *private.to_json()
        );
    }

    #[test]
    fn a_changed_message_is_refused() {
        let (_, json) = sealed();
        for (member, value) in [
            ("tag", "AAAAAAAAAAAAAAAAAAAAAA"),
            ("iv", "AAAAAAAAAAAAAAAA"),
            ("iv", "AAAA"),
            ("tag", "AAAA"),
            ("encrypted_key", "AAAA"),
            ("ciphertext", "!"),
            ("aad", "eA"),
        ] {
            let mut changed = json.clone();
            changed[member] = value.into();
            assert!(open(&changed, &key(1)).is_err(), "{member}");
        }
        let mut spelt_anew = json.clone();
        let header = decode_url(json["protected"].as_str().unwrap()).unwrap();
        let header = String::from_utf8(header.to_vec())
            .unwrap()
            .replacen('{', "{ ", 1);
        spelt_anew["protected"] = encode_url(header.as_bytes()).into();
        assert!(open(&spelt_anew, &key(1)).is_err());
    }

    #[test]
    fn other_algorithms_and_extensions_are_refused() {
        let (_, json) = sealed();
        let with_header = |header: serde_json::Value| {
            let mut changed = json.clone();
            changed["protected"] = encode_url(header.to_string().as_bytes()).into();
            open(&changed, &key(1)).unwrap_err()
        };
        assert_eq!(
            with_header(serde_json::json!({"alg": "dir", "enc": "A256GCM"})),
            OcicryptError::JweAlgorithm {
                algorithm: "dir".to_owned()
            }
        );
        assert_eq!(
            with_header(serde_json::json!({"alg": "ECDH-ES+A256KW", "enc": "A128CBC-HS256"})),
            OcicryptError::JweAlgorithm {
                algorithm: "A128CBC-HS256".to_owned()
            }
        );
        let critical =
            serde_json::json!({"alg": "ECDH-ES+A256KW", "enc": "A256GCM", "crit": ["x"]});
        assert!(matches!(
            with_header(critical),
            OcicryptError::JweInvalid { .. }
        ));
        let off_curve = serde_json::json!({"alg": "ECDH-ES+A256KW", "enc": "A256GCM", "epk": {
            "kty": "EC", "crv": "P-256", "x": encode_url(&[1; 32]), "y": encode_url(&[1; 32])}});
        assert!(matches!(
            with_header(off_curve),
            OcicryptError::JweInvalid { .. }
        ));
    }

    #[test]
    fn a_parameter_in_two_headers_is_refused() {
        let (_, mut json) = sealed();
        json["header"] = serde_json::json!({"alg": "ECDH-ES+A256KW"});
        assert!(open(&json, &key(1)).is_err());
    }

    /// RFC 7518 appendix C, with the key-wrapping algorithm's own inputs left
    /// to the skopeo vectors: here the agreement and the KDF are checked to
    /// be the same from both sides.
    #[test]
    fn both_sides_agree_on_the_wrapping_key() {
        let (one, two) = (secret(3), secret(4));
        let there = agree(&one, &two.public_key(), b"Alice", b"Bob");
        let back = agree(&two, &one.public_key(), b"Alice", b"Bob");
        assert_eq!(*there, *back);
        assert_ne!(*there, *agree(&one, &two.public_key(), b"Bob", b"Alice"));
    }
}
