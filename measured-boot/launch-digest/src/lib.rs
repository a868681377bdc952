//! Launch digests of SEV-SNP, SEV-ES and SEV guests, and the kernel-hash table.
//!
//! The launch digest of SEV-SNP is a chain of SHA-384 hashes, one link per page that the
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
mod limits;
mod memory;
mod sev;
mod svsm;
mod vmm;
mod vmsa;

pub use chain::PageKind;
pub use cpu::{CPU_MODELS, CpuModel, CpuSignature};
pub use digest::{LAUNCH_DIGEST_LEN, LaunchDigest, ParseDigestError};
pub use error::DigestError;
pub use hashes::{KernelHashes, TABLE_LEN};
pub use launch::{
    DEFAULT_GUEST_FEATURES, FirmwareChain, LaunchChain, MAX_VCPUS, SnpLaunch, check_vcpus,
    firmware_digest, snp_launch_digest,
};
pub use limits::{MAX_CMDLINE_BYTES, check_cmdline, check_guest_policy, check_kernel};
pub use sev::{SEV_DIGEST_LEN, SevDigest, sev_es_launch_digests, sev_launch_digest};
pub use svsm::Svsm;
pub use vmm::Vmm;
pub use vmsa::{BSP_EIP, svsm_vmsa_page, vmsa_page};
