//! PKCS #7 (CMS, RFC 5652) recipients as the format's first implementation
//! writes them: `EnvelopedData` with RSA key transport and AES-GCM content.
//!
//! That implementation's encoding departs from the standard in two places. The
//! parameters of AES-GCM stand in a sequence inside a sequence without the
//! constructed bit, and the content is an octet string inside an explicit tag.
//! General libraries refuse both, so the few fields are read and written here;
//! the standard's own spelling is read as well.

use aes_gcm::aead::{Aead, KeyInit};
use aes_gcm::{Aes128Gcm, Aes256Gcm, Nonce};
use rsa::RsaPrivateKey;
use zeroize::Zeroizing;

use crate::der_text::{Element, write};
use crate::errors::OcicryptError;
use crate::options::{MAX_DOCUMENT_BYTES, PrivateOptions};
use crate::rsa_keys::{self, RecipientCertificate, RsaPadding};

const ENVELOPED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x03];
const DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01];
const RSA_ENCRYPTION: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const RSAES_OAEP: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x07];
const AES_128_GCM: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x01, 0x06];
const AES_256_GCM: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x01, 0x2e];

const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const OBJECT_IDENTIFIER: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
/// A sequence without the constructed bit.
const BARE_SEQUENCE: u8 = 0x10;
const SET: u8 = 0x31;
/// `[0]`, constructed: explicit content, or implicit content in pieces.
const CONTEXT_0: u8 = 0xa0;
/// `[0]`, primitive: implicit content.
const IMPLICIT_0: u8 = 0x80;
/// `[4]`, primitive: how the nonce is tagged in the departing encoding.
const IMPLICIT_4: u8 = 0x84;

const NONCE_BYTES: usize = 12;
const TAG_BYTES: u8 = 16;
const MAX_RECIPIENTS: usize = 64;

/// A PKCS #7 message whose content is a layer's private options.
#[derive(Debug)]
pub struct Pkcs7Message {
    wrapped_keys: Vec<(RsaPadding, Vec<u8>)>,
    cipher: ContentCipher,
    nonce: [u8; NONCE_BYTES],
    sealed: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
enum ContentCipher {
    Aes128Gcm,
    Aes256Gcm,
}

fn invalid(reason: &'static str) -> OcicryptError {
    OcicryptError::Pkcs7Invalid { reason }
}

impl Pkcs7Message {
    /// Reads a `ContentInfo` with `EnvelopedData`.
    ///
    /// Recipients of other kinds are passed over; a message without any that
    /// has RSA key transport is refused.
    pub fn parse(der: &[u8]) -> Result<Self, OcicryptError> {
        if der.len() > 8 * MAX_DOCUMENT_BYTES {
            return Err(invalid("too large"));
        }
        let malformed = || invalid("not the expected DER");
        let mut info = Element::only(der, SEQUENCE).ok_or_else(malformed)?;
        if info.next(OBJECT_IDENTIFIER) != Some(ENVELOPED_DATA) {
            return Err(invalid("it is not enveloped data"));
        }
        let content = info.next(CONTEXT_0).ok_or_else(malformed)?;
        let mut enveloped = Element::only(content, SEQUENCE).ok_or_else(malformed)?;
        enveloped.next(INTEGER).ok_or_else(malformed)?;
        // Certificates of an originator say nothing about the content.
        let _ = enveloped.next(CONTEXT_0);
        let recipients = enveloped.next(SET).ok_or_else(malformed)?;
        let mut body = Element::new(enveloped.next(SEQUENCE).ok_or_else(malformed)?);
        body.next(OBJECT_IDENTIFIER).ok_or_else(malformed)?;
        let algorithm = body.next(SEQUENCE).ok_or_else(malformed)?;
        let (cipher, nonce) = content_cipher(algorithm)?;
        let sealed = encrypted_content(&mut body).ok_or_else(malformed)?;
        let wrapped_keys = wrapped_keys(recipients)?;
        if wrapped_keys.is_empty() {
            return Err(invalid("no recipient has an RSA key"));
        }
        Ok(Self {
            wrapped_keys,
            cipher,
            nonce,
            sealed: sealed.to_vec(),
        })
    }

    /// Opens the message with a private key and reads the private options.
    pub(crate) fn open(&self, key: &RsaPrivateKey) -> Result<PrivateOptions, OcicryptError> {
        self.wrapped_keys
            .iter()
            .filter_map(|(padding, wrapped)| rsa_keys::unwrap(key, *padding, wrapped))
            .find_map(|content_key| self.open_content(&content_key))
            .ok_or(OcicryptError::Pkcs7WrongKey)?
    }

    /// `None` when this is not the content's key.
    fn open_content(&self, key: &[u8]) -> Option<Result<PrivateOptions, OcicryptError>> {
        let nonce = Nonce::from(self.nonce);
        let opened = match self.cipher {
            ContentCipher::Aes128Gcm => Aes128Gcm::new_from_slice(key)
                .ok()?
                .decrypt(&nonce, self.sealed.as_slice()),
            ContentCipher::Aes256Gcm => Aes256Gcm::new_from_slice(key)
                .ok()?
                .decrypt(&nonce, self.sealed.as_slice()),
        };
        let opened = Zeroizing::new(opened.ok()?);
        Some(PrivateOptions::parse(&opened))
    }

    /// Seals private options for the holders of these certificates.
    pub fn seal(
        certificates: &[RecipientCertificate],
        private: &PrivateOptions,
    ) -> Result<Vec<u8>, OcicryptError> {
        let mut content_key = Zeroizing::new([0; 32]);
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(content_key.as_mut_slice()).map_err(|_| OcicryptError::Random)?;
        getrandom::fill(&mut nonce).map_err(|_| OcicryptError::Random)?;
        let sealed = Aes256Gcm::new(&(*content_key).into())
            .encrypt(&Nonce::from(nonce), private.to_json().as_slice())
            .map_err(|_| invalid("the content cannot be sealed"))?;
        let mut recipients = Vec::new();
        for certificate in certificates {
            let wrapped = rsa_keys::wrap(
                &certificate.key,
                RsaPadding::Pkcs1v15,
                content_key.as_slice(),
            )?;
            recipients.push(write(
                SEQUENCE,
                &[
                    &write(INTEGER, &[&[0]]),
                    &write(SEQUENCE, &[&certificate.issuer, &certificate.serial]),
                    &write(SEQUENCE, &[&write(OBJECT_IDENTIFIER, &[RSA_ENCRYPTION])]),
                    &write(OCTET_STRING, &[&wrapped]),
                ],
            ));
        }
        // Members of a DER set stand in the order of their encodings.
        recipients.sort();
        let recipients: Vec<&[u8]> = recipients.iter().map(Vec::as_slice).collect();
        let parameters = write(
            SEQUENCE,
            &[
                &write(IMPLICIT_4, &[&nonce]),
                &write(INTEGER, &[&[TAG_BYTES]]),
            ],
        );
        let algorithm = write(
            SEQUENCE,
            &[
                &write(OBJECT_IDENTIFIER, &[AES_256_GCM]),
                &write(BARE_SEQUENCE, &[&parameters]),
            ],
        );
        let body = write(
            SEQUENCE,
            &[
                &write(OBJECT_IDENTIFIER, &[DATA]),
                &algorithm,
                &write(CONTEXT_0, &[&write(OCTET_STRING, &[&sealed])]),
            ],
        );
        let enveloped = write(
            SEQUENCE,
            &[&write(INTEGER, &[&[0]]), &write(SET, &recipients), &body],
        );
        Ok(write(
            SEQUENCE,
            &[
                &write(OBJECT_IDENTIFIER, &[ENVELOPED_DATA]),
                &write(CONTEXT_0, &[&enveloped]),
            ],
        ))
    }
}

fn content_cipher(algorithm: &[u8]) -> Result<(ContentCipher, [u8; NONCE_BYTES]), OcicryptError> {
    let mut algorithm = Element::new(algorithm);
    let cipher = match algorithm.next(OBJECT_IDENTIFIER) {
        Some(AES_128_GCM) => ContentCipher::Aes128Gcm,
        Some(AES_256_GCM) => ContentCipher::Aes256Gcm,
        _ => return Err(invalid("the content is not sealed with AES-GCM")),
    };
    let parameters = match algorithm.next(BARE_SEQUENCE) {
        Some(wrapping) => Element::only(wrapping, SEQUENCE),
        None => algorithm.next(SEQUENCE).map(Element::new),
    };
    let mut parameters = parameters.ok_or_else(|| invalid("AES-GCM has no parameters"))?;
    let nonce = parameters
        .next(IMPLICIT_4)
        .or_else(|| parameters.next(OCTET_STRING))
        .and_then(|nonce| nonce.try_into().ok())
        .ok_or_else(|| invalid("the nonce is not 12 bytes"))?;
    // RFC 5084: 12 bytes unless the parameters say otherwise.
    if parameters.next(INTEGER) != Some(&[TAG_BYTES]) {
        return Err(invalid("the tag is not 16 bytes"));
    }
    Ok((cipher, nonce))
}

fn encrypted_content<'a>(body: &mut Element<'a>) -> Option<&'a [u8]> {
    if let Some(content) = body.next(IMPLICIT_0) {
        return Some(content);
    }
    Element::new(body.next(CONTEXT_0)?).next(OCTET_STRING)
}

fn wrapped_keys(recipients: &[u8]) -> Result<Vec<(RsaPadding, Vec<u8>)>, OcicryptError> {
    let malformed = || invalid("a recipient is not the expected DER");
    let mut recipients = Element::new(recipients);
    let mut keys = Vec::new();
    let mut count = 0;
    while let Some((tag, recipient)) = recipients.any() {
        count += 1;
        if count > MAX_RECIPIENTS {
            return Err(invalid("too many recipients"));
        }
        if tag != SEQUENCE {
            continue;
        }
        let mut recipient = Element::new(recipient);
        recipient.next(INTEGER).ok_or_else(malformed)?;
        // Who it is for: the key tells it as well.
        recipient.any().ok_or_else(malformed)?;
        let algorithm = recipient.next(SEQUENCE).ok_or_else(malformed)?;
        let wrapped = recipient.next(OCTET_STRING).ok_or_else(malformed)?;
        match Element::new(algorithm).next(OBJECT_IDENTIFIER) {
            Some(RSA_ENCRYPTION) => keys.push((RsaPadding::Pkcs1v15, wrapped.to_vec())),
            Some(RSAES_OAEP) => keys.push((RsaPadding::OaepSha1, wrapped.to_vec())),
            _ => {}
        }
    }
    if recipients.is_empty() {
        Ok(keys)
    } else {
        Err(malformed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cipher::LayerEncryptor;
    use crate::keys::PrivateKey;

    fn file(name: &str) -> Vec<u8> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/keys/");
        std::fs::read(format!("{folder}{name}")).unwrap()
    }

    fn sealed() -> (PrivateOptions, Vec<u8>) {
        let private = LayerEncryptor::generate().unwrap().finish().private;
        let certificate = RecipientCertificate::parse(&file("pkcs7_cert.pem")).unwrap();
        let der = Pkcs7Message::seal(&[certificate], &private).unwrap();
        (private, der)
    }

    #[test]
    fn a_message_opens_for_its_recipient_only() {
        let (private, der) = sealed();
        let message = Pkcs7Message::parse(&der).unwrap();
        let key = PrivateKey::parse(&file("pkcs7_key.pem")).unwrap();
        assert_eq!(
            *key.open_pkcs7(&message).unwrap().to_json(),
            *private.to_json()
        );
        for other in ["rsa_priv.pem", "ec256_priv.pem"] {
            let other = PrivateKey::parse(&file(other)).unwrap();
            assert_eq!(
                other.open_pkcs7(&message).unwrap_err(),
                OcicryptError::Pkcs7WrongKey
            );
        }
    }

    #[test]
    fn a_changed_message_is_refused() {
        let (_, der) = sealed();
        let key = PrivateKey::parse(&file("pkcs7_key.pem")).unwrap();
        let last = der.len() - 1;
        let mut changed = der.clone();
        changed[last] ^= 1;
        let message = Pkcs7Message::parse(&changed).unwrap();
        assert!(key.open_pkcs7(&message).is_err());
        for length in [0, 1, 20, last] {
            assert!(Pkcs7Message::parse(&der[..length]).is_err(), "{length}");
        }
        let mut longer = der;
        longer.push(0);
        assert!(Pkcs7Message::parse(&longer).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_change_makes_the_parser_panic(position in 0_usize..400, value in 0_u8..=255) {
            let (_, mut der) = sealed();
            let position = position % der.len();
            der[position] = value;
            let _ = Pkcs7Message::parse(&der);
        }
    }
}
