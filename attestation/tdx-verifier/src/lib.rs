//! Verification of TDX quotes against Intel's collateral and reference values.
//!
//! Pure: no I/O and no clock. [`verify`] takes the quote with its event log,
//! the collateral and a time ([`TdxCollateral`], [`Trust`]), and what to expect
//! ([`TdxExpectations`]). The outcome is the same [`redoubt_verifier::Verdict`]
//! as for SEV-SNP.
//!
//! Signatures, certificate paths and the TCB level of the platform are left to
//! `dcap-qvl`, with debugging and service TDs let through, because rules about
//! them are claims of their own here. What can be said apart from it is: which
//! document is not current, which certificate is revoked, which platform the
//! TCB information is for.

#![forbid(unsafe_code)]

mod collateral;
mod documents;
mod error;
mod expect;
mod fields;
mod log;
mod pck;
mod status;
mod verify;

pub use collateral::{MAX_COLLATERAL_BYTES, TdxCollateral};
pub use error::TdxVerifierError;
pub use expect::{AttributeRules, PlatformFlagRules, TcbRules, TdxExpectations};
pub use pck::PckInfo;
pub use status::TcbStatus;
pub use verify::{Trust, verify};
