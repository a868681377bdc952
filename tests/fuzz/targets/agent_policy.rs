//! Loads policies and lets them judge.
//!
//! The input is the policy's text and, behind a NUL, a request as JSON.

#![no_main]

use libfuzzer_sys::fuzz_target;
use redoubt_agent_policy::PolicyEngine;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (policy, input) = text.split_once('\0').unwrap_or((text, "{}"));
    let Ok(input) = serde_json::from_str(input) else {
        return;
    };
    let Ok(engine) = PolicyEngine::lenient(policy) else {
        return;
    };
    let _ = engine.image_digests();
    let _ = engine.evaluate("CreateContainerRequest", input);
});
