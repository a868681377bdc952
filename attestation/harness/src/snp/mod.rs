//! SEV-SNP: evidence of any content, and cases of it.

mod cases;
pub(crate) mod forge;
mod real;

pub(crate) use cases::{observed, unreadable};
pub use forge::SnpForge;
pub(crate) use forge::{Draft, GENOA_TCB};

use crate::case::Case;

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = cases::minted();
    cases.extend(cases::encoded());
    cases.extend(cases::revoked());
    cases.extend(real::cases());
    cases
}
