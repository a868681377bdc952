//! SEV-SNP launch digest and kernel-hash table.

#![forbid(unsafe_code)]

mod digest;

pub use digest::{LAUNCH_DIGEST_LEN, LaunchDigest, ParseDigestError};
