//! RSA keys and certificates of recipients, for host tools.
//!
//! Private-key operations of the RSA library can leak the key to who can
//! measure many of them (RUSTSEC-2023-0071). Here a person opens an image on a
//! machine of theirs, with blinding; a guest, which an untrusted host observes,
//! is built without this module.

use getrandom::SysRng;
use rsa::pkcs1::{DecodeRsaPrivateKey, DecodeRsaPublicKey};
use rsa::pkcs8::{DecodePrivateKey, DecodePublicKey};
use rsa::rand_core::UnwrapErr;
use rsa::traits::PublicKeyParts;
use rsa::{BoxedUint, Oaep, Pkcs1v15Encrypt, RsaPrivateKey, RsaPublicKey};
use sha1::Sha1;
use sha2::Sha256;
use x509_cert::Certificate;
use x509_cert::der::{Decode, DecodePem, Encode};
use zeroize::Zeroizing;

use crate::base64_text;
use crate::errors::OcicryptError;
use crate::keys::{Jwk, MAX_KEY_BYTES};

/// Moduli that are accepted, in bytes: 2048 to 8192 bits.
const MODULUS_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

/// How a key is wrapped with RSA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RsaPadding {
    /// OAEP with SHA-1 (`RSA-OAEP` of RFC 7518).
    OaepSha1,
    /// OAEP with SHA-256 (`RSA-OAEP-256` of RFC 7518).
    OaepSha256,
    /// PKCS #1 v1.5, as CMS has it by default.
    Pkcs1v15,
}

fn invalid(reason: &'static str) -> OcicryptError {
    OcicryptError::KeyInvalid { reason }
}

fn checked_public(key: RsaPublicKey) -> Result<RsaPublicKey, OcicryptError> {
    if MODULUS_BYTES.contains(&key.size()) {
        Ok(key)
    } else {
        Err(invalid("an RSA modulus must have 2048 to 8192 bits"))
    }
}

fn checked_private(key: RsaPrivateKey) -> Result<RsaPrivateKey, OcicryptError> {
    checked_public(key.to_public_key())?;
    Ok(key)
}

/// Reads PKCS#8 or PKCS#1, in PEM.
pub(crate) fn private_from_pem(text: &str) -> Option<Result<RsaPrivateKey, OcicryptError>> {
    let text = text.trim_end();
    let key = RsaPrivateKey::from_pkcs8_pem(text)
        .ok()
        .or_else(|| RsaPrivateKey::from_pkcs1_pem(text).ok())?;
    Some(checked_private(key))
}

/// Reads PKCS#8 or PKCS#1, in DER.
pub(crate) fn private_from_der(der: &[u8]) -> Option<Result<RsaPrivateKey, OcicryptError>> {
    let key = RsaPrivateKey::from_pkcs8_der(der)
        .ok()
        .or_else(|| RsaPrivateKey::from_pkcs1_der(der).ok())?;
    Some(checked_private(key))
}

/// Reads `SubjectPublicKeyInfo` or PKCS#1, in PEM.
pub(crate) fn public_from_pem(text: &str) -> Option<Result<RsaPublicKey, OcicryptError>> {
    let key = RsaPublicKey::from_public_key_pem(text)
        .ok()
        .or_else(|| RsaPublicKey::from_pkcs1_pem(text).ok())?;
    Some(checked_public(key))
}

/// Reads `SubjectPublicKeyInfo` or PKCS#1, in DER.
pub(crate) fn public_from_der(der: &[u8]) -> Option<Result<RsaPublicKey, OcicryptError>> {
    let key = RsaPublicKey::from_public_key_der(der)
        .ok()
        .or_else(|| RsaPublicKey::from_pkcs1_der(der).ok())?;
    Some(checked_public(key))
}

fn number(text: Option<&String>) -> Result<BoxedUint, OcicryptError> {
    let bytes = text
        .and_then(|text| base64_text::decode_url(text))
        .filter(|bytes| bytes.len() <= *MODULUS_BYTES.end())
        .ok_or_else(|| invalid("a number of the RSA key is absent or too long"))?;
    let bits = u32::try_from(bytes.len() * 8).map_err(|_| invalid("too large"))?;
    BoxedUint::from_be_slice(&bytes, bits).map_err(|_| invalid("too large"))
}

/// Reads the members of a JSON web key (RFC 7518 §6.3).
pub(crate) fn private_from_jwk(jwk: &Jwk) -> Result<RsaPrivateKey, OcicryptError> {
    let primes = vec![number(jwk.p.as_ref())?, number(jwk.q.as_ref())?];
    let (modulus, exponent) = (number(jwk.n.as_ref())?, number(jwk.e.as_ref())?);
    let key = RsaPrivateKey::from_components(modulus, exponent, number(jwk.d.as_ref())?, primes)
        .map_err(|_| invalid("the numbers of the RSA key do not belong together"))?;
    checked_private(key)
}

/// Reads the members of a JSON web key (RFC 7518 §6.3).
pub(crate) fn public_from_jwk(jwk: &Jwk) -> Result<RsaPublicKey, OcicryptError> {
    let key = RsaPublicKey::new(number(jwk.n.as_ref())?, number(jwk.e.as_ref())?)
        .map_err(|_| invalid("not an RSA key"))?;
    checked_public(key)
}

/// Wraps a content key.
pub(crate) fn wrap(
    key: &RsaPublicKey,
    padding: RsaPadding,
    content_key: &[u8],
) -> Result<Vec<u8>, OcicryptError> {
    let mut random = UnwrapErr(SysRng);
    match padding {
        RsaPadding::OaepSha1 => key.encrypt(&mut random, Oaep::<Sha1>::new(), content_key),
        RsaPadding::OaepSha256 => key.encrypt(&mut random, Oaep::<Sha256>::new(), content_key),
        RsaPadding::Pkcs1v15 => key.encrypt(&mut random, Pkcs1v15Encrypt, content_key),
    }
    .map_err(|_| invalid("the RSA key cannot wrap a key"))
}

/// Unwraps a content key; `None` when it is not for this key.
pub(crate) fn unwrap(
    key: &RsaPrivateKey,
    padding: RsaPadding,
    wrapped: &[u8],
) -> Option<Zeroizing<Vec<u8>>> {
    let mut random = UnwrapErr(SysRng);
    match padding {
        RsaPadding::OaepSha1 => key.decrypt_blinded(&mut random, Oaep::<Sha1>::new(), wrapped),
        RsaPadding::OaepSha256 => key.decrypt_blinded(&mut random, Oaep::<Sha256>::new(), wrapped),
        RsaPadding::Pkcs1v15 => key.decrypt_blinded(&mut random, Pkcs1v15Encrypt, wrapped),
    }
    .ok()
    .map(Zeroizing::new)
}

/// The certificate of a PKCS #7 recipient; its key is an RSA key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecipientCertificate {
    pub(crate) key: RsaPublicKey,
    /// DER of the issuer's name.
    pub(crate) issuer: Vec<u8>,
    /// DER of the serial number, an INTEGER.
    pub(crate) serial: Vec<u8>,
}

impl RecipientCertificate {
    /// Reads a certificate, PEM or DER. Its dates and issuer are not checked:
    /// it names a key, as a file that someone chose.
    pub fn parse(bytes: &[u8]) -> Result<Self, OcicryptError> {
        if bytes.len() > MAX_KEY_BYTES {
            return Err(invalid("too large"));
        }
        let unreadable = |_| invalid("not an X.509 certificate");
        let certificate = if bytes.trim_ascii_start().starts_with(b"-----BEGIN") {
            Certificate::from_pem(bytes.trim_ascii()).map_err(unreadable)?
        } else {
            Certificate::from_der(bytes).map_err(unreadable)?
        };
        let certificate = certificate.tbs_certificate();
        let key = certificate
            .subject_public_key_info()
            .to_der()
            .map_err(unreadable)?;
        Ok(Self {
            key: public_from_der(&key)
                .ok_or_else(|| invalid("the certificate's key is not an RSA key"))??,
            issuer: certificate.issuer().to_der().map_err(unreadable)?,
            serial: certificate.serial_number().to_der().map_err(unreadable)?,
        })
    }
}
