//! SEV-SNP launch digest and kernel-hash table.
//!
//! The launch digest is a chain of SHA-384 hashes, one link per page that the
//! hypervisor puts into the guest before it starts (AMD 56860, section 8.17):
//! first the firmware, then the pages its SEV metadata asks for, last one
//! processor state (VMSA) per vCPU. Only the last part depends on the number
//! and model of the CPUs, so [`LaunchChain`] computes the rest once.

#![forbid(unsafe_code)]

mod chain;
mod cpu;
mod digest;
mod error;
mod hashes;
mod launch;
mod vmsa;

pub use chain::PageKind;
pub use cpu::{CPU_MODELS, CpuModel, CpuSignature};
pub use digest::{LAUNCH_DIGEST_LEN, LaunchDigest, ParseDigestError};
pub use error::DigestError;
pub use hashes::{KernelHashes, TABLE_LEN};
pub use launch::{
    DEFAULT_GUEST_FEATURES, LaunchChain, MAX_VCPUS, SnpLaunch, firmware_digest, snp_launch_digest,
};
pub use vmsa::{BSP_EIP, vmsa_page};
