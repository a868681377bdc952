//! Lets a fixed policy judge a request given as JSON.
//!
//! The input is the rule's name, a newline and the JSON.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use redoubt_agent_policy::PolicyEngine;

static POLICY: LazyLock<PolicyEngine> =
    LazyLock::new(|| PolicyEngine::new(include_str!("../policy.rego")).expect("the policy loads"));

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Some((rule, json)) = text.split_once('\n')
        && let Ok(input) = serde_json::from_str(json)
    {
        let _ = POLICY.evaluate(rule, input);
    }
});
