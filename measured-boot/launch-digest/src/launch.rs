//! The SEV-SNP launch digest for a firmware, kernel hashes and vCPUs.

use std::borrow::Borrow;
use std::ops::RangeInclusive;

use redoubt_firmware::Firmware;
use sha2::{Digest, Sha384};

use crate::chain::Chain;
use crate::cpu::CpuSignature;
use crate::digest::{LAUNCH_DIGEST_LEN, LaunchDigest};
use crate::error::DigestError;
use crate::hashes::KernelHashes;
use crate::memory::{firmware_chain, prepare_memory};
use crate::svsm::Svsm;
use crate::vmm::Vmm;
use crate::vmsa::{BSP_EIP, svsm_vmsa_page, vmsa_page};

/// The most vCPUs that KVM runs in one guest.
pub const MAX_VCPUS: u32 = 1024;
/// Guest features that KVM enables for every SNP guest: bit 0, SNP active.
pub const DEFAULT_GUEST_FEATURES: u64 = 0x1;

/// Everything that the launch digest of a guest under QEMU/KVM depends on.
#[derive(Clone, Copy, Debug)]
pub struct SnpLaunch<'a> {
    /// The firmware image.
    pub firmware: &'a Firmware,
    /// Hashes of kernel, initrd and command line, for a direct boot.
    pub kernel_hashes: Option<KernelHashes>,
    /// Number of vCPUs.
    pub vcpus: u32,
    /// Model of the vCPUs.
    pub cpu: CpuSignature,
    /// `SEV_FEATURES` of the vCPUs; [`DEFAULT_GUEST_FEATURES`] unless KVM adds some.
    pub guest_features: u64,
}

/// The launch digest that a guest launched by QEMU/KVM reports.
pub fn snp_launch_digest(launch: &SnpLaunch<'_>) -> Result<LaunchDigest, DigestError> {
    LaunchChain::new(launch.firmware, launch.kernel_hashes.as_ref())?.with_vcpus(
        launch.vcpus,
        launch.cpu,
        launch.guest_features,
    )
}

/// The digest of the firmware alone, the chain's value before its metadata.
pub fn firmware_digest(firmware: &Firmware) -> LaunchDigest {
    firmware_chain(firmware).digest()
}

/// The part of a launch digest that does not depend on the vCPUs.
#[derive(Clone, Copy, Debug)]
pub struct LaunchChain {
    pub(crate) chain: Chain,
    entry: Entry,
}

/// The firmware's own part of launch digests, by far the most work, hashed once for many of them.
///
/// `F` is a [`Firmware`] or a reference to one.
#[derive(Clone, Copy, Debug)]
pub struct FirmwareChain<F> {
    firmware: F,
    chain: Chain,
}

impl<F: Borrow<Firmware>> FirmwareChain<F> {
    /// Measures the firmware.
    pub fn new(firmware: F) -> Self {
        Self {
            chain: firmware_chain(firmware.borrow()),
            firmware,
        }
    }

    /// Measures the memory that the firmware's SEV metadata asks for, under QEMU/KVM.
    pub fn launch(&self, hashes: Option<&KernelHashes>) -> Result<LaunchChain, DigestError> {
        self.launch_by(Vmm::Qemu, hashes)
    }

    /// The same under another monitor.
    pub fn launch_by(
        &self,
        vmm: Vmm,
        hashes: Option<&KernelHashes>,
    ) -> Result<LaunchChain, DigestError> {
        let firmware = self.firmware.borrow();
        let mut chain = self.chain;
        prepare_memory(&mut chain, vmm, firmware, hashes)?;
        Ok(LaunchChain {
            chain,
            entry: Entry::Firmware {
                vmm,
                ap_eip: firmware.sev_es_reset_eip(),
            },
        })
    }

    /// Measures a secure VM service module below the firmware that it runs, under QEMU/KVM.
    pub fn launch_with_svsm(&self, svsm: &Svsm) -> Result<LaunchChain, DigestError> {
        let (gpa, eip) = svsm.place_below(self.firmware.borrow())?;
        let mut chain = self.chain;
        chain.normal_pages(gpa, svsm.image().bytes());
        prepare_memory(&mut chain, Vmm::Qemu, svsm.image(), None)?;
        Ok(LaunchChain {
            chain,
            entry: Entry::Svsm { eip },
        })
    }
}

/// Where the vCPUs start.
#[derive(Clone, Copy, Debug)]
enum Entry {
    /// In the firmware: the boot processor at the reset vector, the others where the firmware says.
    Firmware { vmm: Vmm, ap_eip: Option<u32> },
    /// All in the secure VM service module.
    Svsm { eip: u32 },
}

impl LaunchChain {
    /// Measures the firmware and the memory that its SEV metadata asks for, under QEMU/KVM.
    pub fn new(firmware: &Firmware, hashes: Option<&KernelHashes>) -> Result<Self, DigestError> {
        Self::for_vmm(Vmm::Qemu, firmware, hashes)
    }

    /// The same under another monitor.
    pub fn for_vmm(
        vmm: Vmm,
        firmware: &Firmware,
        hashes: Option<&KernelHashes>,
    ) -> Result<Self, DigestError> {
        FirmwareChain::new(firmware).launch_by(vmm, hashes)
    }

    /// The digest with these vCPUs.
    pub fn with_vcpus(
        &self,
        vcpus: u32,
        cpu: CpuSignature,
        guest_features: u64,
    ) -> Result<LaunchDigest, DigestError> {
        let mut shapes = self.with_each(vcpus..=vcpus, cpu, guest_features)?;
        shapes.pop().ok_or(DigestError::VcpuCount { vcpus })
    }

    /// The digests with each of these numbers of vCPUs, in one pass: each more vCPU is one more link.
    pub fn with_each(
        &self,
        vcpus: RangeInclusive<u32>,
        cpu: CpuSignature,
        guest_features: u64,
    ) -> Result<Vec<LaunchDigest>, DigestError> {
        check_vcpus(&vcpus)?;
        let (first, others) = self.vcpu_states(cpu, guest_features)?;
        let others = if *vcpus.end() > 1 {
            others.ok_or(DigestError::NoResetBlock)?
        } else {
            first
        };
        let mut chain = self.chain;
        let mut digests = Vec::new();
        for count in 1..=*vcpus.end() {
            chain.vmsa(if count == 1 { first } else { others });
            if vcpus.contains(&count) {
                digests.push(chain.digest());
            }
        }
        Ok(digests)
    }

    /// Hashes of the state of the boot processor and of the others, where others can start.
    fn vcpu_states(
        &self,
        cpu: CpuSignature,
        guest_features: u64,
    ) -> Result<(PageHash, Option<PageHash>), DigestError> {
        let hash = |page: [u8; 4096]| Sha384::digest(page).into();
        match self.entry {
            Entry::Firmware { vmm, ap_eip } => {
                let state = |eip| hash(vmsa_page(vmm, eip, cpu, guest_features));
                Ok((state(BSP_EIP), ap_eip.map(state)))
            }
            Entry::Svsm { .. } if guest_features != DEFAULT_GUEST_FEATURES => {
                Err(DigestError::SvsmFeatures { guest_features })
            }
            Entry::Svsm { eip } => {
                let state = hash(svsm_vmsa_page(eip, cpu, guest_features));
                Ok((state, Some(state)))
            }
        }
    }
}

type PageHash = [u8; LAUNCH_DIGEST_LEN];

/// Refuses numbers that no guest can have, before anything is counted up to them.
pub fn check_vcpus(vcpus: &RangeInclusive<u32>) -> Result<(), DigestError> {
    for end in [*vcpus.start(), *vcpus.end()] {
        if end == 0 || end > MAX_VCPUS {
            return Err(DigestError::VcpuCount { vcpus: end });
        }
    }
    Ok(())
}
