//! VCEK and VLEK certificates and AMD's extensions in them (AMD 57230).

use std::fmt;

use der::Decode;
use der::asn1::{Ia5StringRef, OctetStringRef, Utf8StringRef};
use redoubt_evidence::{CertKind, Product, SigningKey, TcbVersion};
use x509_cert::spki::ObjectIdentifier;

use crate::cert::{Cert, one_line};
use crate::error::VerifierError;

const PRODUCT: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.2");
const BOOTLOADER: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.1");
const TEE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.2");
const SNP: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.3");
const MICROCODE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.8");
const FMC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.9");
const HARDWARE_ID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.4");
const PROVIDER_ID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.5");

const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const SECP384R1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");

/// The length of an uncompressed P-384 point in bytes.
const POINT_BYTES: usize = 97;

/// Which of the two keys a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VekKind {
    /// Of a chip: with a hardware id.
    Vcek,
    /// Of a provider: with the provider's id.
    Vlek,
}

impl VekKind {
    /// The selector in the report that goes with it.
    pub(crate) fn signing_key(self) -> SigningKey {
        match self {
            Self::Vcek => SigningKey::Vcek,
            Self::Vlek => SigningKey::Vlek,
        }
    }

    /// The common name that AMD gives it.
    pub(crate) fn amd_common_name(self) -> &'static str {
        match self {
            Self::Vcek => "SEV-VCEK",
            Self::Vlek => "SEV-VLEK",
        }
    }

    /// The common name that AMD gives its issuer.
    pub(crate) fn amd_issuer_name(self, product: Product) -> String {
        match self {
            Self::Vcek => format!("SEV-{product}"),
            Self::Vlek => format!("SEV-VLEK-{product}"),
        }
    }
}

impl fmt::Display for VekKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.signing_key(), f)
    }
}

/// The kind of certificate-table entry that a VCEK or VLEK certificate is, by
/// its own content.
pub fn vek_entry_kind(certificate: &[u8]) -> Result<CertKind, VerifierError> {
    Ok(match Vek::parse(certificate)?.kind {
        VekKind::Vcek => CertKind::Vcek,
        VekKind::Vlek => CertKind::Vlek,
    })
}

/// A VCEK or VLEK certificate.
#[derive(Clone, Debug)]
pub(crate) struct Vek {
    pub(crate) cert: Cert,
    pub(crate) kind: VekKind,
    /// The product extension's text, for example `Milan-B0`.
    pub(crate) product_name: String,
    pub(crate) tcb: TcbVersion,
    /// The hardware id of a VCEK: 64 bytes, or 8 on Turin.
    pub(crate) hardware_id: Option<Vec<u8>>,
    /// The P-384 public key, uncompressed.
    pub(crate) public_point: Vec<u8>,
}

impl Vek {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, VerifierError> {
        let cert = Cert::parse(bytes)?;
        let hardware_id = cert.extension(HARDWARE_ID).map(hardware_id).transpose()?;
        let kind = match (hardware_id.is_some(), cert.extension(PROVIDER_ID).is_some()) {
            (true, false) => VekKind::Vcek,
            (false, true) => VekKind::Vlek,
            _ => return Err(VerifierError::NeitherVcekNorVlek),
        };
        if !cert.may_sign_data()? {
            return Err(VerifierError::CertificateKey);
        }
        let tcb = TcbVersion {
            fmc: number(&cert, FMC)?,
            bootloader: number(&cert, BOOTLOADER)?.ok_or(VerifierError::NoTcbVersion)?,
            tee: number(&cert, TEE)?.ok_or(VerifierError::NoTcbVersion)?,
            snp: number(&cert, SNP)?.ok_or(VerifierError::NoTcbVersion)?,
            microcode: number(&cert, MICROCODE)?.ok_or(VerifierError::NoTcbVersion)?,
        };
        let product_name = cert
            .extension(PRODUCT)
            .map(text)
            .transpose()?
            .unwrap_or_default();
        let public_point = p384_point(&cert)?;
        Ok(Self {
            cert,
            kind,
            product_name,
            tcb,
            hardware_id,
            public_point,
        })
    }

    /// The product that the certificate names.
    pub(crate) fn product(&self) -> Option<Product> {
        Product::from_certificate_name(&self.product_name)
    }
}

fn p384_point(cert: &Cert) -> Result<Vec<u8>, VerifierError> {
    let key = cert.public_key();
    let curve = key
        .algorithm
        .parameters
        .as_ref()
        .and_then(|any| any.decode_as().ok());
    let point = key.subject_public_key.as_bytes().unwrap_or_default();
    if key.algorithm.oid == EC_PUBLIC_KEY
        && curve == Some(SECP384R1)
        && point.len() == POINT_BYTES
        && point.first() == Some(&4)
    {
        Ok(point.to_vec())
    } else {
        Err(VerifierError::CertificateKey)
    }
}

/// A security version: a DER integer from 0 to 255.
fn number(cert: &Cert, oid: ObjectIdentifier) -> Result<Option<u8>, VerifierError> {
    cert.extension(oid)
        .map(u8::from_der)
        .transpose()
        .map_err(|_| VerifierError::Extension {
            oid: oid.to_string(),
        })
}

/// The product name: `IA5String` in AMD's certificates, UTF-8 tolerated.
fn text(value: &[u8]) -> Result<String, VerifierError> {
    let text = Ia5StringRef::from_der(value)
        .map(|text| text.as_str().to_owned())
        .or_else(|_| Utf8StringRef::from_der(value).map(|text| text.as_str().to_owned()));
    text.map(|text| one_line(&text))
        .map_err(|_| VerifierError::Extension {
            oid: PRODUCT.to_string(),
        })
}

/// The hardware id: raw bytes, or the same as a DER octet string.
fn hardware_id(value: &[u8]) -> Result<Vec<u8>, VerifierError> {
    let known = |length: usize| {
        Product::ALL
            .iter()
            .any(|product| product.hwid_bytes() == length)
    };
    if known(value.len()) {
        return Ok(value.to_vec());
    }
    match <&OctetStringRef>::from_der(value) {
        Ok(inner) if known(inner.as_bytes().len()) => Ok(inner.as_bytes().to_vec()),
        _ => Err(VerifierError::Extension {
            oid: HARDWARE_ID.to_string(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_milan_vcek_is_read() {
        let vek = Vek::parse(include_bytes!("../testdata/trustee-test-vcek.der")).unwrap();
        assert_eq!(vek.kind, VekKind::Vcek);
        assert_eq!(vek.product_name, "Milan-B0");
        assert_eq!(vek.product(), Some(Product::Milan));
        assert_eq!(
            vek.tcb.to_string(),
            "bootloader 3, tee 0, snp 8, microcode 115"
        );
        assert_eq!(vek.hardware_id.map(|id| id.len()), Some(64));
    }

    #[test]
    fn a_turin_vcek_has_an_fmc_version_and_a_short_hardware_id() {
        let vek = Vek::parse(include_bytes!("../testdata/sev-vcek_turin.der")).unwrap();
        assert_eq!(vek.product(), Some(Product::Turin));
        assert!(vek.tcb.fmc.is_some());
        assert_eq!(vek.hardware_id.map(|id| id.len()), Some(8));
    }

    #[test]
    fn a_vlek_has_no_hardware_id() {
        let vek = Vek::parse(include_bytes!("../testdata/trustee-test-vlek.der")).unwrap();
        assert_eq!(vek.kind, VekKind::Vlek);
        assert_eq!(vek.hardware_id, None);
    }

    #[test]
    fn both_encodings_of_the_hardware_id_are_read() {
        let id = |bytes: &[u8]| Vek::parse(bytes).unwrap().hardware_id.unwrap().len();
        assert_eq!(
            id(include_bytes!(
                "../testdata/trustee-test-vcek-invalid-legacy.der"
            )),
            64
        );
        assert_eq!(
            id(include_bytes!(
                "../testdata/trustee-test-vcek-invalid-new.der"
            )),
            64
        );
        let mut encoded = vec![4, 64];
        encoded.extend([7; 64]);
        assert_eq!(hardware_id(&encoded).unwrap(), [7; 64]);
        assert!(hardware_id(&encoded[..65]).is_err());
        assert!(hardware_id(&[]).is_err());
    }

    #[test]
    fn truncated_and_extended_certificates_are_refused() {
        let whole = include_bytes!("../testdata/trustee-test-vcek.der");
        for length in [0, 1, 4, 100, whole.len() - 1] {
            assert!(Vek::parse(&whole[..length]).is_err());
        }
        assert!(Vek::parse(&[whole.as_slice(), &[0]].concat()).is_err());
    }
}
