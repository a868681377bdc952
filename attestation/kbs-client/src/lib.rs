//! Key broker client.
//!
//! Runs in the guest: proves to a key broker where it runs and what was
//! measured, and fetches resources that are encrypted to a key which never
//! leaves the guest.
//!
//! One handshake serves many resources: its token and key are kept until the
//! token ends. A denial is final and does not start another handshake; a lost
//! session does, once. Everything that a single request does, retries
//! included, ends within one deadline.

#![forbid(unsafe_code)]

mod answer;
mod client;
mod config;
mod deadline;
mod error;
mod handshake;
mod observer;
mod tls;
mod transport;

pub use client::KbsClient;
pub use config::KbsClientConfig;
pub use error::KbsClientError;
pub use observer::{Attested, KbsObserver};
pub use tls::tls_config;
