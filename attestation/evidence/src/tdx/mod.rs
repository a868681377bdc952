//! Intel TDX: quotes (versions 4 and 5), TD reports and evidence JSON.
//!
//! Layouts are those of Intel's "TDX DCAP Quoting Library API", appendix A.3
//! and A.4. Nothing is verified here.

mod attributes;
mod body;
mod json;
mod quote;
mod show;

pub use attributes::TdAttributes;
pub use body::{RawTdReport, RawTdReport15};
pub use json::TdxEvidence;
pub use quote::{MAX_QUOTE_BYTES, QuoteVersion, TEE_TYPE_TDX, TdxQuote};
pub use show::{rows, show};
