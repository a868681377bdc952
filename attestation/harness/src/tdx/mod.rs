//! TDX: quotes of any content, and cases of them.

mod cases;
mod der;
mod documents;
mod enclave;
mod pki;

pub(crate) use cases::cases;
pub use enclave::{QuotingEnclave, TdProfile};

use redoubt_verifier::CollateralItem;

use crate::error::HarnessError;

/// What Intel's service holds of a platform.
pub(crate) fn documents_of(enclave: &QuotingEnclave) -> Result<[CollateralItem; 4], HarnessError> {
    enclave.items(documents::Documents::default())
}
