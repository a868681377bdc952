//! Verification of SEV-SNP evidence against roots and reference values.
//!
//! Pure: no I/O and no clock. [`verify`] takes the evidence, what to trust and
//! when ([`Collateral`]), and what to expect ([`Expectations`]). Its [`Verdict`]
//! is data: a list of claims with what was expected, what was seen and where the
//! expectation came from, one of three states, and what is *not* proven.
//!
//! ```
//! use redoubt_verifier::{Collateral, Expectations, State, TrustAnchors, verify};
//! # use redoubt_evidence::{CertTable, SnpEvidence, SnpReport};
//! # let report = SnpReport::parse(include_bytes!("../testdata/trustee-test-report.bin"))?;
//! # let evidence = SnpEvidence { report, certs: CertTable::default() };
//! let anchors = TrustAnchors::amd();
//! let collateral = Collateral::new(&anchors, time::OffsetDateTime::UNIX_EPOCH);
//! let verdict = verify(&evidence, &collateral, &Expectations::default());
//! assert_eq!(verdict.state, State::NotVerified); // no certificate came with this report
//! # Ok::<(), redoubt_evidence::EvidenceError>(())
//! ```

#![forbid(unsafe_code)]

mod anchors;
mod bits;
mod cache;
mod cert;
mod chain;
mod claims;
mod collateral;
mod crl;
mod error;
mod expect;
mod name;
mod reference;
mod report;
mod signature;
mod vek;
mod verdict;
mod verify;

pub use anchors::TrustAnchors;
pub use cache::ChainCache;
pub use claims::{ClaimList, SnpClaims};
pub use collateral::{
    Bundle, CollateralId, CollateralItem, Fmspc, MAX_BUNDLE_BYTES, MAX_ITEM_BYTES, PckAuthority,
    SignedDocument, SnpParts, VcekId, VekIssuer,
};
pub use crl::RevocationList;
pub use error::VerifierError;
pub use expect::{
    Expectations, MinimumTcb, PlatformRules, PolicyRules, Reference, ReferenceSet, ReportVersions,
};
pub use name::ClaimName;
pub use reference::{ReferenceValues, SnpReferenceValue, TdxReferenceValue};
pub use vek::vek_entry_kind;
pub use verdict::{Claim, Requirements, State, Status, Verdict};
pub use verify::{Collateral, verify};
