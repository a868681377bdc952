//! Evidence of any TEE, as files and brokers carry it.

use serde_json::Value;

use crate::error::EvidenceError;
use crate::json::{MAX_EVIDENCE_JSON_BYTES, SnpEvidence};
use crate::tdx::TdxEvidence;

/// The largest document of evidence with an event log, in bytes.
const MAX_DOCUMENT_BYTES: usize = 8 * 1024 * 1024;

/// Evidence of one of the TEEs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// AMD SEV-SNP.
    Snp(Box<SnpEvidence>),
    /// Intel TDX.
    Tdx(Box<TdxEvidence>),
}

impl Evidence {
    /// Reads a key broker's evidence: the object of a TEE itself, or the
    /// `tee-evidence` of an attestation request with `primary_evidence` in it.
    pub fn parse_kbs_json(bytes: &[u8]) -> Result<Self, EvidenceError> {
        let size = |limit| EvidenceError::JsonSize {
            actual: bytes.len(),
            limit,
        };
        if bytes.len() > MAX_DOCUMENT_BYTES {
            return Err(size(MAX_DOCUMENT_BYTES));
        }
        let value: Value = serde_json::from_slice(bytes).map_err(EvidenceError::Json)?;
        let value = inner(&value);
        if value.get("quote").is_some() {
            let evidence = TdxEvidence::from_kbs_json(value)?;
            return Ok(Self::Tdx(Box::new(evidence)));
        }
        if bytes.len() > MAX_EVIDENCE_JSON_BYTES {
            return Err(size(MAX_EVIDENCE_JSON_BYTES));
        }
        let evidence = SnpEvidence::from_kbs_json(value)?;
        Ok(Self::Snp(Box::new(evidence)))
    }
}

/// The object of the TEE inside the wrappers of the protocol.
fn inner(value: &Value) -> &Value {
    let value = value.get("tee-evidence").unwrap_or(value);
    value.get("primary_evidence").unwrap_or(value)
}
