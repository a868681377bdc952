//! Collateral by name: what AMD's and Intel's services hand out, each document
//! with a typed id, and bundles of them that replace those services.
//!
//! Nothing here decides trust. A document is checked to be what its id says,
//! so that a wrong answer is found where it came in; signatures, validity and
//! revocation are judged by the verification that uses it.

mod bundle;
mod document;
mod id;
mod item;

pub use bundle::{Bundle, MAX_BUNDLE_BYTES, SnpParts};
pub use document::SignedDocument;
pub use id::{CollateralId, Fmspc, PckAuthority, VcekId, VekIssuer};
pub use item::{CollateralItem, MAX_ITEM_BYTES};
