//! The platform's PCK certificate.

use redoubt_evidence::tdx::TdxQuote;
use redoubt_verifier::{CollateralId, Fmspc, PckAuthority};
use x509_cert::Certificate;

use crate::error::TdxVerifierError;

/// What a quote's PCK certificate says about its platform. Nothing is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PckInfo {
    /// Which TCB information applies.
    pub fmspc: Fmspc,
    /// Which authority signed the certificate.
    pub authority: PckAuthority,
}

impl PckInfo {
    /// Reads the PCK certificate of a quote.
    pub fn of(quote: &TdxQuote) -> Result<Self, TdxVerifierError> {
        let chain = quote.pck_chain().ok_or(TdxVerifierError::NoPckChain)?;
        let unreadable = |reason: String| TdxVerifierError::PckCertificate {
            reason: redoubt_errors::flatten(&reason).chars().take(200).collect(),
        };
        let extension = dcap_qvl::intel::parse_pck_extension_from_pem(chain)
            .map_err(|error| unreadable(format!("{error:#}")))?;
        let certificates = certificates(chain);
        let leaf = certificates
            .first()
            .ok_or_else(|| unreadable("no certificate".to_owned()))?;
        let issuer = leaf.tbs_certificate().issuer().to_string();
        let authority = if issuer.contains("Platform") {
            PckAuthority::Platform
        } else {
            PckAuthority::Processor
        };
        Ok(Self {
            fmspc: Fmspc(extension.fmspc),
            authority,
        })
    }

    /// The documents that the verification of such a quote needs.
    pub fn documents(&self) -> [CollateralId; 4] {
        [
            CollateralId::TcbInfo(self.fmspc),
            CollateralId::QeIdentity,
            CollateralId::PckCrl(self.authority),
            CollateralId::RootCaCrl,
        ]
    }
}

/// The certificates of a PEM text; none where it cannot be read. Quoting
/// enclaves end the text as C does, with a NUL.
pub(crate) fn certificates(pem: &[u8]) -> Vec<Certificate> {
    Certificate::load_pem_chain(pem.strip_suffix(&[0]).unwrap_or(pem)).unwrap_or_default()
}
