//! Finds the inputs that explain an unexpected launch digest.
//!
//! A digest says that something differs and not what. [`explain_snp`] takes the
//! inputs that somebody believes in, changes them in the ways that happen in
//! practice, and compares. The digest of SEV-SNP is a chain of hashes, so that
//! the firmware, its largest part, is hashed once, and each further vCPU costs
//! one hash: some hundred thousand combinations take about a second.
//! [`explain_mrtd`] and [`explain_rtmr2`] do the same for registers of TDX.
//!
//! Each TEE has a search of its own, because its digest has a structure of its
//! own; they share [`Difference`], [`Match`] and the edits of command lines.

#![forbid(unsafe_code)]

mod cmdline;
mod difference;
mod snp;
mod stems;
mod tdx;

pub use cmdline::KNOWN_PARAMETERS;
pub use difference::{Difference, Match};
pub use snp::{Explanation, MAX_VCPUS_TRIED, Tried, explain_snp};
pub use stems::{Boot, Candidates, Named, SnpInputs};
pub use tdx::{REGISTER_LEN, TdxBoot, TdxExplanation, explain_mrtd, explain_rtmr2};
