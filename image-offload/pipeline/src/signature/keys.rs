//! Public keys of signers.

use std::fmt;

use p256::pkcs8::SubjectPublicKeyInfoRef;
use p256::pkcs8::der::{Decode, Encode};
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject;

/// Key files are far smaller; more is refused before it is parsed.
pub(crate) const MAX_KEY_BYTES: usize = 64 * 1024;

/// A public key that verifies signatures: ECDSA on P-256 or P-384, RSA, Ed25519.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SignerKey {
    /// The inside of the `AlgorithmIdentifier`.
    algorithm: Vec<u8>,
    key: Vec<u8>,
}

impl fmt::Debug for SignerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignerKey").finish_non_exhaustive()
    }
}

impl SignerKey {
    /// Reads all PEM public keys of a file.
    pub(crate) fn parse_pem(pem: &[u8]) -> Result<Vec<Self>, &'static str> {
        if pem.len() > MAX_KEY_BYTES {
            return Err("it is too large");
        }
        let keys = SubjectPublicKeyInfoDer::pem_slice_iter(pem)
            .map(|der| Self::from_spki(&der.map_err(|_| "it is not PEM")?))
            .collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() {
            return Err("it holds no PEM public key");
        }
        Ok(keys)
    }

    fn from_spki(der: &[u8]) -> Result<Self, &'static str> {
        let malformed = "it is not a public key";
        let info = SubjectPublicKeyInfoRef::from_der(der).map_err(|_| malformed)?;
        let algorithm = info.algorithm.to_der().map_err(|_| malformed)?;
        // An algorithm's name is short: one byte of tag, one of length.
        let algorithm = algorithm.get(2..).ok_or(malformed)?.to_vec();
        let key = info.subject_public_key.raw_bytes().to_vec();
        let read = Self { algorithm, key };
        if read.algorithms().next().is_none() {
            return Err("its algorithm is not supported");
        }
        Ok(read)
    }

    fn algorithms(
        &self,
    ) -> impl Iterator<Item = &'static dyn rustls_pki_types::SignatureVerificationAlgorithm> {
        rustls::crypto::ring::default_provider()
            .signature_verification_algorithms
            .all
            .iter()
            .copied()
            .filter(|algorithm| algorithm.public_key_alg_id().as_ref() == self.algorithm)
    }

    /// Whether this key made the signature over the message.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.algorithms().any(|algorithm| {
            algorithm
                .verify_signature(&self.key, message, signature)
                .is_ok()
        })
    }
}
