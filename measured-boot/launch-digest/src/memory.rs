//! The guest memory that is measured before any vCPU.

use redoubt_firmware::{Firmware, PAGE_BYTES, SevSection, SevSectionKind};

use crate::chain::{Chain, PageKind};
use crate::error::DigestError;
use crate::hashes::KernelHashes;
use crate::vmm::Vmm;

/// A chain that has measured a firmware image and nothing else.
pub(crate) fn firmware_chain(firmware: &Firmware) -> Chain {
    let mut chain = Chain::new();
    chain.normal_pages(firmware.gpa(), firmware.bytes());
    chain
}

/// Measures what the SEV metadata of an image asks for, in the order in which the monitor does it.
pub(crate) fn prepare_memory(
    chain: &mut Chain,
    vmm: Vmm,
    image: &Firmware,
    hashes: Option<&KernelHashes>,
) -> Result<(), DigestError> {
    let sections = image.sev_sections();
    if sections.is_empty() {
        return Err(DigestError::NoSevMetadata);
    }
    let hash_page = hashes.map(|hashes| hash_page(image, hashes)).transpose()?;
    // EC2 leaves the CPUID page for last.
    let last = |section: &&SevSection| vmm == Vmm::Ec2 && section.kind == SevSectionKind::Cpuid;
    let ordered = sections
        .iter()
        .filter(|section| !last(section))
        .chain(sections.iter().filter(last));
    for section in ordered {
        extend_section(chain, vmm, section, hash_page.as_deref())?;
    }
    Ok(())
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
    vmm: Vmm,
    section: &SevSection,
    hash_page: Option<&[u8]>,
) -> Result<(), DigestError> {
    let (gpa, size) = (u64::from(section.gpa), u64::from(section.size));
    let kind = match section.kind {
        // GCE leaves it to the firmware to accept this memory.
        SevSectionKind::SecMem if vmm == Vmm::Gce => PageKind::Unmeasured,
        SevSectionKind::SecMem | SevSectionKind::SvsmCaa => PageKind::Zero,
        SevSectionKind::Secrets => PageKind::Secrets,
        SevSectionKind::Cpuid => PageKind::Cpuid,
        SevSectionKind::KernelHashes => {
            let Some(page) = hash_page else {
                chain.empty_pages(PageKind::Zero, gpa, size);
                return Ok(());
            };
            // The section is filled from its start and all of it is measured as contents.
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
