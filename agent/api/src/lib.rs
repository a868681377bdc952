//! Kata's agent ttRPC messages and services.
//!
//! The messages are generated from `proto/`, whose names and numbers are Kata
//! Containers' wire format. Their serde form is the JSON that an agent policy
//! sees as `input`: field names as on the wire (`type` is spelt `type_`),
//! absent sub-messages are null, bytes are arrays of numbers and enumerations
//! are numbers.
//!
//! `agent_ttrpc` and `health_ttrpc` hold the service traits, the registration
//! functions (`create_agent_service`, `create_health`) and the clients.

// Not `forbid`: the service generator writes its own `allow`, without unsafe code.
#![deny(unsafe_code)]

mod shape;
pub mod stage;

#[allow(
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    unused_imports,
    dead_code,
    non_snake_case,
    non_camel_case_types,
    clippy::all,
    clippy::pedantic,
    reason = "generated code; the .proto files hold its documentation"
)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/api/mod.rs"));
}

pub use generated::{agent, agent_ttrpc, csi, health, health_ttrpc, oci, types};

/// The vsock port on which the agent serves.
pub const AGENT_PORT: u32 = 1024;

/// The vsock port on which the agent offers its log.
pub const LOG_PORT: u32 = 1025;

/// The vsock port of the debug console, when the kernel command line asks for one.
pub const DEBUG_CONSOLE_PORT: u32 = 1026;
