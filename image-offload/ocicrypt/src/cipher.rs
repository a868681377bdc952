//! The layer cipher: AES-256-CTR with a 128-bit big-endian counter, and
//! HMAC-SHA256 over the ciphertext with the same key.

use std::fmt;
use std::io::{self, Read};

use aes::Aes256;
use ctr::Ctr128BE;
use ctr::cipher::{KeyIvInit, StreamCipher};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::errors::OcicryptError;
use crate::options::{PrivateOptions, PublicOptions};

type HmacSha256 = Hmac<Sha256>;

fn hmac(key: &[u8; 32]) -> HmacSha256 {
    // HMAC pads a short key with zeros to the block of the hash (RFC 2104).
    let mut block = Zeroizing::new([0; 64]);
    block[..32].copy_from_slice(key);
    HmacSha256::new(&(*block).into())
}

fn key_stream(key: &[u8; 32], nonce: &[u8; 16]) -> Ctr128BE<Aes256> {
    Ctr128BE::<Aes256>::new(&(*key).into(), &(*nonce).into())
}

/// Turns ciphertext into plaintext, piece by piece and in order.
///
/// It proves nothing about the bytes: run a [`LayerVerifier`] over the whole
/// layer first.
pub struct LayerDecryptor(Ctr128BE<Aes256>);

impl LayerDecryptor {
    /// Starts at the beginning of a layer.
    pub fn new(private: &PrivateOptions) -> Self {
        Self(key_stream(&private.key, &private.nonce))
    }

    /// Decrypts the next bytes of the layer in place.
    pub fn apply(&mut self, data: &mut [u8]) {
        self.0.apply_keystream(data);
    }

    /// Wraps a reader of the ciphertext into a reader of the plaintext.
    pub const fn reader<R: Read>(self, ciphertext: R) -> DecryptingReader<R> {
        DecryptingReader {
            decryptor: self,
            ciphertext,
        }
    }
}

impl fmt::Debug for LayerDecryptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LayerDecryptor")
    }
}

/// Reads plaintext from a reader of ciphertext; see [`LayerDecryptor`].
#[derive(Debug)]
pub struct DecryptingReader<R> {
    decryptor: LayerDecryptor,
    ciphertext: R,
}

impl<R: Read> Read for DecryptingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.ciphertext.read(buffer)?;
        self.decryptor.apply(&mut buffer[..length]);
        Ok(length)
    }
}

/// Checks a whole layer before any of its plaintext is used: the HMAC of the
/// ciphertext and the sealed digest of the plaintext.
pub struct LayerVerifier {
    hmac: HmacSha256,
    decryptor: LayerDecryptor,
    plaintext: Sha256,
    expected_hmac: [u8; 32],
    expected_digest: [u8; 32],
    scratch: Zeroizing<Vec<u8>>,
}

impl LayerVerifier {
    /// Starts at the beginning of a layer.
    pub fn new(public: &PublicOptions, private: &PrivateOptions) -> Self {
        Self {
            hmac: hmac(&private.key),
            decryptor: LayerDecryptor::new(private),
            plaintext: Sha256::new(),
            expected_hmac: *public.hmac(),
            expected_digest: private.digest,
            scratch: Zeroizing::default(),
        }
    }

    /// Takes the next bytes of the ciphertext.
    pub fn update(&mut self, ciphertext: &[u8]) {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        scratch.extend_from_slice(ciphertext);
        self.update_in_place(&mut scratch);
        self.scratch = scratch;
    }

    /// Takes the next bytes of the ciphertext and leaves their plaintext in
    /// their place, for a caller that keeps it unread until
    /// [`LayerVerifier::finish`] has agreed.
    pub fn update_in_place(&mut self, data: &mut [u8]) {
        self.hmac.update(data);
        self.decryptor.apply(data);
        self.plaintext.update(&*data);
    }

    /// Compares, the HMAC in constant time.
    pub fn finish(self) -> Result<(), OcicryptError> {
        self.hmac
            .verify_slice(&self.expected_hmac)
            .map_err(|_| OcicryptError::HmacMismatch)?;
        if self.plaintext.finalize().as_slice() != self.expected_digest {
            return Err(OcicryptError::PlaintextDigest);
        }
        Ok(())
    }
}

impl fmt::Debug for LayerVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LayerVerifier")
    }
}

/// Encrypts one layer with a fresh key.
pub struct LayerEncryptor {
    key: Zeroizing<[u8; 32]>,
    nonce: [u8; 16],
    stream: Ctr128BE<Aes256>,
    hmac: HmacSha256,
    plaintext: Sha256,
}

/// The options of a layer that was just encrypted.
#[derive(Debug)]
pub struct EncryptedLayer {
    /// For the manifest.
    pub public: PublicOptions,
    /// To be wrapped for each recipient.
    pub private: PrivateOptions,
}

impl LayerEncryptor {
    /// Draws a key and a nonce.
    pub fn generate() -> Result<Self, OcicryptError> {
        let mut key = Zeroizing::new([0; 32]);
        let mut nonce = [0; 16];
        getrandom::fill(key.as_mut_slice()).map_err(|_| OcicryptError::Random)?;
        getrandom::fill(&mut nonce).map_err(|_| OcicryptError::Random)?;
        let stream = key_stream(&key, &nonce);
        let hmac = hmac(&key);
        Ok(Self {
            key,
            nonce,
            stream,
            hmac,
            plaintext: Sha256::new(),
        })
    }

    /// Encrypts the next bytes of the (compressed) layer in place.
    pub fn apply(&mut self, data: &mut [u8]) {
        self.plaintext.update(&*data);
        self.stream.apply_keystream(data);
        self.hmac.update(data);
    }

    /// Ends the layer.
    pub fn finish(self) -> EncryptedLayer {
        EncryptedLayer {
            public: PublicOptions::new(self.hmac.finalize().into_bytes().into()),
            private: PrivateOptions {
                key: self.key,
                nonce: self.nonce,
                digest: self.plaintext.finalize().into(),
            },
        }
    }
}

impl fmt::Debug for LayerEncryptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LayerEncryptor")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encrypt(plaintext: &[u8], piece: usize) -> (Vec<u8>, EncryptedLayer) {
        let mut encryptor = LayerEncryptor::generate().unwrap();
        let mut ciphertext = plaintext.to_vec();
        for chunk in ciphertext.chunks_mut(piece) {
            encryptor.apply(chunk);
        }
        (ciphertext, encryptor.finish())
    }

    fn verify(
        ciphertext: &[u8],
        layer: &EncryptedLayer,
        piece: usize,
    ) -> Result<(), OcicryptError> {
        let mut verifier = LayerVerifier::new(&layer.public, &layer.private);
        for chunk in ciphertext.chunks(piece) {
            verifier.update(chunk);
        }
        verifier.finish()
    }

    proptest! {
        #[test]
        fn a_layer_opens_again_however_it_is_cut(
            plaintext in proptest::collection::vec(any::<u8>(), 0..2000),
            writing in 1_usize..100,
            reading in 1_usize..100,
        ) {
            let (ciphertext, layer) = encrypt(&plaintext, writing);
            prop_assert_eq!(verify(&ciphertext, &layer, reading), Ok(()));
            let mut opened = Vec::new();
            LayerDecryptor::new(&layer.private)
                .reader(ciphertext.as_slice())
                .read_to_end(&mut opened)
                .unwrap();
            prop_assert_eq!(opened, plaintext);
        }

        #[test]
        fn any_flipped_bit_fails_the_hmac(
            plaintext in proptest::collection::vec(any::<u8>(), 1..500),
            position in any::<prop::sample::Index>(),
            bit in 0_u8..8,
        ) {
            let (mut ciphertext, layer) = encrypt(&plaintext, 64);
            *position.get_mut(&mut ciphertext) ^= 1 << bit;
            prop_assert_eq!(verify(&ciphertext, &layer, 64), Err(OcicryptError::HmacMismatch));
        }
    }

    #[test]
    fn a_truncated_layer_fails_the_hmac() {
        let (ciphertext, layer) = encrypt(b"some layer", 3);
        assert_eq!(
            verify(&ciphertext[..5], &layer, 64),
            Err(OcicryptError::HmacMismatch)
        );
    }

    #[test]
    fn another_sealed_digest_is_refused_after_a_good_hmac() {
        let (ciphertext, mut layer) = encrypt(b"some layer", 3);
        layer.private.digest = [0; 32];
        assert_eq!(
            verify(&ciphertext, &layer, 64),
            Err(OcicryptError::PlaintextDigest)
        );
    }

    #[test]
    fn another_nonce_is_caught_by_the_sealed_digest() {
        let (ciphertext, mut layer) = encrypt(b"some layer", 3);
        layer.private.nonce[0] ^= 1;
        assert_eq!(
            verify(&ciphertext, &layer, 64),
            Err(OcicryptError::PlaintextDigest)
        );
    }

    #[test]
    fn two_layers_never_share_a_key() {
        let (_, first) = encrypt(b"x", 1);
        let (_, second) = encrypt(b"x", 1);
        assert_ne!(*first.private.key, *second.private.key);
        assert_ne!(first.private.nonce, second.private.nonce);
    }
}
