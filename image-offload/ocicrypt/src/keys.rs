//! Asymmetric keys of recipients: elliptic curve P-256 and, for host tools, RSA.

use std::fmt;

use p256::SecretKey;
use p256::elliptic_curve::sec1::ToSec1Point;
use p256::pkcs8::{DecodePrivateKey, DecodePublicKey};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use crate::base64_text;
use crate::errors::OcicryptError;

/// Key files are far smaller; more is refused before it is parsed.
pub(crate) const MAX_KEY_BYTES: usize = 64 * 1024;

/// A private key that opens JWE and PKCS #7 recipients; shows nothing of itself.
#[derive(Clone)]
pub struct PrivateKey(pub(crate) PrivateKeyKind);

#[derive(Clone)]
pub(crate) enum PrivateKeyKind {
    Ec(SecretKey),
    #[cfg(feature = "rsa")]
    Rsa(Box<rsa::RsaPrivateKey>),
}

/// A public key to encrypt for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey(pub(crate) PublicKeyKind);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PublicKeyKind {
    Ec(p256::PublicKey),
    #[cfg(feature = "rsa")]
    Rsa(Box<rsa::RsaPublicKey>),
}

impl From<SecretKey> for PrivateKey {
    fn from(key: SecretKey) -> Self {
        Self(PrivateKeyKind::Ec(key))
    }
}

impl From<p256::PublicKey> for PublicKey {
    fn from(key: p256::PublicKey) -> Self {
        Self(PublicKeyKind::Ec(key))
    }
}

#[cfg(feature = "rsa")]
impl From<rsa::RsaPrivateKey> for PrivateKey {
    fn from(key: rsa::RsaPrivateKey) -> Self {
        Self(PrivateKeyKind::Rsa(Box::new(key)))
    }
}

#[cfg(feature = "rsa")]
impl From<rsa::RsaPublicKey> for PublicKey {
    fn from(key: rsa::RsaPublicKey) -> Self {
        Self(PublicKeyKind::Rsa(Box::new(key)))
    }
}

/// A JSON web key (RFC 7517, RFC 7518 §6.2 and §6.3): P-256 or RSA.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Jwk {
    pub(crate) kty: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) crv: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) x: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) y: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) d: Option<String>,
    #[cfg(feature = "rsa")]
    #[serde(default, skip_serializing)]
    pub(crate) n: Option<String>,
    #[cfg(feature = "rsa")]
    #[serde(default, skip_serializing)]
    pub(crate) e: Option<String>,
    #[serde(default, skip_serializing)]
    pub(crate) p: Option<String>,
    #[serde(default, skip_serializing)]
    pub(crate) q: Option<String>,
}

impl Drop for Jwk {
    fn drop(&mut self) {
        for secret in [&mut self.d, &mut self.p, &mut self.q] {
            secret.zeroize();
        }
    }
}

impl Jwk {
    pub(crate) fn of(key: &p256::PublicKey) -> Self {
        let point = key.to_sec1_point(false);
        let part = |range: std::ops::Range<usize>| {
            base64_text::encode_url(point.as_bytes().get(range).unwrap_or_default())
        };
        let mut jwk = Self::default();
        "EC".clone_into(&mut jwk.kty);
        "P-256".clone_into(&mut jwk.crv);
        jwk.x = part(1..33);
        jwk.y = part(33..65);
        jwk
    }

    pub(crate) fn public_key(&self) -> Result<p256::PublicKey, OcicryptError> {
        let invalid = |reason| OcicryptError::KeyInvalid { reason };
        if self.kty != "EC" || self.crv != "P-256" {
            return Err(invalid("not an EC key on P-256"));
        }
        let mut sec1 = vec![4];
        for part in [&self.x, &self.y] {
            let bytes = base64_text::decode_url(part).filter(|bytes| bytes.len() == 32);
            sec1.extend_from_slice(&bytes.ok_or_else(|| invalid("a coordinate is not 32 bytes"))?);
        }
        p256::PublicKey::from_sec1_bytes(&sec1)
            .map_err(|_| invalid("the point is not on the curve"))
    }
}

impl PrivateKey {
    /// Reads PEM (PKCS#8 or SEC1), DER (the same), or a JSON web key.
    pub fn parse(bytes: &[u8]) -> Result<Self, OcicryptError> {
        if bytes.len() > MAX_KEY_BYTES {
            return Err(OcicryptError::KeyInvalid {
                reason: "too large",
            });
        }
        match std::str::from_utf8(bytes).map(str::trim_start) {
            Ok(text) if text.starts_with('{') => Self::from_jwk(text),
            Ok(text) if text.starts_with("-----BEGIN") => Self::from_pem(text),
            _ => Self::from_der(bytes),
        }
    }

    fn from_der(bytes: &[u8]) -> Result<Self, OcicryptError> {
        let ec = SecretKey::from_pkcs8_der(bytes)
            .ok()
            .or_else(|| SecretKey::from_sec1_der(bytes).ok());
        if let Some(key) = ec {
            return Ok(key.into());
        }
        #[cfg(feature = "rsa")]
        if let Some(key) = crate::rsa_keys::private_from_der(bytes) {
            return key.map(Self::from);
        }
        Err(NOT_A_PRIVATE_KEY)
    }

    fn from_pem(text: &str) -> Result<Self, OcicryptError> {
        // OpenSSL may put a parameter block before a SEC1 key.
        let block = text
            .find("-----BEGIN EC PRIVATE KEY")
            .map_or(text, |start| &text[start..]);
        if block.starts_with("-----BEGIN EC PRIVATE KEY") {
            return SecretKey::from_sec1_pem(block.trim_end())
                .map(Self::from)
                .map_err(|_| NOT_A_PRIVATE_KEY);
        }
        #[cfg(feature = "rsa")]
        if let Some(key) = crate::rsa_keys::private_from_pem(text) {
            return key.map(Self::from);
        }
        if text.starts_with("-----BEGIN RSA PRIVATE KEY") {
            return Err(OcicryptError::RsaPrivateKey);
        }
        SecretKey::from_pkcs8_pem(text.trim_end())
            .map(Self::from)
            .map_err(|_| {
                if is_rsa_pkcs8(text) {
                    return OcicryptError::RsaPrivateKey;
                }
                NOT_A_PRIVATE_KEY
            })
    }

    fn from_jwk(text: &str) -> Result<Self, OcicryptError> {
        let invalid = |reason| OcicryptError::KeyInvalid { reason };
        let jwk: Jwk = serde_json::from_str(text).map_err(|_| invalid("not a JSON web key"))?;
        if jwk.kty == "RSA" {
            #[cfg(feature = "rsa")]
            return crate::rsa_keys::private_from_jwk(&jwk).map(Self::from);
            #[cfg(not(feature = "rsa"))]
            return Err(OcicryptError::RsaPrivateKey);
        }
        let public = jwk.public_key()?;
        let scalar = jwk
            .d
            .as_deref()
            .and_then(base64_text::decode_url)
            .ok_or_else(|| invalid("no private part"))?;
        let secret =
            SecretKey::from_slice(&scalar).map_err(|_| invalid("the private part is not valid"))?;
        if secret.public_key() != public {
            return Err(invalid("private and public part do not belong together"));
        }
        Ok(secret.into())
    }

    /// The public half.
    pub fn public_key(&self) -> PublicKey {
        match &self.0 {
            PrivateKeyKind::Ec(key) => key.public_key().into(),
            #[cfg(feature = "rsa")]
            PrivateKeyKind::Rsa(key) => key.to_public_key().into(),
        }
    }

    /// Opens a PKCS #7 message and reads the private options.
    #[cfg(feature = "rsa")]
    pub fn open_pkcs7(
        &self,
        message: &crate::Pkcs7Message,
    ) -> Result<crate::PrivateOptions, OcicryptError> {
        match &self.0 {
            PrivateKeyKind::Rsa(key) => message.open(key),
            PrivateKeyKind::Ec(_) => Err(OcicryptError::Pkcs7WrongKey),
        }
    }
}

/// Whether a PKCS#8 block names the algorithm rsaEncryption, so that the
/// error can say more than "not a P-256 key".
fn is_rsa_pkcs8(pem: &str) -> bool {
    /// DER of the object identifier 1.2.840.113549.1.1.1.
    const RSA_ENCRYPTION: [u8; 11] = [
        0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01,
    ];
    let body: Zeroizing<String> = Zeroizing::new(
        pem.lines()
            .filter(|line| !line.starts_with('-'))
            .map(str::trim)
            .collect(),
    );
    base64_text::decode(&body).is_some_and(|der| {
        der.windows(11)
            .take(64)
            .any(|window| window == RSA_ENCRYPTION)
    })
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrivateKey").finish_non_exhaustive()
    }
}

impl PublicKey {
    /// Reads PEM or DER (`SubjectPublicKeyInfo`), or a JSON web key.
    pub fn parse(bytes: &[u8]) -> Result<Self, OcicryptError> {
        if bytes.len() > MAX_KEY_BYTES {
            return Err(OcicryptError::KeyInvalid {
                reason: "too large",
            });
        }
        match std::str::from_utf8(bytes).map(str::trim) {
            Ok(text) if text.starts_with('{') => Self::from_jwk(text),
            Ok(text) if text.starts_with("-----BEGIN") => Self::from_pem(text),
            _ => Self::from_der(bytes),
        }
    }

    fn from_jwk(text: &str) -> Result<Self, OcicryptError> {
        let jwk: Jwk = serde_json::from_str(text).map_err(|_| OcicryptError::KeyInvalid {
            reason: "not a JSON web key",
        })?;
        #[cfg(feature = "rsa")]
        if jwk.kty == "RSA" {
            return crate::rsa_keys::public_from_jwk(&jwk).map(Self::from);
        }
        jwk.public_key().map(Self::from)
    }

    fn from_pem(text: &str) -> Result<Self, OcicryptError> {
        if let Ok(key) = p256::PublicKey::from_public_key_pem(text) {
            return Ok(key.into());
        }
        #[cfg(feature = "rsa")]
        if let Some(key) = crate::rsa_keys::public_from_pem(text) {
            return key.map(Self::from);
        }
        Err(NOT_A_PUBLIC_KEY)
    }

    fn from_der(bytes: &[u8]) -> Result<Self, OcicryptError> {
        if let Ok(key) = p256::PublicKey::from_public_key_der(bytes) {
            return Ok(key.into());
        }
        #[cfg(feature = "rsa")]
        if let Some(key) = crate::rsa_keys::public_from_der(bytes) {
            return key.map(Self::from);
        }
        Err(NOT_A_PUBLIC_KEY)
    }
}

const NOT_A_PRIVATE_KEY: OcicryptError = OcicryptError::KeyInvalid {
    reason: if cfg!(feature = "rsa") {
        "not a P-256 or RSA private key"
    } else {
        "not a P-256 private key"
    },
};

const NOT_A_PUBLIC_KEY: OcicryptError = OcicryptError::KeyInvalid {
    reason: if cfg!(feature = "rsa") {
        "not a P-256 or RSA public key"
    } else {
        "not a P-256 public key"
    },
};
