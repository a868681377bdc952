//! The containerd shim: containerd's task service on top of one sandbox.
//!
//! `containerd-shim-kata-v2` is started three ways. `start` listens on a socket and
//! leaves a server behind, or names the server that a pod already has. The server
//! answers containerd's task service of both wire names (version 2 of containerd 1.6
//! and 1.7, version 3 of 2.x) until its last container is deleted. `delete` cleans up
//! from what is on disk after a server that is gone.

#![forbid(unsafe_code)]

pub mod address;
pub mod agent;
pub mod bootstrap;
pub mod cli;
pub mod command;
pub mod container;
pub mod error;
pub mod events;
pub mod guest_network;
pub mod image;
pub mod logging;
pub mod machine;
pub mod oci;
pub mod pod;
pub mod process;
pub mod process_state;
pub mod runtime_options;
pub mod service;
pub mod stats;
pub mod stdio;
