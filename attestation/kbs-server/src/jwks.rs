//! Public keys of token makers as a JSON Web Key Set (RFC 7517), and ES256
//! signatures under them (RFC 7515, RFC 7518 section 3.4).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Largest set that is read, in bytes.
const MAX_SET_BYTES: usize = 256 * 1024;

/// Most keys in a set.
const MAX_KEYS: usize = 64;

const COORDINATE_BYTES: usize = 32;
const POINT_BYTES: usize = 1 + 2 * COORDINATE_BYTES;
const MAX_KID_BYTES: usize = 256;

/// An EC P-256 key for ES256.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerificationKey {
    kid: String,
    /// Uncompressed (SEC 1 section 2.3.3).
    point: [u8; POINT_BYTES],
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<Value>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    crv: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    kid: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl VerificationKey {
    /// Takes an uncompressed point. Its identifier is the JWK thumbprint (RFC 7638).
    pub(crate) fn from_point(point: [u8; POINT_BYTES]) -> Self {
        let mut key = Self {
            kid: String::new(),
            point,
        };
        key.kid = key.thumbprint();
        key
    }

    /// Reads one key of a set; `None` if it is of another kind or use.
    fn from_jwk(value: &Value) -> Result<Option<Self>, String> {
        let jwk = Jwk::deserialize(value).map_err(|error| error.to_string())?;
        let is_es256 = jwk.kty == "EC"
            && jwk.crv.as_deref() == Some("P-256")
            && jwk.alg.as_deref().is_none_or(|alg| alg == "ES256")
            && jwk
                .purpose
                .as_deref()
                .is_none_or(|purpose| purpose == "sig");
        if !is_es256 {
            return Ok(None);
        }
        let mut point = [4; POINT_BYTES];
        let (_, coordinates) = point.split_at_mut(1);
        let (x, y) = coordinates.split_at_mut(COORDINATE_BYTES);
        for (text, out) in [(jwk.x, x), (jwk.y, y)] {
            let decoded = URL_SAFE_NO_PAD.decode_slice(text.unwrap_or_default(), out);
            if decoded != Ok(COORDINATE_BYTES) {
                return Err("a coordinate is not 32 bytes in base64url".to_owned());
            }
        }
        // A point off the curve would only fail later, at each signature.
        p256::PublicKey::from_sec1_bytes(&point)
            .map_err(|_| "the point is not on the curve".to_owned())?;
        let mut key = Self::from_point(point);
        if let Some(kid) = jwk.kid {
            if kid.len() > MAX_KID_BYTES {
                return Err("the key identifier is too long".to_owned());
            }
            key.kid = kid;
        }
        Ok(Some(key))
    }

    /// The key's identifier.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The key as JWK.
    pub fn to_jwk(&self) -> Value {
        let (x, y) = self.coordinates();
        json!({
            "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig",
            "kid": self.kid, "x": x, "y": y,
        })
    }

    fn coordinates(&self) -> (String, String) {
        let (_, coordinates) = self.point.split_at(1);
        let (x, y) = coordinates.split_at(COORDINATE_BYTES);
        (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y))
    }

    fn thumbprint(&self) -> String {
        let (x, y) = self.coordinates();
        let jwk = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
        URL_SAFE_NO_PAD.encode(Sha256::digest(jwk))
    }
}

/// A set of keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Jwks {
    keys: Vec<VerificationKey>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    #[serde(default)]
    crit: Option<Value>,
}

impl Jwks {
    pub(crate) fn new(keys: Vec<VerificationKey>) -> Self {
        Self { keys }
    }

    /// Reads a set. Keys of other kinds are passed over; a broken one is an error.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() > MAX_SET_BYTES {
            return Err(format!("it has more than {MAX_SET_BYTES} bytes"));
        }
        let set: Set = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if set.keys.len() > MAX_KEYS {
            return Err(format!("it has more than {MAX_KEYS} keys"));
        }
        let mut keys = Vec::new();
        for (index, value) in set.keys.iter().enumerate() {
            let key = VerificationKey::from_jwk(value)
                .map_err(|reason| format!("keys[{index}]: {reason}"))?;
            keys.extend(key);
        }
        Ok(Self { keys })
    }

    /// The set as JSON.
    pub fn to_json(&self) -> Value {
        let keys: Vec<Value> = self.keys.iter().map(VerificationKey::to_jwk).collect();
        json!({ "keys": keys })
    }

    /// The keys.
    pub fn keys(&self) -> &[VerificationKey] {
        &self.keys
    }

    /// Checks the form, algorithm, key and signature of a compact JWT, and
    /// returns its claims. Times and names in them are the caller's to check.
    pub fn verify(&self, token: &str) -> Result<Vec<u8>, &'static str> {
        let (signed, signature) = token.rsplit_once('.').ok_or("the token is not a JWT")?;
        let (header, claims) = signed.split_once('.').ok_or("the token is not a JWT")?;
        let header = URL_SAFE_NO_PAD
            .decode(header)
            .ok()
            .and_then(|bytes| serde_json::from_slice::<Header>(&bytes).ok())
            .ok_or("the token's header is malformed")?;
        if header.alg != "ES256" {
            return Err("the token is not signed with ES256");
        }
        if header.crit.is_some() {
            return Err("the token's header has critical members");
        }
        let kid = header.kid.ok_or("the token names no key")?;
        let key = self.keys.iter().find(|key| key.kid == kid);
        let key = key.ok_or("the token is signed with another key")?;
        let signature = URL_SAFE_NO_PAD
            .decode(signature)
            .map_err(|_| "the token's signature is malformed")?;
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.point)
            .verify(signed.as_bytes(), &signature)
            .map_err(|_| "the token's signature is wrong")?;
        URL_SAFE_NO_PAD
            .decode(claims)
            .map_err(|_| "the token's claims are malformed")
    }
}

impl Serialize for Jwks {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_json().serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use p256::elliptic_curve::Generate as _;
    use p256::elliptic_curve::sec1::ToSec1Point as _;

    use super::*;

    fn key() -> VerificationKey {
        let secret = p256::SecretKey::try_generate().unwrap();
        let point = secret.public_key().to_sec1_point(false);
        VerificationKey::from_point(point.as_bytes().try_into().unwrap())
    }

    /// The set that Trustee's attestation service announces for a key of its tests.
    #[test]
    fn recorded_set_of_trustee_is_read() {
        let set = Jwks::parse(include_bytes!("../testdata/trustee-jwks.json")).unwrap();
        assert_eq!(set.keys().len(), 1);
        let pem = include_str!("../testdata/trustee-jwks-key.pem");
        let secret = <p256::SecretKey as p256::pkcs8::DecodePrivateKey>::from_pkcs8_pem(pem)
            .or_else(|_| p256::SecretKey::from_sec1_pem(pem))
            .unwrap();
        let point = secret.public_key().to_sec1_point(false);
        assert_eq!(set.keys()[0].point, point.as_bytes());
    }

    #[test]
    fn set_reads_back_and_other_keys_are_passed_over() {
        let set = Jwks::new(vec![key(), key()]);
        let mut value = set.to_json();
        assert_eq!(Jwks::parse(value.to_string().as_bytes()).unwrap(), set);
        let keys = value["keys"].as_array_mut().unwrap();
        keys.push(json!({ "kty": "RSA", "n": "AA", "e": "AQAB" }));
        keys.push(json!({ "kty": "EC", "crv": "P-384", "x": "AA", "y": "AA" }));
        let mut encryption = key().to_jwk();
        encryption["use"] = json!("enc");
        keys.push(encryption);
        assert_eq!(Jwks::parse(value.to_string().as_bytes()).unwrap(), set);
    }

    #[test]
    fn broken_sets_are_refused() {
        let with = |member: &str, value: Value| {
            let mut jwk = key().to_jwk();
            jwk[member] = value;
            json!({ "keys": [jwk] }).to_string()
        };
        let zero = URL_SAFE_NO_PAD.encode([0; 32]);
        let many: Vec<Value> = (0..=MAX_KEYS).map(|_| json!({ "kty": "RSA" })).collect();
        for text in [
            String::new(),
            "[]".to_owned(),
            "{\"keys\":[7]}".to_owned(),
            with("x", json!("AA")),
            with("x", Value::Null),
            with("x", json!(zero)),
            with("kid", json!("k".repeat(300))),
            json!({ "keys": many }).to_string(),
            " ".repeat(MAX_SET_BYTES + 1),
        ] {
            assert!(Jwks::parse(text.as_bytes()).is_err(), "{text:.80}");
        }
    }
}
