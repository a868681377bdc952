//! Software PSP for the simulated SEV-SNP.
//!
//! A simulated guest asks a socket of the host for attestation reports instead
//! of the secure processor. The reports have the real layout and a real
//! signature, by a VCEK under an ARK that [`SimulatedIdentity::generate`] made
//! up, so that everything behind the report is the code that hardware uses.
//!
//! It protects nothing: the host owns every key here, and guest memory is not
//! encrypted. All names in its certificates begin with "Redoubt simulated", and
//! no verifier trusts its root unless somebody gives it by hand.

#![forbid(unsafe_code)]

mod error;
mod files;
mod identity;
pub mod pki;
mod psp;
mod serve;

pub use error::SimulatorError;
pub use identity::{SimulatedIdentity, init};
pub use pki::RsaBits;
pub use psp::{IdBlockFacts, LaunchFacts, SoftwarePsp};
pub use serve::{ServeLimits, serve, serve_with};
