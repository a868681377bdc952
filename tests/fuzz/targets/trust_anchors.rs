//! Reads roots of trust that somebody gives, as PEM or DER.

#![no_main]

use libfuzzer_sys::fuzz_target;
use redoubt_verifier::TrustAnchors;

fuzz_target!(|data: &[u8]| {
    if let Ok(anchors) = TrustAnchors::given(data, "fuzz") {
        assert!(!anchors.root_names().is_empty());
    }
});
