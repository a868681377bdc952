//! A certificate authority with the shape of AMD's: RSA keys that sign with
//! RSASSA-PSS, SHA-384 and a 48-byte salt, and P-384 endorsement keys with
//! AMD's extensions (AMD 57230).
//!
//! This is the only place of the project that handles RSA private keys. The
//! `rsa` crate's private-key operations are not constant-time
//! (RUSTSEC-2023-0071); that is harmless here, because these keys live for a
//! moment on the host and protect nothing.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use der::asn1::{Any, BitString, GeneralizedTime, Ia5String, OctetString, UtcTime};
use der::flagset::FlagSet;
use der::{Decode, Encode, Sequence};
use getrandom::SysRng;
use p384::pkcs8::{DecodePrivateKey, EncodePrivateKey, EncodePublicKey, LineEnding};
use redoubt_evidence::{Product, TcbVersion};
use rsa::RsaPrivateKey;
use rsa::rand_core::UnwrapErr;
use rsa::signature::{RandomizedSigner, SignatureEncoding};
use sha2::Sha384;
use x509_cert::crl::{CertificateList, RevokedCert, TbsCertList};
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::{BasicConstraints, KeyUsage, KeyUsages};
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::{AlgorithmIdentifierOwned, ObjectIdentifier, SubjectPublicKeyInfoOwned};
use x509_cert::time::{Time, Validity};
use x509_cert::{AlgorithmIdentifier, Version};
use zeroize::Zeroizing;

use crate::error::SimulatorError;

const RSASSA_PSS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.10");
const KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.15");
const BASIC_CONSTRAINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.19");

/// RSASSA-PSS-params: SHA-384, MGF1 with SHA-384, 48 bytes of salt (RFC 4055).
const PSS_PARAMETERS: [u8; 54] = [
    0x30, 0x34, 0xA0, 0x0F, 0x30, 0x0D, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02,
    0x02, 0x05, 0x00, 0xA1, 0x1C, 0x30, 0x1A, 0x06, 0x09, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01,
    0x01, 0x08, 0x30, 0x0D, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05,
    0x00, 0xA2, 0x03, 0x02, 0x01, 0x30,
];

/// The size of an authority's RSA key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RsaBits {
    /// 2048 bits: made in a moment, for tests.
    Rsa2048,
    /// 4096 bits, as AMD's.
    #[default]
    Rsa4096,
}

impl RsaBits {
    fn bits(self) -> usize {
        match self {
            Self::Rsa2048 => 2048,
            Self::Rsa4096 => 4096,
        }
    }
}

/// From when to when a certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// First second.
    pub not_before: SystemTime,
    /// Last second.
    pub not_after: SystemTime,
}

impl Lifetime {
    /// From yesterday, for so many years. Yesterday, because a guest's clock may
    /// run behind.
    pub fn years(years: u32) -> Self {
        const DAY: Duration = Duration::from_secs(24 * 3600);
        let now = SystemTime::now();
        Self {
            not_before: now.checked_sub(DAY).unwrap_or(now),
            not_after: now.checked_add(DAY * 365 * years).unwrap_or(now),
        }
    }

    fn validity(self) -> Result<Validity, SimulatorError> {
        Ok(Validity::new(
            x509_time(self.not_before)?,
            x509_time(self.not_after)?,
        ))
    }
}

/// RFC 5280: `UTCTime` until 2049, `GeneralizedTime` from 2050 on.
fn x509_time(time: SystemTime) -> Result<Time, SimulatorError> {
    match UtcTime::from_system_time(time) {
        Ok(time) => Ok(Time::UtcTime(time)),
        Err(_) => Ok(Time::GeneralTime(GeneralizedTime::from_system_time(time)?)),
    }
}

/// A key that signs certificates, and its certificate.
pub struct Authority {
    key: RsaPrivateKey,
    name: Name,
    certificate: Vec<u8>,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authority({})", self.name)
    }
}

/// An RSA key that has no certificate yet.
pub struct AuthorityKey(RsaPrivateKey);

impl fmt::Debug for AuthorityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuthorityKey(..)")
    }
}

impl AuthorityKey {
    /// Makes a key; 4096 bits take some seconds.
    pub fn generate(bits: RsaBits) -> Result<Self, SimulatorError> {
        let key = RsaPrivateKey::new(&mut UnwrapErr(SysRng), bits.bits());
        key.map(Self).map_err(SimulatorError::Rsa)
    }

    /// Reads a key in PKCS #8 PEM.
    pub fn from_pkcs8_pem(pem: &str) -> Result<Self, SimulatorError> {
        let key = RsaPrivateKey::from_pkcs8_pem(pem).map_err(rsa::Error::from);
        key.map(Self).map_err(SimulatorError::Rsa)
    }

    /// Writes the key in PKCS #8 PEM.
    pub fn to_pkcs8_pem(&self) -> Result<Zeroizing<String>, SimulatorError> {
        let pem = self
            .0
            .to_pkcs8_pem(LineEnding::LF)
            .map_err(rsa::Error::from);
        pem.map_err(SimulatorError::Rsa)
    }

    fn public(&self) -> Result<SubjectPublicKeyInfoOwned, SimulatorError> {
        let document = self.0.to_public_key().to_public_key_der();
        let document = document.map_err(SimulatorError::PublicKey)?;
        Ok(SubjectPublicKeyInfoOwned::from_der(document.as_bytes())?)
    }
}

/// What a VCEK or VLEK certificate says.
#[derive(Clone, Debug)]
pub struct EndorsementProfile {
    /// The subject's distinguished name, RFC 4514.
    pub subject: String,
    /// The product extension's text.
    pub product_name: String,
    /// The TCB that the key is bound to.
    pub tcb: TcbVersion,
    /// The hardware id of a VCEK, as the extension holds it.
    pub hardware_id: Option<Vec<u8>>,
    /// The provider id of a VLEK.
    pub provider_id: Option<String>,
    /// The certificate's lifetime.
    pub lifetime: Lifetime,
}

impl EndorsementProfile {
    /// A VCEK of a chip with this hardware id.
    pub fn vcek(subject: &str, product: Product, tcb: TcbVersion, hardware_id: &[u8; 64]) -> Self {
        let own = hardware_id
            .iter()
            .take(product.hwid_bytes())
            .copied()
            .collect();
        Self {
            subject: subject.to_owned(),
            product_name: product.name().to_owned(),
            tcb,
            hardware_id: Some(own),
            provider_id: None,
            lifetime: Lifetime::years(7),
        }
    }

    fn extensions(&self) -> Result<Vec<Extension>, SimulatorError> {
        let mut extensions = vec![amd_extension("1", 0_u8.to_der()?)?];
        extensions.extend(
            self.described()?
                .into_iter()
                .map(|(_name, extension)| extension),
        );
        if let Some(id) = &self.provider_id {
            extensions.push(amd_extension("5", Ia5String::new(id)?.to_der()?)?);
        }
        Ok(extensions)
    }
}

impl EndorsementProfile {
    /// The extensions that say what chip and firmware it is, with their names.
    pub(crate) fn described(&self) -> Result<Vec<(&'static str, Extension)>, SimulatorError> {
        let tcb = self.tcb;
        let mut extensions = vec![
            (
                "product",
                amd_extension("2", Ia5String::new(&self.product_name)?.to_der()?)?,
            ),
            (
                "tcb.bootloader",
                amd_extension("3.1", tcb.bootloader.to_der()?)?,
            ),
            ("tcb.tee", amd_extension("3.2", tcb.tee.to_der()?)?),
            ("tcb.snp", amd_extension("3.3", tcb.snp.to_der()?)?),
            (
                "tcb.microcode",
                amd_extension("3.8", tcb.microcode.to_der()?)?,
            ),
        ];
        if let Some(fmc) = tcb.fmc {
            extensions.push(("tcb.fmc", amd_extension("3.9", fmc.to_der()?)?));
        }
        if let Some(id) = &self.hardware_id {
            extensions.push(("chip_id", amd_extension("4", id.clone())?));
        }
        Ok(extensions)
    }
}

/// An extension under AMD's arc.
fn amd_extension(arc: &str, value: Vec<u8>) -> Result<Extension, SimulatorError> {
    let oid = ObjectIdentifier::new(&format!("1.3.6.1.4.1.3704.1.{arc}"))
        .map_err(|error| SimulatorError::Der(error.into()))?;
    extension(oid, false, value)
}

fn extension(
    oid: ObjectIdentifier,
    critical: bool,
    value: Vec<u8>,
) -> Result<Extension, SimulatorError> {
    Ok(Extension {
        extn_id: oid,
        critical,
        extn_value: OctetString::new(value)?,
    })
}

/// The extensions of an authority.
fn authority_extensions(path_length: Option<u8>) -> Result<Vec<Extension>, SimulatorError> {
    let constraints = BasicConstraints {
        ca: true,
        path_len_constraint: path_length,
    };
    let mut usages: FlagSet<KeyUsages> = KeyUsages::KeyCertSign.into();
    usages |= KeyUsages::CRLSign;
    Ok(vec![
        extension(KEY_USAGE, true, KeyUsage(usages).to_der()?)?,
        extension(BASIC_CONSTRAINTS, true, constraints.to_der()?)?,
    ])
}

/// `TBSCertificate`, RFC 5280 section 4.1.
#[derive(Sequence)]
struct TbsCertificate {
    #[asn1(context_specific = "0", default = "Default::default")]
    version: Version,
    serial_number: SerialNumber,
    signature: AlgorithmIdentifierOwned,
    issuer: Name,
    validity: Validity,
    subject: Name,
    public_key: SubjectPublicKeyInfoOwned,
    #[asn1(context_specific = "3", tag_mode = "EXPLICIT")]
    extensions: Vec<Extension>,
}

/// `Certificate`, RFC 5280 section 4.1.
#[derive(Sequence)]
struct Certificate {
    tbs: TbsCertificate,
    algorithm: AlgorithmIdentifierOwned,
    signature: BitString,
}

/// Everything about a certificate but its issuer.
struct Subject {
    name: Name,
    serial: Vec<u8>,
    public_key: SubjectPublicKeyInfoOwned,
    lifetime: Lifetime,
    extensions: Vec<Extension>,
}

impl Authority {
    /// A self-signed root. `name` is a distinguished name, RFC 4514.
    pub fn root(key: AuthorityKey, name: &str, lifetime: Lifetime) -> Result<Self, SimulatorError> {
        let subject = Subject {
            name: Name::from_str(name)?,
            serial: random_serial()?,
            public_key: key.public()?,
            lifetime,
            extensions: authority_extensions(None)?,
        };
        let name = subject.name.clone();
        let certificate = sign_certificate(&key.0, &name, subject)?;
        Ok(Self {
            key: key.0,
            name,
            certificate,
        })
    }

    /// An intermediate that this authority signs.
    pub fn intermediate(
        &self,
        key: AuthorityKey,
        name: &str,
        lifetime: Lifetime,
    ) -> Result<Self, SimulatorError> {
        let subject = Subject {
            name: Name::from_str(name)?,
            serial: random_serial()?,
            public_key: key.public()?,
            lifetime,
            extensions: authority_extensions(Some(0))?,
        };
        let name = subject.name.clone();
        let certificate = sign_certificate(&self.key, &self.name, subject)?;
        Ok(Self {
            key: key.0,
            name,
            certificate,
        })
    }

    /// A VCEK or VLEK certificate for `public_key`, in DER.
    pub fn endorse(
        &self,
        public_key: p384::PublicKey,
        profile: &EndorsementProfile,
    ) -> Result<Vec<u8>, SimulatorError> {
        let document = public_key
            .to_public_key_der()
            .map_err(SimulatorError::PublicKey)?;
        let subject = Subject {
            name: Name::from_str(&profile.subject)?,
            // AMD's endorsement keys have the serial number zero.
            serial: vec![0],
            public_key: SubjectPublicKeyInfoOwned::from_der(document.as_bytes())?,
            lifetime: profile.lifetime,
            extensions: profile.extensions()?,
        };
        sign_certificate(&self.key, &self.name, subject)
    }

    /// A revocation list that names `revoked` certificates (DER), in DER.
    pub fn revocation_list(
        &self,
        revoked: &[&[u8]],
        lifetime: Lifetime,
    ) -> Result<Vec<u8>, SimulatorError> {
        let validity = lifetime.validity()?;
        let entry = |der: &&[u8]| -> Result<RevokedCert, SimulatorError> {
            let certificate = x509_cert::Certificate::from_der(der)?;
            Ok(RevokedCert {
                serial_number: certificate.tbs_certificate().serial_number().clone(),
                revocation_date: validity.not_before,
                crl_entry_extensions: None,
            })
        };
        let entries: Vec<RevokedCert> = revoked.iter().map(entry).collect::<Result<_, _>>()?;
        let tbs = TbsCertList {
            version: Version::V2,
            signature: pss_algorithm()?,
            issuer: self.name.clone(),
            this_update: validity.not_before,
            next_update: Some(validity.not_after),
            revoked_certificates: (!entries.is_empty()).then_some(entries),
            crl_extensions: None,
        };
        let signature = sign(&self.key, &tbs.to_der()?)?;
        let list = CertificateList {
            tbs_cert_list: tbs,
            signature_algorithm: pss_algorithm()?,
            signature: BitString::from_bytes(&signature)?,
        };
        Ok(list.to_der()?)
    }

    /// This authority's certificate in DER.
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }
}

fn random_serial() -> Result<Vec<u8>, SimulatorError> {
    let mut serial = [0; 16];
    getrandom::fill(&mut serial).map_err(SimulatorError::Random)?;
    // Positive, and without a leading zero byte.
    serial[0] = serial[0] & 0x3F | 0x40;
    Ok(serial.to_vec())
}

fn pss_algorithm() -> Result<AlgorithmIdentifier, SimulatorError> {
    Ok(AlgorithmIdentifier {
        oid: RSASSA_PSS,
        parameters: Some(Any::from_der(&PSS_PARAMETERS)?),
    })
}

fn sign_certificate(
    key: &RsaPrivateKey,
    issuer: &Name,
    subject: Subject,
) -> Result<Vec<u8>, SimulatorError> {
    let tbs = TbsCertificate {
        version: Version::V3,
        serial_number: SerialNumber::new(&subject.serial)?,
        signature: pss_algorithm()?,
        issuer: issuer.clone(),
        validity: subject.lifetime.validity()?,
        subject: subject.name,
        public_key: subject.public_key,
        extensions: subject.extensions,
    };
    let signature = sign(key, &tbs.to_der()?)?;
    let certificate = Certificate {
        tbs,
        algorithm: pss_algorithm()?,
        signature: BitString::from_bytes(&signature)?,
    };
    Ok(certificate.to_der()?)
}

fn sign(key: &RsaPrivateKey, message: &[u8]) -> Result<Vec<u8>, SimulatorError> {
    let key = rsa::pss::SigningKey::<Sha384>::new(key.clone());
    let signature = key.try_sign_with_rng(&mut UnwrapErr(SysRng), message);
    Ok(signature.map_err(SimulatorError::RsaSignature)?.to_vec())
}
