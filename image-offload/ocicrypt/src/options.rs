//! The two option documents of an encrypted layer.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use crate::base64_text;
use crate::errors::OcicryptError;

/// The only layer cipher of the format.
const CIPHER: &str = "AES_256_CTR_HMAC_SHA256";
/// Name of the cipher option that holds the initial counter block.
const NONCE: &str = "nonce";
/// Both documents are far smaller; more is refused before it is parsed.
pub(crate) const MAX_DOCUMENT_BYTES: usize = 16 * 1024;

/// What everyone may know about an encrypted layer: the HMAC of its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicOptions {
    hmac: [u8; 32],
}

#[derive(Serialize, Deserialize)]
struct PublicDocument {
    cipher: String,
    #[serde(default)]
    hmac: Option<String>,
    #[serde(default)]
    cipheroptions: Option<BTreeMap<String, serde_json::Value>>,
}

impl PublicOptions {
    /// Takes the HMAC-SHA256 of the ciphertext.
    pub const fn new(hmac: [u8; 32]) -> Self {
        Self { hmac }
    }

    /// Reads the JSON document.
    ///
    /// A nonce is refused: other implementations let public cipher options
    /// override the sealed ones, which would give the choice of the key
    /// stream to whoever writes the manifest.
    pub fn parse(json: &[u8]) -> Result<Self, OcicryptError> {
        let invalid = |reason| OcicryptError::PublicOptionsInvalid { reason };
        if json.len() > MAX_DOCUMENT_BYTES {
            return Err(invalid("too large"));
        }
        let document: PublicDocument =
            serde_json::from_slice(json).map_err(|_| invalid("not the expected JSON"))?;
        if document.cipher != CIPHER {
            let cipher = document.cipher.chars().take(64).collect();
            return Err(OcicryptError::UnknownCipher { cipher });
        }
        let options = document.cipheroptions.unwrap_or_default();
        // Go matches names of JSON members without regard to case.
        if options.keys().any(|name| name.eq_ignore_ascii_case(NONCE)) {
            return Err(OcicryptError::PublicNonce);
        }
        let hmac = document
            .hmac
            .as_deref()
            .and_then(base64_text::decode_array::<32>)
            .ok_or(OcicryptError::HmacMissing)?;
        Ok(Self { hmac: *hmac })
    }

    /// Writes the JSON document.
    pub fn to_json(&self) -> Vec<u8> {
        format!(
            r#"{{"cipher":"{CIPHER}","hmac":"{}","cipheroptions":{{}}}}"#,
            base64_text::encode(&self.hmac)
        )
        .into_bytes()
    }

    /// HMAC-SHA256 of the ciphertext.
    pub const fn hmac(&self) -> &[u8; 32] {
        &self.hmac
    }
}

/// What is sealed for the recipients: key, nonce and plaintext digest.
pub struct PrivateOptions {
    pub(crate) key: Zeroizing<[u8; 32]>,
    pub(crate) nonce: [u8; 16],
    pub(crate) digest: [u8; 32],
}

#[derive(Deserialize)]
struct PrivateDocument {
    symkey: String,
    digest: String,
    cipheroptions: BTreeMap<String, String>,
}

impl Drop for PrivateDocument {
    fn drop(&mut self) {
        self.symkey.zeroize();
    }
}

impl PrivateOptions {
    /// Reads the JSON document that a recipient unwrapped.
    pub fn parse(json: &[u8]) -> Result<Self, OcicryptError> {
        let invalid = |reason| OcicryptError::PrivateOptionsInvalid { reason };
        if json.len() > MAX_DOCUMENT_BYTES {
            return Err(invalid("too large"));
        }
        let document: PrivateDocument =
            serde_json::from_slice(json).map_err(|_| invalid("not the expected JSON"))?;
        let key = base64_text::decode_array(&document.symkey)
            .ok_or_else(|| invalid("the layer key is not 32 bytes"))?;
        let nonce = document
            .cipheroptions
            .get(NONCE)
            .and_then(|text| base64_text::decode_array::<16>(text))
            .ok_or_else(|| invalid("the nonce is not 16 bytes"))?;
        let digits = document
            .digest
            .strip_prefix("sha256:")
            .ok_or_else(|| invalid("the plaintext digest is not sha256"))?;
        let mut digest = [0; 32];
        hex::decode_to_slice(digits, &mut digest)
            .map_err(|_| invalid("the plaintext digest is not sha256"))?;
        Ok(Self {
            key,
            nonce: *nonce,
            digest,
        })
    }

    /// Writes the JSON document to be wrapped.
    pub fn to_json(&self) -> Zeroizing<Vec<u8>> {
        let key = Zeroizing::new(base64_text::encode(self.key.as_slice()));
        Zeroizing::new(
            format!(
                r#"{{"symkey":"{}","digest":"sha256:{}","cipheroptions":{{"{NONCE}":"{}"}}}}"#,
                *key,
                hex::encode(self.digest),
                base64_text::encode(&self.nonce)
            )
            .into_bytes(),
        )
    }

    /// SHA-256 of the compressed plaintext layer.
    pub const fn plaintext_sha256(&self) -> &[u8; 32] {
        &self.digest
    }
}

impl fmt::Debug for PrivateOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrivateOptions").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HMAC: &str = "f2OxfdHytGzZ3aPdwEuFicScA/U2Vc+fdTzqDV8q8WU=";

    fn public(hmac: &str, cipher: &str, options: &str) -> Result<PublicOptions, OcicryptError> {
        PublicOptions::parse(
            format!(r#"{{"cipher":"{cipher}","hmac":"{hmac}","cipheroptions":{options}}}"#)
                .as_bytes(),
        )
    }

    #[test]
    fn public_options_round_trip() {
        let options = public(HMAC, CIPHER, "{}").unwrap();
        assert_eq!(PublicOptions::parse(&options.to_json()).unwrap(), options);
        assert_eq!(
            String::from_utf8(options.to_json()).unwrap(),
            format!(r#"{{"cipher":"{CIPHER}","hmac":"{HMAC}","cipheroptions":{{}}}}"#)
        );
    }

    #[test]
    fn absent_or_null_cipher_options_are_accepted() {
        let json = format!(r#"{{"cipher":"{CIPHER}","hmac":"{HMAC}"}}"#);
        assert!(PublicOptions::parse(json.as_bytes()).is_ok());
        assert!(public(HMAC, CIPHER, "null").is_ok());
    }

    #[test]
    fn a_nonce_in_public_options_is_refused_in_any_case_and_type() {
        for options in [
            r#"{"nonce":"AAAA"}"#,
            r#"{"Nonce":"AAAA"}"#,
            r#"{"nonce":null}"#,
        ] {
            assert_eq!(
                public(HMAC, CIPHER, options),
                Err(OcicryptError::PublicNonce)
            );
        }
    }

    #[test]
    fn a_missing_empty_or_short_hmac_is_refused() {
        let json = format!(r#"{{"cipher":"{CIPHER}","cipheroptions":{{}}}}"#);
        assert_eq!(
            PublicOptions::parse(json.as_bytes()),
            Err(OcicryptError::HmacMissing)
        );
        for hmac in [
            "",
            "AAAA",
            "f2OxfdHytGzZ3aPdwEuFicScA/U2Vc+fdTzqDV8q8WUAAA==",
        ] {
            assert_eq!(public(hmac, CIPHER, "{}"), Err(OcicryptError::HmacMissing));
        }
    }

    #[test]
    fn an_unknown_cipher_is_refused_by_name() {
        let refused = public(HMAC, "AES_128_XXX", "{}").unwrap_err();
        assert_eq!(
            refused,
            OcicryptError::UnknownCipher {
                cipher: "AES_128_XXX".to_owned()
            }
        );
    }

    #[test]
    fn duplicate_members_are_refused() {
        let json = format!(
            r#"{{"cipher":"{CIPHER}","hmac":"{HMAC}","hmac":"{HMAC}","cipheroptions":{{}}}}"#
        );
        assert!(PublicOptions::parse(json.as_bytes()).is_err());
    }

    #[test]
    fn private_options_round_trip_without_showing_the_key() {
        let options = PrivateOptions {
            key: Zeroizing::new([7; 32]),
            nonce: [9; 16],
            digest: [3; 32],
        };
        let read = PrivateOptions::parse(&options.to_json()).unwrap();
        assert_eq!(*read.key, [7; 32]);
        assert_eq!(read.nonce, [9; 16]);
        assert_eq!(read.plaintext_sha256(), &[3; 32]);
        assert_eq!(format!("{read:?}"), "PrivateOptions { .. }");
    }

    #[test]
    fn private_options_of_wrong_sizes_are_refused() {
        let key = base64_text::encode(&[1; 32]);
        let nonce = base64_text::encode(&[2; 16]);
        let digest = format!("sha256:{}", "ab".repeat(32));
        let json = |key: &str, digest: &str, nonce: &str| {
            format!(
                r#"{{"symkey":"{key}","digest":"{digest}","cipheroptions":{{"nonce":"{nonce}"}}}}"#
            )
        };
        assert!(PrivateOptions::parse(json(&key, &digest, &nonce).as_bytes()).is_ok());
        for wrong in [
            json("AAAA", &digest, &nonce),
            json(&key, "", &nonce),
            json(&key, "sha512:00", &nonce),
            json(&key, &digest, "AAAA"),
            r#"{"symkey":"AAAA"}"#.to_owned(),
            String::new(),
            "x".repeat(MAX_DOCUMENT_BYTES + 1),
        ] {
            assert!(PrivateOptions::parse(wrong.as_bytes()).is_err());
        }
    }
}
