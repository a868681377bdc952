//! X.509 certificates as AMD issues them: RSASSA-PSS with SHA-384 all the way down.

use der::asn1::AnyRef;
use der::{Decode, Reader, Sequence, SliceReader};
use ring::signature::{RSA_PSS_2048_8192_SHA384, UnparsedPublicKey};
use time::OffsetDateTime;
use x509_cert::Certificate;
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::{BasicConstraints, KeyUsage};
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::{
    AlgorithmIdentifierOwned, AlgorithmIdentifierRef, ObjectIdentifier, SubjectPublicKeyInfoOwned,
};
use x509_cert::time::Time;

use crate::error::VerifierError;

/// The largest certificate that is read, in bytes.
pub(crate) const MAX_CERTIFICATE_BYTES: usize = 16 * 1024;

const RSASSA_PSS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.10");
const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const MGF1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.8");
const SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.2");
const KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.15");
const BASIC_CONSTRAINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.19");

/// Salt length in bytes that AMD uses.
const SALT_BYTES: u8 = 48;

/// A parsed certificate with its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cert {
    der: Vec<u8>,
    parsed: Certificate,
}

impl Cert {
    /// Reads one DER certificate, or one in PEM as some hosts hand out.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, VerifierError> {
        if bytes.is_empty() || bytes.len() > MAX_CERTIFICATE_BYTES {
            return Err(VerifierError::CertificateSize {
                actual: bytes.len(),
                limit: MAX_CERTIFICATE_BYTES,
            });
        }
        let der = if bytes.starts_with(b"-----BEGIN") {
            let (_label, der) = der::pem::decode_vec(bytes)
                .map_err(|error| VerifierError::CertificateEncoding(error.into()))?;
            der
        } else {
            bytes.to_vec()
        };
        let parsed = Certificate::from_der(&der).map_err(VerifierError::CertificateEncoding)?;
        check_extensions(
            parsed
                .tbs_certificate()
                .extensions()
                .map_or(&[], |list| list),
        )?;
        if parsed.tbs_certificate().signature() != parsed.signature_algorithm() {
            return Err(VerifierError::CertificateAlgorithm);
        }
        Ok(Self { der, parsed })
    }

    /// The certificate's bytes.
    pub(crate) fn der(&self) -> &[u8] {
        &self.der
    }

    pub(crate) fn subject(&self) -> &Name {
        self.parsed.tbs_certificate().subject()
    }

    pub(crate) fn issuer(&self) -> &Name {
        self.parsed.tbs_certificate().issuer()
    }

    pub(crate) fn serial_number(&self) -> &SerialNumber {
        self.parsed.tbs_certificate().serial_number()
    }

    pub(crate) fn public_key(&self) -> &SubjectPublicKeyInfoOwned {
        self.parsed.tbs_certificate().subject_public_key_info()
    }

    pub(crate) fn is_self_issued(&self) -> bool {
        self.subject() == self.issuer()
    }

    /// The subject's common name; empty without one.
    pub(crate) fn common_name(&self) -> String {
        common_name(self.subject())
    }

    /// The value of an extension.
    pub(crate) fn extension(&self, oid: ObjectIdentifier) -> Option<&[u8]> {
        self.parsed
            .tbs_certificate()
            .extensions()?
            .iter()
            .find(|extension| extension.extn_id == oid)
            .map(|extension| extension.extn_value.as_bytes())
    }

    /// Whether `at` lies in the certificate's validity.
    pub(crate) fn is_valid_at(&self, at: OffsetDateTime) -> bool {
        let validity = self.parsed.tbs_certificate().validity();
        unix_seconds(validity.not_before) <= at.unix_timestamp()
            && at.unix_timestamp() <= unix_seconds(validity.not_after)
    }

    /// The validity in words.
    pub(crate) fn validity(&self) -> String {
        let validity = self.parsed.tbs_certificate().validity();
        format!("{} to {}", validity.not_before, validity.not_after)
    }

    /// Whether this certificate's key may sign certificates.
    pub(crate) fn require_authority(&self) -> Result<(), VerifierError> {
        let refused = || VerifierError::NotAnAuthority {
            name: self.common_name(),
        };
        let constraints: BasicConstraints = self.decode(BASIC_CONSTRAINTS)?.ok_or_else(refused)?;
        let usage: KeyUsage = self.decode(KEY_USAGE)?.ok_or_else(refused)?;
        if constraints.ca && usage.key_cert_sign() {
            Ok(())
        } else {
            Err(refused())
        }
    }

    /// Whether this certificate's key may sign data: nothing says otherwise.
    pub(crate) fn may_sign_data(&self) -> Result<bool, VerifierError> {
        let usage: Option<KeyUsage> = self.decode(KEY_USAGE)?;
        let constraints: Option<BasicConstraints> = self.decode(BASIC_CONSTRAINTS)?;
        Ok(usage.is_none_or(|usage| usage.digital_signature())
            && constraints.is_none_or(|constraints| !constraints.ca))
    }

    /// Checks that `issuer` may sign certificates and signed this one.
    pub(crate) fn verify_issued_by(&self, issuer: &Self) -> Result<(), VerifierError> {
        issuer.require_authority()?;
        let wrong = || VerifierError::CertificateSignature {
            subject: self.common_name(),
            issuer: issuer.common_name(),
        };
        if self.issuer() != issuer.subject() {
            return Err(wrong());
        }
        let tbs = first_element(&self.der).map_err(VerifierError::CertificateEncoding)?;
        let signature = self.parsed.signature().as_bytes().ok_or_else(wrong)?;
        verify_pss(
            issuer.public_key(),
            self.parsed.signature_algorithm(),
            tbs,
            signature,
            wrong,
        )
    }

    fn decode<'a, T: Decode<'a>>(
        &'a self,
        oid: ObjectIdentifier,
    ) -> Result<Option<T>, VerifierError> {
        let decode = |value| {
            T::from_der(value).map_err(|_| VerifierError::Extension {
                oid: oid.to_string(),
            })
        };
        self.extension(oid).map(decode).transpose()
    }
}

/// Seconds since 1970; both of X.509's time types are unsigned.
pub(crate) fn unix_seconds(time: Time) -> i64 {
    i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX)
}

/// The common name in a name; empty without one.
pub(crate) fn common_name(name: &Name) -> String {
    let name = name
        .common_name()
        .ok()
        .flatten()
        .map(|name| name.value().into_owned());
    one_line(&name.unwrap_or_default())
}

/// Text of a certificate for a message: on one line, and not longer than
/// RFC 5280 allows for a name.
pub(crate) fn one_line(text: &str) -> String {
    redoubt_errors::flatten(text).chars().take(64).collect()
}

/// No extension twice, and no critical one that is not understood.
fn check_extensions(extensions: &[Extension]) -> Result<(), VerifierError> {
    for (index, extension) in extensions.iter().enumerate() {
        let oid = extension.extn_id;
        if extensions
            .iter()
            .take(index)
            .any(|earlier| earlier.extn_id == oid)
        {
            return Err(VerifierError::DuplicateExtension {
                oid: oid.to_string(),
            });
        }
        if extension.critical && oid != KEY_USAGE && oid != BASIC_CONSTRAINTS {
            return Err(VerifierError::CriticalExtension {
                oid: oid.to_string(),
            });
        }
    }
    Ok(())
}

/// The bytes of the first element in the outer sequence: what X.509 signs.
pub(crate) fn first_element(der: &[u8]) -> der::Result<&[u8]> {
    let outer = AnyRef::from_der(der)?;
    SliceReader::new(outer.value())?.tlv_bytes()
}

/// RSASSA-PSS-params, RFC 4055 section 3.1.
#[derive(Sequence)]
struct PssParameters<'a> {
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    hash: Option<AlgorithmIdentifierRef<'a>>,
    #[asn1(context_specific = "1", tag_mode = "EXPLICIT", optional = "true")]
    mask: Option<AlgorithmIdentifierRef<'a>>,
    #[asn1(context_specific = "2", tag_mode = "EXPLICIT", optional = "true")]
    salt_bytes: Option<u8>,
    #[asn1(context_specific = "3", tag_mode = "EXPLICIT", optional = "true")]
    trailer: Option<u8>,
}

/// Verifies a signature with SHA-384, MGF1 with SHA-384 and a 48-byte salt.
pub(crate) fn verify_pss(
    key: &SubjectPublicKeyInfoOwned,
    algorithm: &AlgorithmIdentifierOwned,
    message: &[u8],
    signature: &[u8],
    wrong: impl Fn() -> VerifierError,
) -> Result<(), VerifierError> {
    if !is_pss_sha384(algorithm) {
        return Err(VerifierError::CertificateAlgorithm);
    }
    if key.algorithm.oid != RSA_ENCRYPTION && key.algorithm.oid != RSASSA_PSS {
        return Err(VerifierError::CertificateAlgorithm);
    }
    let key = key.subject_public_key.as_bytes().ok_or_else(&wrong)?;
    UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA384, key)
        .verify(message, signature)
        .map_err(|_| wrong())
}

fn is_pss_sha384(algorithm: &AlgorithmIdentifierOwned) -> bool {
    let Some(parameters) = &algorithm.parameters else {
        return false;
    };
    let Ok(parameters) = parameters.decode_as::<PssParameters<'_>>() else {
        return false;
    };
    let mask = parameters.mask.and_then(|mask| {
        let inner = mask
            .parameters?
            .decode_as::<AlgorithmIdentifierRef<'_>>()
            .ok()?;
        Some(mask.oid == MGF1 && inner.oid == SHA384)
    });
    algorithm.oid == RSASSA_PSS
        && parameters.hash.is_some_and(|hash| hash.oid == SHA384)
        && mask == Some(true)
        && parameters.salt_bytes == Some(SALT_BYTES)
        && parameters.trailer.is_none_or(|trailer| trailer == 1)
}
