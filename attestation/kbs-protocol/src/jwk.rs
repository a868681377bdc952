use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use p256::elliptic_curve::Generate as _;
use p256::elliptic_curve::sec1::ToSec1Point as _;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};

use crate::KbsProtocolError;

/// The key agreement and wrapping that the broker uses towards the guest.
pub const KEY_ALGORITHM: &str = "ECDH-ES+A256KW";

const COORDINATE_BYTES: usize = 32;

/// A guest's public key: EC P-256 for `ECDH-ES+A256KW`.
#[derive(Clone, PartialEq, Eq)]
pub struct TeePublicKey(p256::PublicKey);

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    crv: Option<String>,
    alg: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl TeePublicKey {
    /// Reads a JWK (RFC 7517). Members beyond `kty`, `crv`, `alg`, `x` and `y`
    /// are dropped, as brokers do before they hash the key.
    pub fn from_jwk(jwk: &Value) -> Result<Self, KbsProtocolError> {
        let jwk = Jwk::deserialize(jwk)
            .map_err(|_| KbsProtocolError::UnusableKey("it is not a JWK with text members"))?;
        if jwk.alg.as_deref() != Some(KEY_ALGORITHM) {
            return Err(KbsProtocolError::UnusableKey(
                "its alg is not ECDH-ES+A256KW",
            ));
        }
        Self::from_members(&jwk)
    }

    /// Reads the ephemeral key of a JWE header, which names no algorithm.
    pub(crate) fn from_ephemeral(jwk: &Value) -> Result<Self, KbsProtocolError> {
        let jwk = Jwk::deserialize(jwk)
            .map_err(|_| KbsProtocolError::UnusableKey("it is not a JWK with text members"))?;
        Self::from_members(&jwk)
    }

    fn from_members(jwk: &Jwk) -> Result<Self, KbsProtocolError> {
        if jwk.kty != "EC" {
            return Err(KbsProtocolError::UnusableKey("its kty is not EC"));
        }
        if jwk.crv.as_deref() != Some("P-256") {
            return Err(KbsProtocolError::UnusableKey("its curve is not P-256"));
        }
        let mut sec1 = [0_u8; 1 + 2 * COORDINATE_BYTES];
        let (tag, coordinates) = sec1.split_at_mut(1);
        tag.fill(4);
        let (x, y) = coordinates.split_at_mut(COORDINATE_BYTES);
        decode_coordinate(jwk.x.as_deref(), x)?;
        decode_coordinate(jwk.y.as_deref(), y)?;
        p256::PublicKey::from_sec1_bytes(&sec1)
            .map(Self)
            .map_err(|_| KbsProtocolError::UnusableKey("its point is not on the curve"))
    }

    /// The JWK with exactly the members that the binding covers.
    pub fn to_jwk(&self) -> Value {
        let (x, y) = self.coordinates();
        json!({ "kty": "EC", "crv": "P-256", "alg": KEY_ALGORITHM, "x": x, "y": y })
    }

    /// The JWK for a JWE header, without an algorithm.
    pub(crate) fn to_ephemeral(&self) -> Value {
        let (x, y) = self.coordinates();
        json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y })
    }

    fn coordinates(&self) -> (String, String) {
        let point = self.0.to_sec1_point(false);
        let bytes = point.as_bytes().get(1..).unwrap_or_default();
        let (x, y) = bytes.split_at(bytes.len() / 2);
        (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y))
    }

    /// Reads an uncompressed point.
    pub(crate) fn from_sec1(bytes: &[u8]) -> Result<Self, KbsProtocolError> {
        p256::PublicKey::from_sec1_bytes(bytes)
            .map(Self)
            .map_err(|_| KbsProtocolError::UnusableKey("its point is not on the curve"))
    }

    /// The uncompressed point.
    pub(crate) fn to_sec1(&self) -> Vec<u8> {
        self.0.to_sec1_point(false).as_bytes().to_vec()
    }

    pub(crate) fn inner(&self) -> &p256::PublicKey {
        &self.0
    }
}

fn decode_coordinate(text: Option<&str>, out: &mut [u8]) -> Result<(), KbsProtocolError> {
    let text = text.ok_or(KbsProtocolError::UnusableKey("it lacks a coordinate"))?;
    let wrong = KbsProtocolError::UnusableKey("a coordinate is not 32 bytes in base64url");
    match URL_SAFE_NO_PAD.decode_slice(text, out) {
        Ok(length) if length == COORDINATE_BYTES => Ok(()),
        _ => Err(wrong),
    }
}

impl fmt::Debug for TeePublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TeePublicKey({})", self.to_jwk())
    }
}

impl Serialize for TeePublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_jwk().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for TeePublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let jwk = Value::deserialize(deserializer)?;
        Self::from_jwk(&jwk).map_err(D::Error::custom)
    }
}

/// A guest's key pair, made fresh for each handshake; the secret half is
/// zeroised when it is dropped and never shown.
pub struct TeeKeyPair(p256::SecretKey);

impl TeeKeyPair {
    /// Makes a key pair.
    pub fn generate() -> Result<Self, KbsProtocolError> {
        p256::SecretKey::try_generate()
            .map(Self)
            .map_err(|_| KbsProtocolError::NoRandomness)
    }

    /// Takes a secret scalar of 32 bytes, big-endian.
    pub fn from_secret_bytes(bytes: &[u8]) -> Result<Self, KbsProtocolError> {
        let refuse = || KbsProtocolError::UnusableKey("its secret is not a scalar of 32 bytes");
        // The library would pad a shorter secret.
        if bytes.len() != COORDINATE_BYTES {
            return Err(refuse());
        }
        p256::SecretKey::from_slice(bytes)
            .map(Self)
            .map_err(|_| refuse())
    }

    /// The public half.
    pub fn public_key(&self) -> TeePublicKey {
        TeePublicKey(self.0.public_key())
    }

    pub(crate) fn inner(&self) -> &p256::SecretKey {
        &self.0
    }
}

impl fmt::Debug for TeeKeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TeeKeyPair(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jwk_reads_back_without_foreign_members() {
        let key = TeeKeyPair::generate().unwrap().public_key();
        let mut jwk = key.to_jwk();
        jwk["kid"] = json!("mine");
        let parsed = TeePublicKey::from_jwk(&jwk).unwrap();
        assert_eq!(parsed.to_jwk(), key.to_jwk());
    }

    #[test]
    fn keys_of_other_kinds_and_points_off_the_curve_are_refused() {
        let good = TeeKeyPair::generate().unwrap().public_key().to_jwk();
        let changed = |member: &str, value: Value| {
            let mut jwk = good.clone();
            jwk[member] = value;
            jwk
        };
        let zero = URL_SAFE_NO_PAD.encode([0_u8; 32]);
        for jwk in [
            changed("kty", json!("RSA")),
            changed("crv", json!("P-521")),
            changed("alg", json!("RSA-OAEP-256")),
            changed("alg", Value::Null),
            changed("x", Value::Null),
            changed("x", json!(zero)),
            changed("y", json!("AAAA")),
            changed("y", json!(format!("{zero}AA"))),
            changed("x", json!(7)),
            json!([]),
            json!("EC"),
        ] {
            let parsed = TeePublicKey::from_jwk(&jwk);
            assert!(
                matches!(parsed, Err(KbsProtocolError::UnusableKey(_))),
                "{jwk}"
            );
        }
    }

    #[test]
    fn debug_does_not_show_the_secret() {
        let pair = TeeKeyPair::from_secret_bytes(&[7; 32]).unwrap();
        assert_eq!(format!("{pair:?}"), "TeeKeyPair(..)");
        assert!(TeeKeyPair::from_secret_bytes(&[0; 32]).is_err());
        assert!(TeeKeyPair::from_secret_bytes(&[0xff; 32]).is_err());
        assert!(TeeKeyPair::from_secret_bytes(&[1; 31]).is_err());
    }
}
