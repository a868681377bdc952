//! The launch digests of SEV and SEV-ES: one SHA-256 over all that was put into the guest
//! (AMD 55766, `LAUNCH_MEASURE`: `GCTX.LD`).
//!
//! A guest of these generations reports nothing by itself. Its owner gets an HMAC of this digest
//! from the host, before the start.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use redoubt_firmware::Firmware;
use sha2::{Digest, Sha256};

use crate::cpu::CpuSignature;
use crate::digest::ParseDigestError;
use crate::error::DigestError;
use crate::hashes::KernelHashes;
use crate::launch::check_vcpus;
use crate::vmm::Vmm;
use crate::vmsa::{BSP_EIP, vmsa_page};

/// Length of an SEV or SEV-ES launch digest in bytes (SHA-256).
pub const SEV_DIGEST_LEN: usize = 32;

/// The launch digest of an SEV or SEV-ES guest.
///
/// Shown and parsed as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SevDigest(pub [u8; SEV_DIGEST_LEN]);

impl fmt::Display for SevDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for SevDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SevDigest({self})")
    }
}

impl FromStr for SevDigest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; SEV_DIGEST_LEN];
        hex::decode_to_slice(text.trim(), &mut bytes).map_err(|_| ParseDigestError {
            digits: 2 * SEV_DIGEST_LEN,
        })?;
        Ok(Self(bytes))
    }
}

/// The digest of an SEV guest under QEMU/KVM. Its vCPUs are not measured.
pub fn sev_launch_digest(
    firmware: &Firmware,
    hashes: Option<&KernelHashes>,
) -> Result<SevDigest, DigestError> {
    Ok(digest(&memory(firmware, hashes)?))
}

/// The digests of an SEV-ES guest under QEMU/KVM with each of these numbers of vCPUs, in one pass.
pub fn sev_es_launch_digests(
    firmware: &Firmware,
    hashes: Option<&KernelHashes>,
    vcpus: RangeInclusive<u32>,
    cpu: CpuSignature,
) -> Result<Vec<SevDigest>, DigestError> {
    check_vcpus(&vcpus)?;
    let mut hash = memory(firmware, hashes)?;
    // SEV-ES has no guest features.
    let state = |eip| vmsa_page(Vmm::Qemu, eip, cpu, 0);
    let others = match firmware.sev_es_reset_eip() {
        None if *vcpus.end() > 1 => return Err(DigestError::NoResetBlock),
        eip => state(eip.unwrap_or(BSP_EIP)),
    };
    let mut digests = Vec::new();
    for count in 1..=*vcpus.end() {
        hash.update(if count == 1 { state(BSP_EIP) } else { others });
        if vcpus.contains(&count) {
            digests.push(digest(&hash));
        }
    }
    Ok(digests)
}

/// Measures the firmware and the table of kernel hashes, as bytes without addresses.
fn memory(firmware: &Firmware, hashes: Option<&KernelHashes>) -> Result<Sha256, DigestError> {
    let mut hash = Sha256::new_with_prefix(firmware.bytes());
    if let Some(hashes) = hashes {
        let area = firmware
            .kernel_hash_area()
            .ok_or(DigestError::NoKernelHashArea)?;
        let table = hashes.table();
        if usize::try_from(area.size).is_ok_and(|size| size < table.len()) {
            return Err(DigestError::HashAreaTooSmall {
                size: area.size,
                needed: table.len(),
            });
        }
        hash.update(table);
    }
    Ok(hash)
}

fn digest(hash: &Sha256) -> SevDigest {
    SevDigest(hash.clone().finalize().into())
}
