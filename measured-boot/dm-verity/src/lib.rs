//! dm-verity: superblock, hash tree and the parameters on a measured command line.
//!
//! A root disk that is too large for an initrd can be measured through its hash
//! tree: the digest of every data block stands in a leaf, the digest of every
//! block of leaves one level up, and so on to one root hash. The root hash goes
//! onto the measured kernel command line ([`VerityParams`]); the kernel checks
//! each block that it reads against the tree. [`TreeBuilder`] makes the tree,
//! [`Superblock`] is the header that `veritysetup` puts in front of it.
//! Nothing here does I/O.

#![forbid(unsafe_code)]

mod algorithm;
mod error;
mod format;
mod params;
mod superblock;
mod tree;

pub use algorithm::Algorithm;
pub use error::VerityError;
pub use format::{Format, HashType, MAX_BLOCK_BYTES, MAX_SALT_LEN};
pub use params::VerityParams;
pub use superblock::{SUPERBLOCK_LEN, Superblock};
pub use tree::{Tree, TreeBuilder};
