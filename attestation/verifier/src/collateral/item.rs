//! One document with its id.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::anchors::read_certificates;
use crate::cert::Cert;
use crate::collateral::document::SignedDocument;
use crate::collateral::id::{CollateralId, Fmspc, PckAuthority, VcekId};
use crate::crl::RevocationList;
use crate::error::VerifierError;
use crate::vek::{Vek, VekKind};

/// The largest document that is read, in bytes.
pub const MAX_ITEM_BYTES: usize = 1024 * 1024;

/// A document as its service handed it out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CollateralItem {
    /// What it is.
    pub id: CollateralId,
    /// Its bytes: DER, PEM or JSON, as they came.
    pub body: Vec<u8>,
    /// The issuer's certificate chain in PEM, where it comes beside the body
    /// (Intel's documents).
    pub issuer_chain: Option<String>,
    /// When it came.
    pub fetched_at: OffsetDateTime,
}

impl CollateralItem {
    /// Checks that the body is what the id says. Signatures are not verified.
    pub fn check(&self) -> Result<(), VerifierError> {
        if self.body.is_empty() || self.body.len() > MAX_ITEM_BYTES {
            return Err(VerifierError::CollateralSize {
                id: self.id,
                actual: self.body.len(),
                limit: MAX_ITEM_BYTES,
            });
        }
        let checked = match self.id {
            CollateralId::Vcek(id) => check_vcek(&self.body, &id),
            CollateralId::Chain(..) => check_chain(&self.body),
            CollateralId::Crl(..) | CollateralId::RootCaCrl => {
                RevocationList::parse(&self.body).map(drop)
            }
            CollateralId::PckCrl(authority) => {
                self.check_issuer_chain().and(self.check_pck_crl(authority))
            }
            CollateralId::TcbInfo(fmspc) => {
                self.check_issuer_chain().and(self.check_tcb_info(fmspc))
            }
            CollateralId::QeIdentity => self.check_issuer_chain().and(self.check_qe_identity()),
        };
        checked.map_err(|cause| VerifierError::CollateralContent {
            id: self.id,
            cause: Box::new(cause),
        })
    }

    /// Until when the issuer says that the document is current; `None` for one
    /// that does not say, such as a certificate.
    pub fn next_update(&self) -> Option<OffsetDateTime> {
        match self.id {
            CollateralId::Vcek(_) | CollateralId::Chain(..) => None,
            CollateralId::Crl(..) | CollateralId::PckCrl(_) | CollateralId::RootCaCrl => {
                RevocationList::parse(&self.body).ok()?.next_update()
            }
            CollateralId::TcbInfo(_) => next_update(&self.tcb_info().ok()?),
            CollateralId::QeIdentity => next_update(&self.qe_identity().ok()?),
        }
    }

    /// The body as signed TCB information.
    pub fn tcb_info(&self) -> Result<SignedDocument, VerifierError> {
        SignedDocument::parse(&self.body, "tcbInfo")
    }

    /// The body as a signed identity of the quoting enclave.
    pub fn qe_identity(&self) -> Result<SignedDocument, VerifierError> {
        SignedDocument::parse(&self.body, "enclaveIdentity")
    }

    fn check_issuer_chain(&self) -> Result<(), VerifierError> {
        let chain = self.issuer_chain.as_deref().unwrap_or_default();
        read_certificates(chain.as_bytes()).map(drop)
    }

    fn check_pck_crl(&self, authority: PckAuthority) -> Result<(), VerifierError> {
        let list = RevocationList::parse(&self.body)?;
        let issuer = list.issuer_name();
        // "Intel SGX PCK Platform CA", "Intel SGX PCK Processor CA".
        if issuer.to_ascii_lowercase().contains(authority.name()) {
            Ok(())
        } else {
            Err(VerifierError::CollateralMismatch {
                member: "issuer",
                expected: authority.name().to_owned(),
                seen: issuer,
            })
        }
    }

    fn check_tcb_info(&self, fmspc: Fmspc) -> Result<(), VerifierError> {
        let document = self.tcb_info()?;
        require_text(&document, "id", "TDX")?;
        require_text(&document, "fmspc", &fmspc.to_string())
    }

    fn check_qe_identity(&self) -> Result<(), VerifierError> {
        require_text(&self.qe_identity()?, "id", "TD_QE")
    }
}

fn next_update(document: &SignedDocument) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(document.text_of("nextUpdate")?, &Rfc3339).ok()
}

fn require_text(
    document: &SignedDocument,
    member: &'static str,
    expected: &str,
) -> Result<(), VerifierError> {
    let seen = document.text_of(member).unwrap_or_default();
    if seen.eq_ignore_ascii_case(expected) {
        Ok(())
    } else {
        Err(VerifierError::CollateralMismatch {
            member,
            expected: expected.to_owned(),
            seen: crate::cert::one_line(seen),
        })
    }
}

fn check_vcek(body: &[u8], id: &VcekId) -> Result<(), VerifierError> {
    let vek = Vek::parse(body)?;
    let mismatch = |member, expected: String, seen: String| VerifierError::CollateralMismatch {
        member,
        expected,
        seen,
    };
    if vek.kind != VekKind::Vcek {
        let seen = vek.kind.to_string();
        return Err(mismatch("kind", VekKind::Vcek.to_string(), seen));
    }
    let chip = vek.hardware_id.as_deref().unwrap_or_default();
    if chip != id.hardware_id() {
        let expected = hex::encode(id.hardware_id());
        return Err(mismatch("hardware id", expected, hex::encode(chip)));
    }
    if vek.tcb != id.tcb {
        return Err(mismatch("TCB", id.tcb.to_string(), vek.tcb.to_string()));
    }
    if vek.product() != Some(id.product) {
        let expected = id.product.to_string();
        return Err(mismatch("product", expected, vek.product_name));
    }
    Ok(())
}

/// A root and an intermediate that it has signed.
fn check_chain(body: &[u8]) -> Result<(), VerifierError> {
    let certificates = read_certificates(body)?;
    let root = certificates.iter().find(|cert| cert.is_self_issued());
    let root = root.ok_or(VerifierError::NoRoot)?;
    root.verify_issued_by(root)?;
    let mut intermediates = certificates
        .iter()
        .filter(|cert| !cert.is_self_issued())
        .peekable();
    if intermediates.peek().is_none() {
        return Err(VerifierError::NoCertificate);
    }
    let signed = |cert: &Cert| cert.verify_issued_by(root);
    intermediates.try_for_each(signed)
}
