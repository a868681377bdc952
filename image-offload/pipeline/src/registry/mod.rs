//! Registries (OCI distribution-spec 1.1): documents and blobs by digest.
//!
//! The transport is our own thin layer over `reqwest`, because a hostile
//! registry must be bounded in what it can send and where it can redirect.

mod auth;
mod blob;
mod client;
mod retry;
mod tls;

#[cfg(feature = "fuzzing")]
pub(crate) use auth::Challenge;
pub(crate) use blob::{LayerKeys, StagedBlob};
pub(crate) use client::{Access, DocumentKind, Registry};
#[cfg(feature = "host")]
pub(crate) use retry::Failure;
