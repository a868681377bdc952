use std::fmt;

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Key, Nonce as GcmNonce, Tag};
use aes_kw::KwAes256;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce as RingNonce, UnboundKey};
use ring::agreement::{ECDH_P256, EphemeralPrivateKey, UnparsedPublicKey, agree_ephemeral};
use ring::rand::SystemRandom;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, Zeroizing};

use crate::message::parse_json;
use crate::{
    KEY_ALGORITHM, KbsProtocolError, MAX_RESOURCE_BYTES, MAX_RESPONSE_BYTES, MessageKind,
    TeeKeyPair, TeePublicKey,
};

const CONTENT_ALGORITHM: &str = "A256GCM";
const KEY_BYTES: usize = 32;
const WRAPPED_KEY_BYTES: usize = KEY_BYTES + 8;
const IV_BYTES: usize = 12;
const TAG_BYTES: usize = 16;
const MAX_HEADER_BYTES: usize = 4096;
const MAX_PARTY_INFO_BYTES: usize = 256;

/// An encrypted resource: flattened JWE JSON (RFC 7516 section 7.2.2).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JweResponse {
    protected: String,
    encrypted_key: String,
    iv: String,
    ciphertext: String,
    tag: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    aad: Option<String>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    enc: String,
    epk: Option<Value>,
    apu: Option<String>,
    apv: Option<String>,
    crit: Option<Value>,
    zip: Option<Value>,
}

impl JweResponse {
    /// Reads a response.
    pub fn parse(body: &[u8]) -> Result<Self, KbsProtocolError> {
        parse_json(body, MessageKind::ResourceResponse, MAX_RESPONSE_BYTES)
    }

    /// Writes the response.
    pub fn to_json(&self) -> Vec<u8> {
        json!(self).to_string().into_bytes()
    }

    /// Encrypts a resource to a guest's key.
    pub fn seal(key: &TeePublicKey, resource: &[u8]) -> Result<Self, KbsProtocolError> {
        if resource.len() > MAX_RESOURCE_BYTES {
            return Err(KbsProtocolError::ResourceTooLarge {
                size_bytes: resource.len(),
                limit_bytes: MAX_RESOURCE_BYTES,
            });
        }
        let mut content_key = Zeroizing::new([0_u8; KEY_BYTES]);
        let mut iv = [0_u8; IV_BYTES];
        getrandom::fill(content_key.as_mut()).map_err(|_| KbsProtocolError::NoRandomness)?;
        getrandom::fill(&mut iv).map_err(|_| KbsProtocolError::NoRandomness)?;

        let (epk, wrapping_key) = agree_once(key)?;
        let header = json!({ "alg": KEY_ALGORITHM, "enc": CONTENT_ALGORITHM, "epk": epk });
        let protected = URL_SAFE_NO_PAD.encode(header.to_string());
        let mut wrapped = [0_u8; WRAPPED_KEY_BYTES];
        KwAes256::new(&Key::<Aes256Gcm>::from(*wrapping_key))
            .wrap_key(content_key.as_ref(), &mut wrapped)
            .map_err(|_| KbsProtocolError::EncryptionFailed)?;

        let mut buffer = Zeroizing::new(resource.to_vec());
        let tag = UnboundKey::new(&AES_256_GCM, content_key.as_ref())
            .map(LessSafeKey::new)
            .and_then(|key| {
                key.seal_in_place_separate_tag(
                    RingNonce::assume_unique_for_key(iv),
                    Aad::from(protected.as_bytes()),
                    &mut buffer,
                )
            })
            .map_err(|_| KbsProtocolError::EncryptionFailed)?;
        Ok(Self {
            protected,
            encrypted_key: URL_SAFE_NO_PAD.encode(wrapped),
            iv: URL_SAFE_NO_PAD.encode(iv),
            ciphertext: URL_SAFE_NO_PAD.encode(buffer.as_slice()),
            tag: URL_SAFE_NO_PAD.encode(tag.as_ref()),
            aad: None,
        })
    }

    /// Decrypts the resource with the guest's key.
    ///
    /// The header is authenticated as the text that was received, so that a
    /// broker may order its members as it likes.
    pub fn open(&self, key: &TeeKeyPair) -> Result<Zeroizing<Vec<u8>>, KbsProtocolError> {
        let header = self.header()?;
        let epk = header
            .epk
            .as_ref()
            .ok_or(KbsProtocolError::MalformedJwe("epk is missing"))?;
        let epk = TeePublicKey::from_ephemeral(epk)?;
        let apu = party_info(header.apu.as_deref())?;
        let apv = party_info(header.apv.as_deref())?;

        let wrapped: [u8; WRAPPED_KEY_BYTES] = fixed(
            &self.encrypted_key,
            "encrypted_key is not 40 bytes in base64url",
        )?;
        let iv: [u8; IV_BYTES] = fixed(&self.iv, "iv is not 12 bytes in base64url")?;
        let tag: [u8; TAG_BYTES] = fixed(&self.tag, "tag is not 16 bytes in base64url")?;
        let mut buffer = URL_SAFE_NO_PAD
            .decode(&self.ciphertext)
            .map(Zeroizing::new)
            .map_err(|_| KbsProtocolError::MalformedJwe("ciphertext is not base64url"))?;

        let wrapping_key = agree(key, &epk, &apu, &apv);
        let mut content_key = Zeroizing::new([0_u8; KEY_BYTES]);
        KwAes256::new(&Key::<Aes256Gcm>::from(*wrapping_key))
            .unwrap_key(&wrapped, content_key.as_mut())
            .map_err(|_| KbsProtocolError::DecryptionFailed)?;
        Aes256Gcm::new(&Key::<Aes256Gcm>::from(*content_key))
            .decrypt_inout_detached(
                &GcmNonce::from(iv),
                self.authenticated_text().as_bytes(),
                buffer.as_mut_slice().into(),
                &Tag::from(tag),
            )
            .map_err(|_| KbsProtocolError::DecryptionFailed)?;
        Ok(buffer)
    }

    fn header(&self) -> Result<Header, KbsProtocolError> {
        if self.protected.len() > MAX_HEADER_BYTES {
            return Err(KbsProtocolError::MalformedJwe("the header is too long"));
        }
        let header = URL_SAFE_NO_PAD
            .decode(&self.protected)
            .map_err(|_| KbsProtocolError::MalformedJwe("the header is not base64url"))?;
        let header: Header = serde_json::from_slice(&header)
            .map_err(|_| KbsProtocolError::MalformedJwe("the header is not a JWE header"))?;
        if header.crit.is_some() {
            return Err(KbsProtocolError::UnsupportedJwe("critical header members"));
        }
        if header.zip.is_some() {
            return Err(KbsProtocolError::UnsupportedJwe("compression"));
        }
        if header.alg != KEY_ALGORITHM {
            return Err(KbsProtocolError::UnsupportedJwe(
                "an alg other than ECDH-ES+A256KW",
            ));
        }
        if header.enc != CONTENT_ALGORITHM {
            return Err(KbsProtocolError::UnsupportedJwe(
                "an enc other than A256GCM",
            ));
        }
        Ok(header)
    }

    /// RFC 7516 section 5.1 step 14.
    fn authenticated_text(&self) -> String {
        match &self.aad {
            None => self.protected.clone(),
            Some(aad) => format!("{}.{aad}", self.protected),
        }
    }
}

impl fmt::Debug for JweResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JweResponse")
            .field("protected", &self.protected)
            .field("ciphertext_chars", &self.ciphertext.len())
            .finish_non_exhaustive()
    }
}

/// Agrees with a fresh key, which is forgotten: a broker does this for every
/// answer, so that the faster library is used. Returns the public half for the
/// header.
fn agree_once(
    public: &TeePublicKey,
) -> Result<(Value, Zeroizing<[u8; KEY_BYTES]>), KbsProtocolError> {
    let random = SystemRandom::new();
    let no_randomness = |_| KbsProtocolError::NoRandomness;
    let secret = EphemeralPrivateKey::generate(&ECDH_P256, &random).map_err(no_randomness)?;
    let own = secret.compute_public_key().map_err(no_randomness)?;
    let epk = TeePublicKey::from_sec1(own.as_ref())?.to_ephemeral();
    let peer = UnparsedPublicKey::new(&ECDH_P256, public.to_sec1());
    let key = agree_ephemeral(secret, &peer, |shared| derive(shared, &[], &[]))
        .map_err(|_| KbsProtocolError::EncryptionFailed)?;
    Ok((epk, key))
}

/// Agrees with the guest's key, which serves for a whole session.
fn agree(
    secret: &TeeKeyPair,
    public: &TeePublicKey,
    apu: &[u8],
    apv: &[u8],
) -> Zeroizing<[u8; KEY_BYTES]> {
    let shared = secret.inner().diffie_hellman(public.inner());
    derive(shared.raw_secret_bytes(), apu, apv)
}

/// ECDH-ES with Concat KDF (RFC 7518 section 4.6.2): one round of SHA-256
/// gives the 256-bit wrapping key. `AlgorithmID` is the whole `alg`, since the
/// agreed key wraps another.
fn derive(shared: &[u8], apu: &[u8], apv: &[u8]) -> Zeroizing<[u8; KEY_BYTES]> {
    const KEY_BITS: u32 = 256;
    let mut hash = Sha256::new();
    hash.update(1_u32.to_be_bytes());
    hash.update(shared);
    for info in [KEY_ALGORITHM.as_bytes(), apu, apv] {
        // The parts are bounded to a few hundred bytes before this point.
        hash.update(u32::try_from(info.len()).unwrap_or(u32::MAX).to_be_bytes());
        hash.update(info);
    }
    hash.update(KEY_BITS.to_be_bytes());
    let mut digest = hash.finalize();
    let key = Zeroizing::new(digest.into());
    digest.as_mut_slice().zeroize();
    key
}

fn party_info(text: Option<&str>) -> Result<Vec<u8>, KbsProtocolError> {
    let text = text.unwrap_or_default();
    if text.len() > MAX_PARTY_INFO_BYTES {
        return Err(KbsProtocolError::MalformedJwe("apu or apv is too long"));
    }
    URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_| KbsProtocolError::MalformedJwe("apu or apv is not base64url"))
}

fn fixed<const N: usize>(text: &str, wrong: &'static str) -> Result<[u8; N], KbsProtocolError> {
    let mut out = [0_u8; N];
    match URL_SAFE_NO_PAD.decode_slice(text, &mut out) {
        Ok(length) if length == N => Ok(out),
        _ => Err(KbsProtocolError::MalformedJwe(wrong)),
    }
}
