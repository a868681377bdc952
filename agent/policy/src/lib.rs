//! The measured policy every request must pass.
//!
//! A policy is a Rego module (Rego v0 with `import future.keywords`) of the
//! package `agent_policy`. For each request the rule with the name of the
//! request's message is evaluated with the message as `input`, in the JSON form
//! of `redoubt-agent-api`. The rule gives a boolean, or `{"allowed": bool,
//! "ops": [...]}` with JSON Patch operations (RFC 6902) below `/pstate`, which
//! change `data.pstate` when the request is allowed. A request without a rule
//! is refused.
//!
//! `AllowRequestsFailingPolicy := true`, a help for writing policies, lets
//! refused requests pass. A policy for a confidential guest that says so is
//! itself refused ([`PolicyEngine::new`]): whoever attests the guest would see
//! a policy in the measurement that is not enforced.

#![forbid(unsafe_code)]

mod engine;
mod error;
mod input;
mod state;

pub use engine::{Decision, PolicyEngine};
pub use error::PolicyError;
pub use input::PolicyRequest;

/// The policy of a confidential guest without initdata: refuses all requests
/// except the few that say what the agent is and that take the sandbox down.
pub const DENY_BY_DEFAULT: &str = include_str!("../policies/deny-by-default.rego");

/// The policy of a guest that is not confidential: allows every request.
pub const ALLOW_ALL: &str = include_str!("../policies/allow-all.rego");

/// An engine with [`DENY_BY_DEFAULT`].
pub fn default_deny() -> Result<PolicyEngine, PolicyError> {
    PolicyEngine::new(DENY_BY_DEFAULT)
}

/// An engine with [`ALLOW_ALL`].
pub fn allow_all() -> Result<PolicyEngine, PolicyError> {
    PolicyEngine::lenient(ALLOW_ALL)
}
