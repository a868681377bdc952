//! Tokens of administrators: JWTs signed with Ed25519 (RFC 8037).

use std::fmt;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::KbsServerError;
use crate::files::{read_bytes, require_private};
use crate::names::Tenant;

/// The `aud` of every administrator's token.
const AUDIENCE: &str = "redoubt-kbs-admin";

/// Longest token, in bytes.
const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// Longest time for which a token may be valid, in seconds.
const MAX_LIFETIME_S: u64 = 15 * 60;

/// How far the administrator's clock may be ahead, in seconds.
const LEEWAY_S: u64 = 30;

const MAX_SUBJECT_BYTES: usize = 128;
const MAX_TENANTS: usize = 64;
const MAX_KEY_FILE_BYTES: u64 = 16 * 1024;
const KEY_BYTES: usize = 32;

/// `SubjectPublicKeyInfo` of an Ed25519 key up to the key itself (RFC 8410 section 4).
const SPKI_HEAD: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

/// What an administrator may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AdminRole {
    /// Everything.
    Admin,
    /// Look at names, policies, reference values and the head of the audit log.
    Reader,
}

/// The claims of an administrator's token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdminClaims {
    /// Whom it is for.
    pub aud: String,
    /// Who it is, for the audit log.
    pub sub: String,
    /// When it was made, in seconds since 1970.
    pub iat: u64,
    /// When it ends, in seconds since 1970.
    pub exp: u64,
    /// What its holder may do.
    pub role: AdminRole,
    /// For which tenants; `*` is every one, and the storage's key.
    pub tenants: Vec<String>,
}

impl AdminClaims {
    /// Claims for every tenant, valid for `lifetime_s` from `now_s` on.
    pub fn new(sub: impl Into<String>, role: AdminRole, now_s: u64, lifetime_s: u64) -> Self {
        Self {
            aud: AUDIENCE.to_owned(),
            sub: sub.into(),
            iat: now_s,
            exp: now_s.saturating_add(lifetime_s.min(MAX_LIFETIME_S)),
            role,
            tenants: vec!["*".to_owned()],
        }
    }

    /// Whether its holder may act for a tenant.
    pub(crate) fn covers(&self, tenant: &Tenant) -> bool {
        self.covers_all() || self.tenants.iter().any(|name| name == tenant.as_str())
    }

    /// Whether its holder may act for every tenant.
    pub(crate) fn covers_all(&self) -> bool {
        self.tenants.iter().any(|name| name == "*")
    }
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    crit: Option<Value>,
}

/// The public keys of administrators.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AdminKeys {
    keys: Vec<[u8; KEY_BYTES]>,
}

impl AdminKeys {
    /// Takes public keys.
    pub fn new(keys: Vec<[u8; KEY_BYTES]>) -> Self {
        Self { keys }
    }

    /// Reads public keys in PEM.
    pub(crate) fn load(paths: &[std::path::PathBuf]) -> Result<Self, KbsServerError> {
        let mut keys = Vec::new();
        for path in paths {
            let pem = read_bytes(path, MAX_KEY_FILE_BYTES)?;
            let key = parse_admin_key(&pem)
                .ok_or_else(|| KbsServerError::AdminKey { path: path.clone() })?;
            keys.push(key);
        }
        Ok(Self { keys })
    }

    /// Whether nobody is an administrator.
    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Checks a token's form, algorithm, signature, names and times.
    pub fn verify(&self, token: &str, now_s: u64) -> Result<AdminClaims, &'static str> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err("the token is too long");
        }
        let (signed, signature) = token.rsplit_once('.').ok_or("the token is not a JWT")?;
        let (header, claims) = signed.split_once('.').ok_or("the token is not a JWT")?;
        let header: Header = decode_json(header).ok_or("the token's header is malformed")?;
        if header.alg != "EdDSA" {
            return Err("the token is not signed with EdDSA");
        }
        if header.crit.is_some() {
            return Err("the token's header has critical members");
        }
        let signature = URL_SAFE_NO_PAD
            .decode(signature)
            .map_err(|_| "the token's signature is malformed")?;
        let good = |key: &[u8; KEY_BYTES]| {
            UnparsedPublicKey::new(&ED25519, key)
                .verify(signed.as_bytes(), &signature)
                .is_ok()
        };
        if !self.keys.iter().any(good) {
            return Err("the token is not signed by an administrator");
        }
        let claims: AdminClaims = decode_json(claims).ok_or("the token's claims are malformed")?;
        check(&claims, now_s)?;
        Ok(claims)
    }
}

fn check(claims: &AdminClaims, now_s: u64) -> Result<(), &'static str> {
    if claims.aud != AUDIENCE {
        return Err("the token is for somebody else");
    }
    let visible = |b: u8| b.is_ascii_graphic();
    let subject = &claims.sub;
    if !(1..=MAX_SUBJECT_BYTES).contains(&subject.len()) || !subject.bytes().all(visible) {
        return Err("the token's subject is not 1 to 128 visible characters");
    }
    if claims.tenants.len() > MAX_TENANTS {
        return Err("the token names too many tenants");
    }
    if now_s >= claims.exp {
        return Err("the token has expired");
    }
    if now_s.saturating_add(LEEWAY_S) < claims.iat {
        return Err("the token is from the future");
    }
    match claims.exp.checked_sub(claims.iat) {
        Some(0..=MAX_LIFETIME_S) => Ok(()),
        _ => Err("the token is valid for more than 15 minutes"),
    }
}

fn decode_json<T: serde::de::DeserializeOwned>(part: &str) -> Option<T> {
    let bytes = URL_SAFE_NO_PAD.decode(part).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// Reads an Ed25519 public key in PEM.
pub fn parse_admin_key(pem: &[u8]) -> Option<[u8; KEY_BYTES]> {
    let der = SubjectPublicKeyInfoDer::from_pem_slice(pem).ok()?;
    der.as_ref().strip_prefix(&SPKI_HEAD)?.try_into().ok()
}

/// An administrator's private key.
pub struct AdminSigner {
    pair: Ed25519KeyPair,
}

impl AdminSigner {
    /// Makes a key; returns it as PEM, private and public.
    pub fn generate() -> Result<(Zeroizing<String>, String), KbsServerError> {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())
            .map_err(|_| KbsServerError::NoRandomness)?;
        let pair = Ed25519KeyPair::from_pkcs8(document.as_ref())
            .map_err(|error| KbsServerError::KeyGeneration(error.to_string().into()))?;
        let public = [&SPKI_HEAD, pair.public_key().as_ref()].concat();
        let private = Zeroizing::new(pem("PRIVATE KEY", document.as_ref()));
        Ok((private, pem("PUBLIC KEY", &public)))
    }

    /// Reads a private key (PKCS#8 in PEM) that its owner alone can read.
    pub fn load(path: &Path) -> Result<Self, KbsServerError> {
        require_private(path)?;
        let pem = read_bytes(path, MAX_KEY_FILE_BYTES)?;
        Self::from_pem(&pem).ok_or_else(|| KbsServerError::AdminKey {
            path: path.to_owned(),
        })
    }

    /// Reads a private key (PKCS#8 in PEM).
    pub fn from_pem(pem: &[u8]) -> Option<Self> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem).ok()?;
        // OpenSSL leaves out the public half.
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der()).ok()?;
        Some(Self { pair })
    }

    /// Makes a token.
    pub fn sign(&self, claims: &AdminClaims) -> Zeroizing<String> {
        self.sign_bytes(json!(claims).to_string().as_bytes())
    }

    pub(crate) fn sign_bytes(&self, claims: &[u8]) -> Zeroizing<String> {
        let header = json!({ "alg": "EdDSA", "typ": "JWT" });
        let mut token = Zeroizing::new(format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header.to_string()),
            URL_SAFE_NO_PAD.encode(claims)
        ));
        let signature = self.pair.sign(token.as_bytes());
        token.push('.');
        token.push_str(&URL_SAFE_NO_PAD.encode(signature));
        token
    }

    /// The public half.
    pub fn public_key(&self) -> [u8; KEY_BYTES] {
        let mut key = [0; KEY_BYTES];
        for (to, from) in key.iter_mut().zip(self.pair.public_key().as_ref()) {
            *to = *from;
        }
        key
    }
}

impl fmt::Debug for AdminSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminSigner(..)")
    }
}

/// PEM with lines of 64 characters (RFC 7468).
fn pem(label: &str, der: &[u8]) -> String {
    let body = Zeroizing::new(STANDARD.encode(der));
    let mut text = String::with_capacity(body.len() + 2 * label.len() + 64);
    text.push_str("-----BEGIN ");
    text.push_str(label);
    text.push_str("-----\n");
    for line in body.as_bytes().chunks(64) {
        text.push_str(std::str::from_utf8(line).unwrap_or_default());
        text.push('\n');
    }
    text.push_str("-----END ");
    text.push_str(label);
    text.push_str("-----\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signer() -> AdminSigner {
        let (private, _) = AdminSigner::generate().unwrap();
        AdminSigner::from_pem(private.as_bytes()).unwrap()
    }

    fn claims() -> AdminClaims {
        AdminClaims::new("alice", AdminRole::Admin, 1000, 300)
    }

    #[test]
    fn token_of_a_known_key_is_taken_while_it_is_valid() {
        let signer = signer();
        let keys = AdminKeys::new(vec![[7; 32], signer.public_key()]);
        let token = signer.sign(&claims());
        assert_eq!(keys.verify(&token, 1000).unwrap(), claims());
        assert_eq!(keys.verify(&token, 1300), Err("the token has expired"));
        assert_eq!(
            keys.verify(&token, 969),
            Err("the token is from the future")
        );
        let others = AdminKeys::new(vec![[7; 32]]);
        let refused = Err("the token is not signed by an administrator");
        assert_eq!(others.verify(&token, 1000), refused);
        assert_eq!(AdminKeys::default().verify(&token, 1000), refused);
    }

    #[test]
    fn claims_beyond_their_bounds_are_refused() {
        let signer = signer();
        let keys = AdminKeys::new(vec![signer.public_key()]);
        let with = |change: &dyn Fn(&mut AdminClaims)| {
            let mut claims = claims();
            change(&mut claims);
            keys.verify(&signer.sign(&claims), 1000).unwrap_err()
        };
        let text = |text: &str| text.to_owned();
        assert_eq!(
            with(&|c| c.aud = text("x")),
            "the token is for somebody else"
        );
        for subject in ["", "a b", "ä", &"x".repeat(129)] {
            assert!(
                with(&|c| c.sub = text(subject)).contains("subject"),
                "{subject}"
            );
        }
        assert!(with(&|c| c.exp = 1000 + 901).contains("15 minutes"));
        assert!(with(&|c| c.tenants = vec![text("t"); 65]).contains("tenants"));
    }

    #[test]
    fn other_algorithms_and_altered_tokens_are_refused() {
        let signer = signer();
        let keys = AdminKeys::new(vec![signer.public_key()]);
        let token = signer.sign(&claims());
        let parts: Vec<&str> = token.split('.').collect();
        let header = |alg: &str| URL_SAFE_NO_PAD.encode(json!({ "alg": alg }).to_string());
        for bad in [
            String::new(),
            "a.b".to_owned(),
            "..".to_owned(),
            format!("{}.{}.", header("none"), parts[1]),
            format!("{}.{}.{}", header("HS256"), parts[1], parts[2]),
            format!("{}.{}.{}", header("EdDSA"), parts[1], parts[2]),
            format!("{}.{}.", parts[0], parts[1]),
            format!("{}.{}.{}", parts[0], parts[2], parts[2]),
            "a".repeat(MAX_TOKEN_BYTES + 1),
        ] {
            assert!(keys.verify(&bad, 1000).is_err(), "{bad:.60}");
        }
    }

    #[test]
    fn keys_are_read_as_other_tools_write_them() {
        let (private, public) = AdminSigner::generate().unwrap();
        let signer = AdminSigner::from_pem(private.as_bytes()).unwrap();
        assert_eq!(
            parse_admin_key(public.as_bytes()),
            Some(signer.public_key())
        );
        // `openssl genpkey -algorithm ed25519` and `openssl pkey -pubout` of the key of
        // RFC 8410 section 10.
        let openssl = "-----BEGIN PRIVATE KEY-----\n\
            MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
            -----END PRIVATE KEY-----\n";
        let public = "-----BEGIN PUBLIC KEY-----\n\
            MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n\
            -----END PUBLIC KEY-----\n";
        let signer = AdminSigner::from_pem(openssl.as_bytes()).unwrap();
        assert_eq!(
            parse_admin_key(public.as_bytes()),
            Some(signer.public_key())
        );
        for bad in ["", "hello", openssl] {
            assert_eq!(parse_admin_key(bad.as_bytes()), None);
        }
        assert!(AdminSigner::from_pem(public.as_bytes()).is_none());
    }

    #[test]
    fn tenants_are_covered_by_name_or_star() {
        let mut claims = claims();
        let tenant = Tenant::parse("a").unwrap();
        assert!(claims.covers(&tenant) && claims.covers_all());
        claims.tenants = vec!["b".to_owned()];
        assert!(!claims.covers(&tenant));
        claims.tenants.push("a".to_owned());
        assert!(claims.covers(&tenant) && !claims.covers_all());
    }
}
