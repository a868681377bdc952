//! Reads evidence as the key broker receives it; what is read is written the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use redoubt_evidence::{SnpEvidence, show};

fuzz_target!(|data: &[u8]| {
    let Ok(evidence) = SnpEvidence::parse_kbs_json(data) else {
        return;
    };
    let _ = show(&evidence.report);
    if let Ok(json) = evidence.to_kbs_json() {
        assert_eq!(SnpEvidence::from_kbs_json(&json).ok(), Some(evidence));
    }
});
