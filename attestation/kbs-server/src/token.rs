//! Attestation tokens.

use std::fmt;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use p256::SecretKey;
use p256::elliptic_curve::Generate as _;
use p256::elliptic_curve::sec1::ToSec1Point as _;
use p256::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, LineEnding};
use redoubt_kbs_protocol::{MAX_TOKEN_BYTES, TeePublicKey};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::KbsServerError;
use crate::appraisal::Findings;
use crate::config::TokenSettings;
use crate::files::{read_text, require_private, write_new};
use crate::jwks::{Jwks, VerificationKey};
use crate::names::Tenant;

const MAX_KEY_BYTES: u64 = 16 * 1024;

/// How far the clocks of replicas may differ, in seconds.
const LEEWAY_S: u64 = 30;

/// The claims of a token: the policy's input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenClaims {
    /// Who made the token.
    pub iss: String,
    /// Whom it is for.
    pub aud: String,
    /// When it was made, in seconds since 1970.
    pub iat: u64,
    /// When it ends, in seconds since 1970.
    pub exp: u64,
    /// Whose resources it opens.
    pub tenant: Tenant,
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

/// Makes and checks ES256 tokens (RFC 7515, RFC 7518 section 3.4).
pub(crate) struct TokenSigner {
    key: EcdsaKeyPair,
    random: SystemRandom,
    header: String,
    /// The own key first, then former ones.
    accepted: Jwks,
    issuer: String,
    audience: String,
}

impl TokenSigner {
    /// Makes a key and writes it to a file that must not exist.
    pub(crate) fn create_key(path: &Path) -> Result<SecretKey, KbsServerError> {
        let key = SecretKey::try_generate().map_err(|_| KbsServerError::NoRandomness)?;
        let pem = key
            .to_pkcs8_pem(LineEnding::LF)
            .map_err(|error| KbsServerError::KeyGeneration(Box::new(error)))?;
        write_new(path, pem.as_bytes(), 0o600)?;
        Ok(key)
    }

    /// Reads the keys; the own one is made where there is none.
    pub(crate) fn open(settings: &TokenSettings) -> Result<Self, KbsServerError> {
        let path = &settings.private_key;
        let key = if path.exists() {
            read_key(path)?
        } else {
            Self::create_key(path)?
        };
        let mut accepted = vec![public_key(&key)];
        for path in &settings.previous_keys {
            accepted.push(public_key(&read_key(path)?));
        }
        Self::of(&key, Jwks::new(accepted), settings)
            .ok_or_else(|| KbsServerError::TokenKey { path: path.clone() })
    }

    fn of(key: &SecretKey, accepted: Jwks, settings: &TokenSettings) -> Option<Self> {
        let random = SystemRandom::new();
        let secret = Zeroizing::new(key.to_bytes());
        let point = key.public_key().to_sec1_point(false);
        let pair = EcdsaKeyPair::from_private_key_and_public_key(
            &ECDSA_P256_SHA256_FIXED_SIGNING,
            &secret,
            point.as_bytes(),
            &random,
        );
        let kid = accepted.keys().first()?.kid();
        let header = json!({ "alg": "ES256", "typ": "JWT", "kid": kid });
        Some(Self {
            key: pair.ok()?,
            random,
            header: URL_SAFE_NO_PAD.encode(header.to_string()),
            accepted,
            issuer: settings.issuer.clone(),
            audience: settings.audience.clone(),
        })
    }

    /// When a token that is made now begins and ends.
    pub(crate) fn validity(now_s: u64, lifetime_s: u32) -> (u64, u64) {
        (now_s, now_s.saturating_add(lifetime_s.into()))
    }

    /// Who signs.
    pub(crate) fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Whom tokens are for.
    pub(crate) fn audience(&self) -> &str {
        &self.audience
    }

    /// The keys whose tokens are accepted, for verifiers elsewhere.
    pub(crate) fn keys(&self) -> &Jwks {
        &self.accepted
    }

    /// Signs claims.
    pub(crate) fn sign(&self, claims: &TokenClaims) -> Result<String, String> {
        let claims = serde_json::to_vec(claims).map_err(|error| error.to_string())?;
        let signed = format!("{}.{}", self.header, URL_SAFE_NO_PAD.encode(claims));
        let signature = self
            .key
            .sign(&self.random, signed.as_bytes())
            .map_err(|_| "no random numbers".to_owned())?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    /// Checks a token's form, algorithm, key, signature, names and times.
    pub(crate) fn verify(
        &self,
        token: &str,
        tenant: &Tenant,
        now_s: u64,
    ) -> Result<TokenClaims, &'static str> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err("the token is too long");
        }
        let claims = self.accepted.verify(token)?;
        let claims: TokenClaims =
            serde_json::from_slice(&claims).map_err(|_| "the token's claims are malformed")?;
        if claims.iss != self.issuer {
            return Err("the token is of another issuer");
        }
        if claims.aud != self.audience {
            return Err("the token is for somebody else");
        }
        if claims.tenant != *tenant {
            return Err("the token is of another tenant");
        }
        if now_s >= claims.exp {
            return Err("the token has expired");
        }
        if now_s.saturating_add(LEEWAY_S) < claims.iat {
            return Err("the token is from the future");
        }
        Ok(claims)
    }
}

impl fmt::Debug for TokenSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenSigner")
            .field("accepted", &self.accepted)
            .finish_non_exhaustive()
    }
}

fn read_key(path: &Path) -> Result<SecretKey, KbsServerError> {
    require_private(path)?;
    let pem = read_text(path, MAX_KEY_BYTES)?;
    SecretKey::from_pkcs8_pem(&pem).map_err(|_| KbsServerError::TokenKey {
        path: path.to_owned(),
    })
}

fn public_key(key: &SecretKey) -> VerificationKey {
    let point = key.public_key().to_sec1_point(false);
    let mut bytes = [0; 65];
    for (to, from) in bytes.iter_mut().zip(point.as_bytes()) {
        *to = *from;
    }
    VerificationKey::from_point(bytes)
}

#[cfg(test)]
impl TokenClaims {
    /// Claims that say nothing, with this guest key.
    pub(crate) fn of_test(tee_pubkey: TeePublicKey) -> Self {
        Self {
            iss: "redoubt-kbs".to_owned(),
            aud: "redoubt-kbs".to_owned(),
            iat: 1000,
            exp: 1300,
            tenant: Tenant::default(),
            eat_nonce: "n".to_owned(),
            tee_pubkey,
            submods: json!({}),
            redoubt: Findings::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use redoubt_kbs_protocol::TeeKeyPair;

    use super::*;

    fn signer() -> TokenSigner {
        let key = SecretKey::try_generate().unwrap();
        let accepted = Jwks::new(vec![public_key(&key)]);
        TokenSigner::of(&key, accepted, &TokenSettings::default()).unwrap()
    }

    fn claims() -> TokenClaims {
        TokenClaims::of_test(TeeKeyPair::generate().unwrap().public_key())
    }

    fn verify(signer: &TokenSigner, token: &str, now_s: u64) -> Result<TokenClaims, &'static str> {
        signer.verify(token, &Tenant::default(), now_s)
    }

    #[test]
    fn own_token_reads_back_while_it_is_valid() {
        let signer = signer();
        let claims = claims();
        let token = signer.sign(&claims).unwrap();
        assert_eq!(verify(&signer, &token, 1000).unwrap(), claims);
        assert_eq!(verify(&signer, &token, 1299).unwrap(), claims);
        assert_eq!(verify(&signer, &token, 1300), Err("the token has expired"));
        assert_eq!(
            verify(&signer, &token, 969),
            Err("the token is from the future")
        );
    }

    #[test]
    fn tampered_and_foreign_tokens_are_refused() {
        let signer = signer();
        let token = signer.sign(&claims()).unwrap();
        let parts: Vec<&str> = token.split('.').collect();
        let header = |alg: &str| {
            URL_SAFE_NO_PAD
                .encode(json!({ "alg": alg, "kid": signer.keys().keys()[0].kid() }).to_string())
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
                format!("{}.{}.%", parts[0], parts[1]),
                "the token's signature is malformed",
            ),
            (
                format!("{}.{}.", parts[0], parts[1]),
                "the token's signature is wrong",
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
            assert_eq!(verify(&signer, &bad, 1100).unwrap_err(), reason);
        }
    }

    #[test]
    fn tokens_of_other_tenants_issuers_and_audiences_are_refused() {
        let signer = signer();
        let change = |change: &dyn Fn(&mut TokenClaims)| {
            let mut claims = claims();
            change(&mut claims);
            let token = signer.sign(&claims).unwrap();
            verify(&signer, &token, 1100).unwrap_err()
        };
        let other = |text: &str| text.to_owned();
        assert_eq!(
            change(&|c| c.iss = other("x")),
            "the token is of another issuer"
        );
        assert_eq!(
            change(&|c| c.aud = other("x")),
            "the token is for somebody else"
        );
        assert_eq!(
            change(&|c| c.tenant = Tenant::parse("x").unwrap()),
            "the token is of another tenant"
        );
    }

    #[test]
    fn tokens_of_a_former_key_are_accepted_while_it_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let settings = TokenSettings {
            private_key: dir.path().join("old.pem"),
            ..TokenSettings::default()
        };
        let token = TokenSigner::open(&settings)
            .unwrap()
            .sign(&claims())
            .unwrap();
        let renewed = TokenSettings {
            private_key: dir.path().join("new.pem"),
            previous_keys: vec![dir.path().join("old.pem")],
            ..TokenSettings::default()
        };
        let signer = TokenSigner::open(&renewed).unwrap();
        assert!(verify(&signer, &token, 1100).is_ok());
        assert_eq!(signer.keys().keys().len(), 2);
        let alone = TokenSettings {
            previous_keys: Vec::new(),
            ..renewed
        };
        let signer = TokenSigner::open(&alone).unwrap();
        assert!(verify(&signer, &token, 1100).is_err());
    }

    /// Another service checks a token by the announced keys alone.
    #[test]
    fn announced_keys_verify_tokens() {
        let signer = signer();
        let token = signer.sign(&claims()).unwrap();
        let announced = signer.keys().to_json().to_string();
        let keys = Jwks::parse(announced.as_bytes()).unwrap();
        let seen: Value = serde_json::from_slice(&keys.verify(&token).unwrap()).unwrap();
        assert_eq!(seen["eat_nonce"], "n");
        assert_eq!(seen["aud"], "redoubt-kbs");
    }

    #[test]
    fn key_is_made_once_with_mode_0600_and_kept() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let settings = TokenSettings {
            private_key: dir.path().join("token-key.pem"),
            ..TokenSettings::default()
        };
        let path = &settings.private_key;
        let first = TokenSigner::open(&settings).unwrap();
        let mode = std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let second = TokenSigner::open(&settings).unwrap();
        assert_eq!(first.keys(), second.keys());
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let refused = TokenSigner::open(&settings).unwrap_err();
        assert!(matches!(
            refused,
            KbsServerError::KeyIsReadable { mode: 0o644, .. }
        ));
    }
}
