//! Certificate revocation lists, RFC 5280 section 5.

use der::Decode;
use time::OffsetDateTime;
use x509_cert::crl::CertificateList;
use x509_cert::name::Name;

use crate::cert::{Cert, common_name, first_element, unix_seconds, verify_pss};
use crate::error::VerifierError;

/// The largest revocation list that is read, in bytes.
const MAX_LIST_BYTES: usize = 1024 * 1024;

/// A revocation list as AMD's key distribution service hands out.
#[derive(Clone, Debug)]
pub struct RevocationList {
    der: Vec<u8>,
    parsed: CertificateList,
}

impl RevocationList {
    /// Reads one list in DER, or in PEM.
    pub fn parse(bytes: &[u8]) -> Result<Self, VerifierError> {
        if bytes.is_empty() || bytes.len() > MAX_LIST_BYTES {
            return Err(VerifierError::RevocationListSize {
                actual: bytes.len(),
                limit: MAX_LIST_BYTES,
            });
        }
        let der = if bytes.starts_with(b"-----BEGIN") {
            let (_label, der) = der::pem::decode_vec(bytes)
                .map_err(|error| VerifierError::RevocationListEncoding(error.into()))?;
            der
        } else {
            bytes.to_vec()
        };
        let parsed =
            CertificateList::from_der(&der).map_err(VerifierError::RevocationListEncoding)?;
        Ok(Self { der, parsed })
    }

    /// The issuer's common name.
    pub fn issuer_name(&self) -> String {
        common_name(&self.parsed.tbs_cert_list.issuer)
    }

    /// When the list was made.
    pub fn this_update(&self) -> Option<OffsetDateTime> {
        let this = self.parsed.tbs_cert_list.this_update;
        OffsetDateTime::from_unix_timestamp(unix_seconds(this)).ok()
    }

    /// When the next list is due, where the list says so.
    pub fn next_update(&self) -> Option<OffsetDateTime> {
        let next = self.parsed.tbs_cert_list.next_update?;
        OffsetDateTime::from_unix_timestamp(unix_seconds(next)).ok()
    }

    pub(crate) fn is_issued_by(&self, name: &Name) -> bool {
        self.parsed.tbs_cert_list.issuer == *name
    }

    pub(crate) fn verify_issued_by(&self, issuer: &Cert) -> Result<(), VerifierError> {
        let wrong = || VerifierError::CertificateSignature {
            subject: format!("revocation list of {}", self.issuer_name()),
            issuer: issuer.common_name(),
        };
        let tbs = first_element(&self.der).map_err(VerifierError::RevocationListEncoding)?;
        let signature = self.parsed.signature.as_bytes().ok_or_else(wrong)?;
        if self.parsed.tbs_cert_list.signature != self.parsed.signature_algorithm {
            return Err(VerifierError::CertificateAlgorithm);
        }
        let algorithm = &self.parsed.signature_algorithm;
        verify_pss(issuer.public_key(), algorithm, tbs, signature, wrong)
    }

    /// Whether the list is neither from the future nor overdue.
    pub(crate) fn is_current_at(&self, at: OffsetDateTime) -> bool {
        let list = &self.parsed.tbs_cert_list;
        unix_seconds(list.this_update) <= at.unix_timestamp()
            && list
                .next_update
                .is_none_or(|next| at.unix_timestamp() <= unix_seconds(next))
    }

    /// Whether the list names this certificate's serial number.
    pub(crate) fn revokes(&self, cert: &Cert) -> bool {
        let revoked = self.parsed.tbs_cert_list.revoked_certificates.as_deref();
        revoked
            .unwrap_or_default()
            .iter()
            .any(|entry| entry.serial_number == *cert.serial_number())
    }
}
