//! Certificates with the shape of Intel's: a root, an authority for PCK
//! certificates, and a signer of documents.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CustomExtension, DnType,
    IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber,
};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use time::{Duration, OffsetDateTime};

use crate::error::HarnessError;
use crate::tdx::der;

/// Everything that a PCK certificate says of a platform.
#[derive(Clone, Copy, Debug)]
pub(super) struct Platform {
    pub(super) fmspc: [u8; 6],
    pub(super) ppid: [u8; 16],
    pub(super) instance_id: [u8; 16],
    pub(super) cpu_svn: [u8; 16],
    pub(super) pce_svn: u8,
}

/// A P-256 key for certificates and for bare signatures.
pub(super) struct Key {
    certificates: KeyPair,
    bare: EcdsaKeyPair,
}

impl Key {
    pub(super) fn generate() -> Result<Self, HarnessError> {
        let certificates = KeyPair::generate()?;
        let bare = EcdsaKeyPair::from_pkcs8(
            &ECDSA_P256_SHA256_FIXED_SIGNING,
            certificates.serialized_der(),
            &SystemRandom::new(),
        );
        Ok(Self {
            certificates,
            bare: bare.map_err(|_| HarnessError::Key)?,
        })
    }

    /// r and s, 32 bytes each.
    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, HarnessError> {
        let signature = self.bare.sign(&SystemRandom::new(), message);
        Ok(signature.map_err(|_| HarnessError::Key)?.as_ref().to_vec())
    }

    /// x and y, 32 bytes each.
    pub(super) fn public_point(&self) -> Vec<u8> {
        let point = self.bare.public_key().as_ref();
        point.get(1..).unwrap_or_default().to_vec()
    }
}

/// A certificate with its key.
pub(super) struct Holder {
    params: CertificateParams,
    pub(super) key: Key,
    pub(super) der: Vec<u8>,
    pub(super) pem: String,
    serial: Vec<u8>,
}

/// From when to when something is valid.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub(super) from: OffsetDateTime,
    pub(super) to: OffsetDateTime,
}

impl Window {
    /// From yesterday for so many days.
    pub(super) fn days(days: i64) -> Self {
        let now = OffsetDateTime::now_utc();
        Self {
            from: now - Duration::DAY,
            to: now + Duration::days(days),
        }
    }
}

/// Names of a simulated PKI begin so.
fn name(role: &str) -> String {
    format!("{} SGX {role}", redoubt_evidence::SIMULATED_NAME_PREFIX)
}

fn params(role: &str, serial: u8, ca: Option<u8>) -> Result<CertificateParams, HarnessError> {
    let mut params = CertificateParams::new(Vec::new())?;
    params
        .distinguished_name
        .push(DnType::CommonName, name(role));
    params.serial_number = Some(SerialNumber::from_slice(&[0x40, serial]));
    let window = Window::days(3650);
    (params.not_before, params.not_after) = (window.from, window.to);
    params.key_usages = match ca {
        Some(_) => vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign],
        None => vec![KeyUsagePurpose::DigitalSignature],
    };
    if let Some(below) = ca {
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(below));
    }
    Ok(params)
}

impl Holder {
    /// A self-signed root.
    pub(super) fn root() -> Result<Self, HarnessError> {
        let params = params("Root CA", 1, Some(1))?;
        let key = Key::generate()?;
        let certificate = params.self_signed(&key.certificates)?;
        Ok(Self::of(params, key, &certificate))
    }

    /// The authority that signs PCK certificates.
    pub(super) fn platform_ca(&self) -> Result<Self, HarnessError> {
        self.issue(params("PCK Platform CA", 2, Some(0))?)
    }

    /// The signer of documents.
    pub(super) fn tcb_signer(&self) -> Result<Self, HarnessError> {
        self.issue(params("TCB Signing", 3, None)?)
    }

    /// A platform's PCK certificate.
    pub(super) fn pck(&self, platform: &Platform, serial: u8) -> Result<Self, HarnessError> {
        let mut params = params("PCK Certificate", serial, None)?;
        let content = der::pck_extension(platform);
        let extension = CustomExtension::from_oid_content(&der::EXTENSION, content);
        params.custom_extensions.push(extension);
        self.issue(params)
    }

    fn issue(&self, params: CertificateParams) -> Result<Self, HarnessError> {
        let key = Key::generate()?;
        let certificate = params.signed_by(&key.certificates, &self.issuer())?;
        Ok(Self::of(params, key, &certificate))
    }

    fn issuer(&self) -> Issuer<'_, &KeyPair> {
        Issuer::from_params(&self.params, &self.key.certificates)
    }

    fn of(params: CertificateParams, key: Key, certificate: &rcgen::Certificate) -> Self {
        let serial = params
            .serial_number
            .as_ref()
            .map(SerialNumber::to_bytes)
            .unwrap_or_default();
        Self {
            params,
            key,
            der: certificate.der().to_vec(),
            pem: certificate.pem(),
            serial,
        }
    }

    /// A revocation list that names these certificates, in DER.
    pub(super) fn list(&self, revoked: &[&Self], window: Window) -> Result<Vec<u8>, HarnessError> {
        let entry = |holder: &&Self| RevokedCertParams {
            serial_number: SerialNumber::from_slice(&holder.serial),
            revocation_time: window.from,
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: window.from,
            next_update: window.to,
            crl_number: SerialNumber::from_slice(&[1]),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(entry).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        Ok(list.signed_by(&self.issuer())?.der().to_vec())
    }
}
