//! ID keys, author keys and their signatures.

use std::fmt;

use p384::ecdsa::signature::{Signer, Verifier};
use p384::ecdsa::{self, Signature};
use p384::elliptic_curve::sec1::{FromSec1Point, ToSec1Point};
use p384::pkcs8::DecodePrivateKey;
use p384::{Sec1Point, SecretKey};
use sha2::{Digest, Sha384};

use crate::error::{IdBlockError, IdPart};
use crate::fields::{array, check_reserved, u32_at};

/// Length of a public key's structure in bytes.
pub const KEY_BYTES: usize = 0x404;
/// Length of a signature's structure in bytes.
pub const SIGNATURE_BYTES: usize = 0x200;

/// The number of P-384 in `CURVE`.
const CURVE_P384: u32 = 2;
/// Length of a coordinate or scalar of P-384 in bytes.
const SCALAR_BYTES: usize = 48;
/// Length of the field that holds one, little-endian.
const FIELD_BYTES: usize = 72;
const QX: usize = 4;
const QY: usize = QX + FIELD_BYTES;

/// A private ID key or author key, wiped when it is dropped.
#[derive(Clone)]
pub struct SigningKey(SecretKey);

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(..)")
    }
}

impl SigningKey {
    /// Reads an unencrypted P-384 key in PEM: PKCS #8 (`PRIVATE KEY`) or SEC 1 (`EC PRIVATE KEY`).
    pub fn from_pem(pem: &str) -> Result<Self, IdBlockError> {
        SecretKey::from_pkcs8_pem(pem)
            .ok()
            .or_else(|| SecretKey::from_sec1_pem(pem).ok())
            .map(Self)
            .ok_or(IdBlockError::KeyPem)
    }

    /// The public half.
    pub fn public(&self) -> Result<PublicKey, IdBlockError> {
        PublicKey::of(&self.0.public_key())
    }

    /// Signs with SHA-384. The same message gives the same signature (RFC 6979).
    pub(crate) fn sign(&self, message: &[u8]) -> Result<[u8; SIGNATURE_BYTES], IdBlockError> {
        let signature: Signature = ecdsa::SigningKey::from(&self.0)
            .try_sign(message)
            .map_err(|_| IdBlockError::Sign)?;
        let (r, s) = signature.split_bytes();
        let mut bytes = [0; SIGNATURE_BYTES];
        put_reversed(&mut bytes, 0, &r);
        put_reversed(&mut bytes, FIELD_BYTES, &s);
        Ok(bytes)
    }
}

/// A public key as its structure stands in the authentication (AMD 56860, `ECDSA P-384 Public Key`).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey([u8; KEY_BYTES]);

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey(digest {})", hex::encode(self.digest()))
    }
}

impl PublicKey {
    fn of(key: &p384::PublicKey) -> Result<Self, IdBlockError> {
        let point = key.to_sec1_point(false);
        let (Some(x), Some(y)) = (point.x(), point.y()) else {
            return Err(IdBlockError::KeyPem);
        };
        let mut bytes = [0; KEY_BYTES];
        bytes[..QX].copy_from_slice(&CURVE_P384.to_le_bytes());
        put_reversed(&mut bytes, QX, x);
        put_reversed(&mut bytes, QY, y);
        Ok(Self(bytes))
    }

    /// Takes a structure that stands at `offset` of the authentication.
    pub(crate) fn parse(bytes: &[u8; KEY_BYTES], offset: usize) -> Result<Self, IdBlockError> {
        let curve = u32_at(bytes, 0);
        if curve != CURVE_P384 {
            return Err(IdBlockError::Curve { offset, curve });
        }
        let key = Self(*bytes);
        check_reserved(IdPart::Auth, bytes, QY + FIELD_BYTES, KEY_BYTES)
            .map_err(|error| error.moved_by(offset))?;
        key.verifying_key()
            .ok_or(IdBlockError::KeyPoint { offset })?;
        Ok(key)
    }

    fn verifying_key(&self) -> Option<ecdsa::VerifyingKey> {
        let x = scalar(array::<FIELD_BYTES, KEY_BYTES>(&self.0, QX))?;
        let y = scalar(array::<FIELD_BYTES, KEY_BYTES>(&self.0, QY))?;
        let point = Sec1Point::from_affine_coordinates(&x.into(), &y.into(), false);
        let key = p384::PublicKey::from_sec1_point(&point);
        key.into_option().map(Into::into)
    }

    /// The structure's bytes.
    pub fn as_bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// What reports repeat as `ID_KEY_DIGEST` or `AUTHOR_KEY_DIGEST`: SHA-384 of the structure.
    pub fn digest(&self) -> [u8; 48] {
        Sha384::digest(self.0).into()
    }

    /// True if `signature` is this key's for `message`.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8; SIGNATURE_BYTES]) -> bool {
        let halves = (
            scalar(array::<FIELD_BYTES, SIGNATURE_BYTES>(signature, 0)),
            scalar(array::<FIELD_BYTES, SIGNATURE_BYTES>(
                signature,
                FIELD_BYTES,
            )),
        );
        let (Some(r), Some(s)) = halves else {
            return false;
        };
        let rest_is_zero = signature
            .iter()
            .skip(2 * FIELD_BYTES)
            .all(|byte| *byte == 0);
        let signature = Signature::from_scalars(r, s);
        rest_is_zero
            && self
                .verifying_key()
                .zip(signature.ok())
                .is_some_and(|(key, signature)| key.verify(message, &signature).is_ok())
    }
}

/// A big-endian scalar from its little-endian field; `None` if it is too large for P-384.
fn scalar(mut field: [u8; FIELD_BYTES]) -> Option<[u8; SCALAR_BYTES]> {
    field.reverse();
    let (high, low) = field.split_last_chunk::<SCALAR_BYTES>()?;
    high.iter().all(|byte| *byte == 0).then_some(*low)
}

/// Writes a big-endian number little-endian.
fn put_reversed(bytes: &mut [u8], at: usize, number: &[u8]) {
    for (place, byte) in bytes.iter_mut().skip(at).zip(number.iter().rev()) {
        *place = *byte;
    }
}
