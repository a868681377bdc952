//! Key brokers: one of this process or any other, and cases for them.

mod cases;
mod client;
mod local;

pub use client::BrokerClient;
pub use local::LocalBroker;

pub(crate) use cases::{attempt, cases, ended_session};
