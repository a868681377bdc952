use std::fmt;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use p256::SecretKey;
use p256::ecdsa::signature::{Signer as _, Verifier as _};
use p256::ecdsa::{Signature, SigningKey, VerifyingKey};
use p256::elliptic_curve::Generate as _;
use p256::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, LineEnding};
use redoubt_kbs_protocol::{MAX_TOKEN_BYTES, TeePublicKey};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::KbsServerError;
use crate::appraisal::Findings;
use crate::files::{read_text, require_private, write_new};

const MAX_KEY_BYTES: u64 = 16 * 1024;
const ISSUER: &str = "redoubt-kbs";

/// The claims of a token: the policy's input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenClaims {
    /// Who made the token.
    pub iss: String,
    /// When it was made, in seconds since 1970.
    pub iat: u64,
    /// When it ends, in seconds since 1970.
    pub exp: u64,
    /// The nonce of the handshake that it came from.
    pub eat_nonce: String,
    /// The guest's public key, to which resources are encrypted.
    #[serde(rename = "tee-pubkey")]
    pub tee_pubkey: TeePublicKey,
    /// The evidence's claims, laid out as Trustee's policies expect.
    pub submods: Value,
    /// What this broker found out.
    pub redoubt: Findings,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
}

/// Makes and checks ES256 tokens (RFC 7515, RFC 7518 section 3.4).
pub(crate) struct TokenSigner {
    key: SigningKey,
    kid: String,
}

impl TokenSigner {
    /// Makes a key and writes it to a file that must not exist.
    pub(crate) fn create(path: &Path) -> Result<Self, KbsServerError> {
        let key = SecretKey::try_generate().map_err(|_| KbsServerError::NoRandomness)?;
        let pem = key
            .to_pkcs8_pem(LineEnding::LF)
            .map_err(|error| KbsServerError::KeyGeneration(Box::new(error)))?;
        write_new(path, pem.as_bytes(), 0o600)?;
        Ok(Self::of(&key))
    }

    /// Reads the key, or makes it where there is none.
    pub(crate) fn load_or_create(path: &Path) -> Result<Self, KbsServerError> {
        if !path.exists() {
            return Self::create(path);
        }
        require_private(path)?;
        let pem = read_text(path, MAX_KEY_BYTES)?;
        let key = SecretKey::from_pkcs8_pem(&pem).map_err(|_| KbsServerError::TokenKey {
            path: path.to_owned(),
        })?;
        Ok(Self::of(&key))
    }

    fn of(key: &SecretKey) -> Self {
        let key = SigningKey::from(key);
        let kid = thumbprint(key.verifying_key());
        Self { key, kid }
    }

    /// When a token that is made now begins and ends.
    pub(crate) fn validity(now_s: u64, lifetime_s: u32) -> (u64, u64) {
        (now_s, now_s.saturating_add(lifetime_s.into()))
    }

    /// Who signs.
    pub(crate) fn issuer() -> String {
        ISSUER.to_owned()
    }

    /// Signs claims.
    pub(crate) fn sign(&self, claims: &TokenClaims) -> Result<String, serde_json::Error> {
        let header = json!({ "alg": "ES256", "typ": "JWT", "kid": self.kid });
        let claims = serde_json::to_vec(claims)?;
        let signed = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header.to_string()),
            URL_SAFE_NO_PAD.encode(claims)
        );
        let signature: Signature = self.key.sign(signed.as_bytes());
        Ok(format!(
            "{signed}.{}",
            URL_SAFE_NO_PAD.encode(signature.to_bytes())
        ))
    }

    /// Checks a token's form, algorithm, key, signature and times.
    pub(crate) fn verify(&self, token: &str, now_s: u64) -> Result<TokenClaims, &'static str> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err("the token is too long");
        }
        let (signed, signature) = token.rsplit_once('.').ok_or("the token is not a JWT")?;
        let (header, claims) = signed.split_once('.').ok_or("the token is not a JWT")?;
        let header: Header = decode_json(header).ok_or("the token's header is malformed")?;
        if header.alg != "ES256" {
            return Err("the token is not signed with ES256");
        }
        if header.kid.as_ref() != Some(&self.kid) {
            return Err("the token is signed with another key");
        }
        let signature = URL_SAFE_NO_PAD
            .decode(signature)
            .ok()
            .and_then(|bytes| Signature::from_slice(&bytes).ok())
            .ok_or("the token's signature is malformed")?;
        self.key
            .verifying_key()
            .verify(signed.as_bytes(), &signature)
            .map_err(|_| "the token's signature is wrong")?;
        let claims: TokenClaims = decode_json(claims).ok_or("the token's claims are malformed")?;
        if claims.iss != ISSUER {
            return Err("the token is of another issuer");
        }
        if now_s >= claims.exp {
            return Err("the token has expired");
        }
        if now_s < claims.iat {
            return Err("the token is from the future");
        }
        Ok(claims)
    }
}

impl fmt::Debug for TokenSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenSigner {{ kid: {:?}, .. }}", self.kid)
    }
}

fn decode_json<T: serde::de::DeserializeOwned>(part: &str) -> Option<T> {
    let bytes = URL_SAFE_NO_PAD.decode(part).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// The key's JWK thumbprint (RFC 7638).
fn thumbprint(key: &VerifyingKey) -> String {
    let point = key.to_sec1_point(false);
    let bytes = point.as_bytes().get(1..).unwrap_or_default();
    let (x, y) = bytes.split_at(bytes.len() / 2);
    let jwk = format!(
        r#"{{"crv":"P-256","kty":"EC","x":"{}","y":"{}"}}"#,
        URL_SAFE_NO_PAD.encode(x),
        URL_SAFE_NO_PAD.encode(y)
    );
    URL_SAFE_NO_PAD.encode(Sha256::digest(jwk))
}

#[cfg(test)]
mod tests {
    use redoubt_kbs_protocol::TeeKeyPair;

    use super::*;

    fn signer() -> TokenSigner {
        TokenSigner::of(&SecretKey::try_generate().unwrap())
    }

    fn claims() -> TokenClaims {
        TokenClaims {
            iss: TokenSigner::issuer(),
            iat: 1000,
            exp: 1300,
            eat_nonce: "n".to_owned(),
            tee_pubkey: TeeKeyPair::generate().unwrap().public_key(),
            submods: json!({}),
            redoubt: Findings::default(),
        }
    }

    #[test]
    fn own_token_reads_back_while_it_is_valid() {
        let signer = signer();
        let claims = claims();
        let token = signer.sign(&claims).unwrap();
        assert_eq!(signer.verify(&token, 1000).unwrap(), claims);
        assert_eq!(signer.verify(&token, 1299).unwrap(), claims);
        assert_eq!(signer.verify(&token, 1300), Err("the token has expired"));
        assert_eq!(
            signer.verify(&token, 999),
            Err("the token is from the future")
        );
    }

    #[test]
    fn tampered_and_foreign_tokens_are_refused() {
        let signer = signer();
        let token = signer.sign(&claims()).unwrap();
        let parts: Vec<&str> = token.split('.').collect();
        let header = |alg: &str| {
            URL_SAFE_NO_PAD.encode(json!({ "alg": alg, "kid": signer.kid }).to_string())
        };
        let mut other_claims = claims();
        other_claims.redoubt.launch_digest_matched = true;
        let swapped = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&other_claims).unwrap());
        for (bad, reason) in [
            (String::new(), "the token is not a JWT"),
            ("a.b".to_owned(), "the token is not a JWT"),
            ("a.b.c".to_owned(), "the token's header is malformed"),
            (
                format!("{}.{}.", header("none"), parts[1]),
                "the token is not signed with ES256",
            ),
            (
                format!("{}.{}.{}", header("HS256"), parts[1], parts[2]),
                "the token is not signed with ES256",
            ),
            (
                format!("{}.{}.", parts[0], parts[1]),
                "the token's signature is malformed",
            ),
            (
                format!("{}.{}.{}", parts[0], swapped, parts[2]),
                "the token's signature is wrong",
            ),
            (
                super::tests::signer().sign(&claims()).unwrap(),
                "the token is signed with another key",
            ),
            ("a".repeat(MAX_TOKEN_BYTES + 1), "the token is too long"),
        ] {
            assert_eq!(signer.verify(&bad, 1100).unwrap_err(), reason);
        }
    }

    #[test]
    fn key_is_made_once_with_mode_0600_and_kept() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token-key.pem");
        let first = TokenSigner::load_or_create(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let second = TokenSigner::load_or_create(&path).unwrap();
        assert_eq!(first.kid, second.kid);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let refused = TokenSigner::load_or_create(&path).unwrap_err();
        assert!(matches!(
            refused,
            KbsServerError::KeyIsReadable { mode: 0o644, .. }
        ));
    }
}
