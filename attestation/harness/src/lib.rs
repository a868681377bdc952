//! Simulated TEEs and a matrix of cases for verifiers and key brokers, without
//! hardware.
//!
//! - [`SnpForge`] signs SEV-SNP reports of any content under a root of its own,
//!   good ones and bad ones.
//! - [`QuotingEnclave`] does the same for TDX quotes, with PCK certificates, TCB
//!   information, an identity of the quoting enclave and revocation lists.
//! - [`LocalServices`] answers as AMD's key distribution service and Intel's
//!   provisioning certification service do, and on demand as they do when they
//!   are busy.
//! - [`run`] drives Redoubt's verifiers and a key broker, one in this process or
//!   any that speaks the protocol, through every case, and says which outcome
//!   was not the one that must be.
//!
//! Nothing here protects anything: whoever has a [`Site`] can make evidence that
//! its root vouches for.

#![forbid(unsafe_code)]

mod broker;
mod case;
mod error;
mod log;
mod report;
mod run;
mod services;
mod site;
mod snp;
mod tdx;
mod wire;

pub use broker::{BrokerClient, LocalBroker};
pub use case::{Case, Expected, Observed, Row, Step, Target};
pub use error::HarnessError;
pub use report::{CaseResult, Report};
pub use run::{Selection, run};
pub use services::{LocalServices, Mood};
pub use site::Site;
pub use snp::SnpForge;
pub use tdx::{QuotingEnclave, TdProfile};
