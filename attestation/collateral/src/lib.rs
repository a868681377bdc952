//! Fetches and caches the collateral of AMD's key distribution service and
//! Intel's provisioning certification service.
//!
//! Both services refuse callers that ask too often. So each document is asked
//! for once at a time however many wait for it, a service that says when to
//! come back is left alone until then, and what was fetched is kept: on disk in
//! a [`DiskCache`], in memory in a [`CollateralClient`].
//!
//! Nothing fetched is trusted: a document must be what its id says, and the
//! verification that uses it checks signatures, validity and revocation.

#![forbid(unsafe_code)]

mod backoff;
mod cache;
mod client;
mod error;
mod request;
mod transport;

pub use cache::DiskCache;
pub use client::{ClientOptions, CollateralClient};
pub use error::CollateralError;
pub use request::{Service, Services, TcbUpdate};
