//! TDX evidence as the key-broker protocol carries it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::EvidenceError;
use crate::tdx::quote::{MAX_QUOTE_BYTES, TdxQuote};

/// The largest event log that is taken from evidence, in bytes.
const MAX_LOG_BYTES: usize = 4 * 1024 * 1024;

/// A quote, and the event log that goes with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TdxEvidence {
    /// The quote.
    pub quote: TdxQuote,
    /// The event log (CCEL) as the guest sent it, perhaps none.
    pub event_log: Option<Vec<u8>>,
}

#[derive(Serialize, Deserialize)]
struct EvidenceJson {
    quote: String,
    #[serde(default)]
    cc_eventlog: Option<String>,
}

impl TdxEvidence {
    /// Reads a JSON value whose size the caller has bounded:
    /// `{"quote": "<Base64>", "cc_eventlog": "<Base64>" or null}`.
    pub fn from_kbs_json(value: &Value) -> Result<Self, EvidenceError> {
        let document = EvidenceJson::deserialize(value).map_err(EvidenceError::TdxJson)?;
        let quote = decode(&document.quote, MAX_QUOTE_BYTES, "quote")?;
        let event_log = document
            .cc_eventlog
            .filter(|text| !text.is_empty())
            .map(|text| decode(&text, MAX_LOG_BYTES, "cc_eventlog"))
            .transpose()?;
        Ok(Self {
            quote: TdxQuote::parse(&quote)?,
            event_log,
        })
    }

    /// The JSON for a key broker.
    pub fn to_kbs_json(&self) -> Value {
        serde_json::json!({
            "quote": STANDARD.encode(self.quote.as_bytes()),
            "cc_eventlog": self.event_log.as_ref().map(|log| STANDARD.encode(log)),
        })
    }
}

fn decode(text: &str, limit: usize, member: &'static str) -> Result<Vec<u8>, EvidenceError> {
    if text.len() / 4 * 3 > limit + 3 {
        return Err(EvidenceError::MemberSize {
            member,
            actual: text.len() / 4 * 3,
            limit,
        });
    }
    STANDARD
        .decode(text)
        .map_err(|cause| EvidenceError::MemberEncoding { member, cause })
}
