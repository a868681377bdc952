//! Decodes the host's requests and lets the policy judge them.
//!
//! The first byte selects the message.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use redoubt_agent_api::agent as api;
use redoubt_agent_policy::{PolicyEngine, PolicyRequest};

/// Rules that look into what the host sends.
static POLICY: LazyLock<PolicyEngine> =
    LazyLock::new(|| PolicyEngine::new(include_str!("../policy.rego")).expect("the policy loads"));

fn judge<M: protobuf::Message + PolicyRequest>(bytes: &[u8]) {
    if let Ok(request) = M::parse_from_bytes(bytes) {
        let _ = POLICY.check(&request);
    }
}

macro_rules! messages {
    ($($name:ident),* $(,)?) => {
        const JUDGES: &[fn(&[u8])] = &[$(judge::<api::$name>),*];
    };
}

messages!(
    CreateContainerRequest,
    CreateSandboxRequest,
    ExecProcessRequest,
    UpdateContainerRequest,
    CopyFileRequest,
    UpdateInterfaceRequest,
    UpdateRoutesRequest,
    AddARPNeighborsRequest,
    SignalProcessRequest,
    WriteStreamRequest,
    ReadStreamRequest,
    TtyWinResizeRequest,
    SetPolicyRequest,
    AddSwapRequest,
    ReseedRandomDevRequest,
    StatsContainerRequest,
);

fuzz_target!(|data: &[u8]| {
    if let Some((&selector, message)) = data.split_first()
        && let Some(judge) = JUDGES.get(usize::from(selector) % JUDGES.len())
    {
        judge(message);
    }
});
