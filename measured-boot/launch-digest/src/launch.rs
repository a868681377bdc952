//! The launch digest of QEMU/KVM for a firmware, kernel hashes and vCPUs.

use redoubt_firmware::{Firmware, PAGE_BYTES, SevSection, SevSectionKind};
use sha2::{Digest, Sha384};

use crate::chain::{Chain, PageKind};
use crate::cpu::CpuSignature;
use crate::digest::LaunchDigest;
use crate::error::DigestError;
use crate::hashes::KernelHashes;
use crate::vmsa::{BSP_EIP, vmsa_page};

/// The most vCPUs that KVM runs in one guest.
pub const MAX_VCPUS: u32 = 1024;
/// Guest features that KVM enables for every SNP guest: bit 0, SNP active.
pub const DEFAULT_GUEST_FEATURES: u64 = 0x1;

/// Everything that an SNP launch digest depends on.
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
    chain: Chain,
    ap_eip: Option<u32>,
}

impl LaunchChain {
    /// Measures the firmware and the memory that its SEV metadata asks for.
    pub fn new(firmware: &Firmware, hashes: Option<&KernelHashes>) -> Result<Self, DigestError> {
        let sections = firmware.sev_sections();
        if sections.is_empty() {
            return Err(DigestError::NoSevMetadata);
        }
        let hash_page = hashes
            .map(|hashes| hash_page(firmware, hashes))
            .transpose()?;
        let mut chain = firmware_chain(firmware);
        for section in sections {
            extend_section(&mut chain, section, hash_page.as_deref())?;
        }
        Ok(Self {
            chain,
            ap_eip: firmware.sev_es_reset_eip(),
        })
    }

    /// The digest with these vCPUs.
    pub fn with_vcpus(
        &self,
        vcpus: u32,
        cpu: CpuSignature,
        guest_features: u64,
    ) -> Result<LaunchDigest, DigestError> {
        if vcpus == 0 || vcpus > MAX_VCPUS {
            return Err(DigestError::VcpuCount { vcpus });
        }
        let digest_of = |eip| Sha384::digest(vmsa_page(eip, cpu.0, guest_features)).into();
        let mut chain = self.chain;
        chain.vmsa(digest_of(BSP_EIP));
        if vcpus > 1 {
            let ap = digest_of(self.ap_eip.ok_or(DigestError::NoResetBlock)?);
            (1..vcpus).for_each(|_| chain.vmsa(ap));
        }
        Ok(chain.digest())
    }
}

fn firmware_chain(firmware: &Firmware) -> Chain {
    let mut chain = Chain::new();
    chain.normal_pages(firmware.gpa(), firmware.bytes());
    chain
}

/// The page that holds the kernel-hash table at the place that the firmware names.
fn hash_page(firmware: &Firmware, hashes: &KernelHashes) -> Result<Vec<u8>, DigestError> {
    let in_metadata = firmware
        .sev_sections()
        .iter()
        .any(|s| s.kind == SevSectionKind::KernelHashes);
    let area = firmware
        .kernel_hash_area()
        .filter(|_| in_metadata)
        .ok_or(DigestError::NoKernelHashSection)?;
    let table = hashes.table();
    let too_small = DigestError::HashAreaTooSmall {
        size: area.size,
        needed: table.len(),
    };
    if usize::try_from(area.size).is_ok_and(|size| size < table.len()) {
        return Err(too_small);
    }
    let mut page = vec![0; PAGE_BYTES];
    let start = usize::try_from(area.gpa % PAGE_BYTES as u64).unwrap_or(PAGE_BYTES);
    let place = page.get_mut(start..start + table.len()).ok_or(too_small)?;
    place.copy_from_slice(&table);
    Ok(page)
}

fn extend_section(
    chain: &mut Chain,
    section: &SevSection,
    hash_page: Option<&[u8]>,
) -> Result<(), DigestError> {
    let (gpa, size) = (u64::from(section.gpa), u64::from(section.size));
    let kind = match section.kind {
        SevSectionKind::SecMem | SevSectionKind::SvsmCaa => PageKind::Zero,
        SevSectionKind::Secrets => PageKind::Secrets,
        SevSectionKind::Cpuid => PageKind::Cpuid,
        SevSectionKind::KernelHashes => {
            let Some(page) = hash_page else {
                chain.empty_pages(PageKind::Zero, gpa, size);
                return Ok(());
            };
            // QEMU fills the section from its start and measures all of it as contents.
            chain.normal_pages(gpa, page);
            let rest = (1..size / PAGE_BYTES as u64).map(|page| gpa + page * PAGE_BYTES as u64);
            rest.for_each(|gpa| chain.normal_pages(gpa, &[0; PAGE_BYTES]));
            return Ok(());
        }
        SevSectionKind::Other(kind) => {
            return Err(DigestError::UnknownSection {
                kind,
                gpa: section.gpa,
            });
        }
    };
    chain.empty_pages(kind, gpa, size);
    Ok(())
}
