//! Reads the messages between guest and key broker.

#![no_main]

use libfuzzer_sys::fuzz_target;
use redoubt_evidence::SnpEvidence;
use redoubt_kbs_protocol::{
    AttestRequest, AttestResponse, AuthRequest, Challenge, ErrorBody, canonical_json,
};

fuzz_target!(|data: &[u8]| {
    let _ = AuthRequest::parse(data);
    if let Ok(challenge) = Challenge::parse(data) {
        let _ = challenge.hash_algorithm();
    }
    if let Ok(request) = AttestRequest::parse(data) {
        let bytes = serde_json::to_vec(&request).expect("a request is JSON");
        assert_eq!(AttestRequest::parse(&bytes).ok(), Some(request));
    }
    // A broker reads evidence in place, which must give what the longer way gives.
    if let Ok(quick) = AttestRequest::<SnpEvidence>::parse_as(data)
        && let Ok(any) = AttestRequest::parse(data)
    {
        let slow = SnpEvidence::from_kbs_json(&any.tee_evidence.primary_evidence);
        assert_eq!(slow.ok(), Some(quick.tee_evidence.primary_evidence));
    }
    let _ = AttestResponse::parse(data);
    if let Some(error) = ErrorBody::parse(data) {
        let _ = (error.kind().is_about_session(), error.short_detail());
    }
    if let Ok(value) = serde_json::from_slice::<serde_json::Value>(data)
        && let Ok(text) = canonical_json(&value)
    {
        // What both sides hash must mean the same, and have one form only.
        let again: serde_json::Value = serde_json::from_str(&text).expect("canonical JSON is JSON");
        assert_eq!(again, value);
        assert_eq!(canonical_json(&again).ok(), Some(text));
    }
});
