//! A parsed firmware image and what it can do.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::PAGE_BYTES;
use crate::bytes::u32_at;
use crate::error::FirmwareError;
use crate::footer::FooterTable;
use crate::guid::Guid;
use crate::sev::{self, SevMetadata, SevSection, SevSectionKind};
use crate::tdx::{self, TdxSection, TdxSectionKind};
use crate::versions::{self, FirmwareVersion};

/// The largest image that is read, in bytes. Firmware lives between the I/O
/// holes and 4 GiB, so that real images have at most 16 MiB.
pub const MAX_FIRMWARE_BYTES: usize = 16 << 20;

/// A range of guest physical memory that the firmware names for its launcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestArea {
    /// Guest physical address of the first byte.
    pub gpa: u64,
    /// Length in bytes.
    pub size: u32,
}

/// What a build of the firmware is meant for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FirmwareKind {
    /// Boots what it finds; measures only itself.
    Generic,
    /// Boots only a kernel, initrd and command line whose hashes were injected at launch.
    AmdSev,
    /// Built for TDX guests alone.
    Tdvf,
}

impl fmt::Display for FirmwareKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Generic => "generic",
            Self::AmdSev => "AmdSev",
            Self::Tdvf => "TDVF",
        })
    }
}

/// Something that a given image can or cannot do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Capability {
    /// Short name.
    pub name: &'static str,
    /// The image can do it.
    pub present: bool,
    /// What it is good for.
    pub meaning: &'static str,
    /// What follows where the image cannot do it.
    pub without: &'static str,
}

/// A firmware image whose footer table and metadata are consistent.
#[derive(Clone, PartialEq, Eq)]
pub struct Firmware {
    image: Vec<u8>,
    footer: FooterTable,
    kernel_hash_area: Option<GuestArea>,
    secret_area: Option<GuestArea>,
    reset_eip: Option<u32>,
    svsm_launch_offset: Option<u32>,
    sections: Vec<SevSection>,
    /// The SEV metadata has entries for memory that this build does not have.
    lacks_sev_memory: bool,
    tdx_sections: Vec<TdxSection>,
}

impl Firmware {
    /// Reads an image; the bytes are kept, as the launch digest covers all of them.
    pub fn parse(bytes: &[u8]) -> Result<Self, FirmwareError> {
        let size = bytes.len();
        if size < PAGE_BYTES {
            return Err(FirmwareError::TooSmall { size });
        }
        if size > MAX_FIRMWARE_BYTES {
            return Err(FirmwareError::TooLarge { size });
        }
        if !size.is_multiple_of(PAGE_BYTES) {
            return Err(FirmwareError::NotWholePages { size });
        }
        let footer = FooterTable::parse(bytes)?;
        let SevMetadata {
            sections,
            lacks_memory,
        } = match footer.data::<4>(bytes, Guid::SEV_METADATA)? {
            None => SevMetadata::default(),
            Some((at, data)) => sev::parse_sections(bytes, at, u32::from_le_bytes(data))?,
        };
        let tdx_sections = match footer.data::<4>(bytes, Guid::TDX_METADATA)? {
            None => Vec::new(),
            Some((at, data)) => tdx::parse_sections(bytes, at, u32::from_le_bytes(data))?,
        };
        let reset = footer.data::<4>(bytes, Guid::SEV_ES_RESET)?;
        let svsm = footer.data::<4>(bytes, Guid::SVSM_INFO)?;
        let firmware = Self {
            kernel_hash_area: hash_area(&footer, bytes, &sections)?,
            secret_area: area(&footer, bytes, Guid::SEV_SECRET)?.map(|(_, area)| area),
            reset_eip: reset.map(|(_, data)| u32::from_le_bytes(data)),
            svsm_launch_offset: svsm.map(|(_, data)| u32::from_le_bytes(data)),
            image: bytes.to_vec(),
            footer,
            sections,
            lacks_sev_memory: lacks_memory,
            tdx_sections,
        };
        Ok(firmware)
    }

    /// The image's bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.image
    }

    /// Guest physical address of the image's first byte: it ends at 4 GiB.
    pub fn gpa(&self) -> u64 {
        (1 << 32) - self.image.len() as u64
    }

    /// The footer GUID table.
    pub fn footer(&self) -> &FooterTable {
        &self.footer
    }

    /// What the build is meant for.
    pub fn kind(&self) -> FirmwareKind {
        match self.kernel_hash_area {
            Some(_) => FirmwareKind::AmdSev,
            None if self.has_tdx_metadata() && !self.has_sev_memory() => FirmwareKind::Tdvf,
            None => FirmwareKind::Generic,
        }
    }

    /// True if an SEV-SNP guest finds the memory that the firmware's first steps need.
    fn has_sev_memory(&self) -> bool {
        !self.sections.is_empty() && !self.lacks_sev_memory
    }

    /// Where the kernel-hash table goes; `None` if the image takes none.
    pub fn kernel_hash_area(&self) -> Option<GuestArea> {
        self.kernel_hash_area
    }

    /// Where the kernel-hash table goes; an error that names `path` if the image takes none.
    pub fn require_kernel_hashes(&self, path: &Path) -> Result<GuestArea, FirmwareError> {
        self.kernel_hash_area
            .ok_or_else(|| FirmwareError::NoKernelHashes {
                path: path.to_owned(),
            })
    }

    /// Where an SEV secret goes.
    pub fn secret_area(&self) -> Option<GuestArea> {
        self.secret_area
    }

    /// The sections of the SEV metadata, in file order.
    pub fn sev_sections(&self) -> &[SevSection] {
        &self.sections
    }

    /// Where application processors start (CS base and IP in one number).
    pub fn sev_es_reset_eip(&self) -> Option<u32> {
        self.reset_eip
    }

    /// Where vCPUs enter a secure VM service module, from the image's start; `None` for firmware.
    pub fn svsm_launch_offset(&self) -> Option<u32> {
        self.svsm_launch_offset
    }

    /// True if the image carries TDX metadata.
    pub fn has_tdx_metadata(&self) -> bool {
        !self.tdx_sections.is_empty()
    }

    /// The sections of the TDX metadata, in file order; none if the image is not made for TDX.
    pub fn tdx_sections(&self) -> &[TdxSection] {
        &self.tdx_sections
    }

    /// The sections of the TDX metadata; an error if the image is not made for TDX.
    pub fn require_tdx_sections(&self) -> Result<&[TdxSection], FirmwareError> {
        if self.tdx_sections.is_empty() {
            return Err(FirmwareError::NoTdxMetadata);
        }
        Ok(&self.tdx_sections)
    }

    /// What the image holds for a section; zeros follow up to the section's length in memory.
    pub fn tdx_section_data(&self, section: &TdxSection) -> Result<&[u8], FirmwareError> {
        section.data(&self.image)
    }

    /// Who built the image, and when, as far as it says. Decompresses its main volume.
    pub fn version(&self) -> FirmwareVersion {
        versions::find(&self.image)
    }

    /// What the image can do, and why it matters.
    pub fn capabilities(&self) -> Vec<Capability> {
        let sev = |kind| self.sections.iter().any(|section| section.kind == kind);
        let tdx = |kind| self.tdx_sections.iter().any(|section| section.kind == kind);
        vec![
            Capability {
                name: "kernel-hashes",
                present: self.kernel_hash_area.is_some(),
                meaning: "kernel, initrd and command line are part of the SEV launch digest",
                without: "under SEV the host may boot any kernel, and the launch digest stays the same",
            },
            Capability {
                name: "sev-snp",
                present: self.has_sev_memory()
                    && sev(SevSectionKind::Cpuid)
                    && sev(SevSectionKind::Secrets),
                meaning: "starts as an SEV-SNP guest",
                without: "an SEV-SNP guest does not start with it",
            },
            Capability {
                name: "multiple-vcpus",
                present: self.reset_eip.is_some(),
                meaning: "application processors start under SEV-ES and SEV-SNP",
                without: "an SEV-ES or SEV-SNP guest has one vCPU at most",
            },
            Capability {
                name: "sev-secret",
                present: self.secret_area.is_some(),
                meaning: "takes a secret injected by an SEV or SEV-ES launcher",
                without: "a secret cannot be injected at launch: the guest has to attest for it",
            },
            Capability {
                name: "svsm",
                present: sev(SevSectionKind::SvsmCaa),
                meaning: "runs above a secure VM service module",
                without: "there is no virtual TPM that the host cannot reach",
            },
            Capability {
                name: "tdx",
                present: tdx(TdxSectionKind::Bfv) && tdx(TdxSectionKind::TdHob),
                meaning: "starts as a TDX guest and measures what it boots into RTMRs",
                without: "a TDX guest does not start with it",
            },
        ]
    }
}

impl fmt::Debug for Firmware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Firmware")
            .field("size", &self.image.len())
            .field("kind", &self.kind())
            .field("kernel_hash_area", &self.kernel_hash_area)
            .field("sections", &self.sections)
            .field("tdx_sections", &self.tdx_sections)
            .finish_non_exhaustive()
    }
}

/// Reads an entry that holds an address and a length; an area at 0 or of no length counts as absent.
fn area(
    footer: &FooterTable,
    image: &[u8],
    guid: Guid,
) -> Result<Option<(usize, GuestArea)>, FirmwareError> {
    let Some((at, data)) = footer.data::<8>(image, guid)? else {
        return Ok(None);
    };
    let gpa = u32_at(&data, 0).unwrap_or(0);
    let size = u32_at(&data, 4).unwrap_or(0);
    if gpa == 0 || size == 0 {
        return Ok(None);
    }
    Ok(Some((
        at,
        GuestArea {
            gpa: u64::from(gpa),
            size,
        },
    )))
}

/// The kernel-hash area. It lies in one page; with SEV metadata in the first page of a
/// kernel-hash section, because that is where QEMU puts the table.
fn hash_area(
    footer: &FooterTable,
    image: &[u8],
    sections: &[SevSection],
) -> Result<Option<GuestArea>, FirmwareError> {
    let Some((offset, area)) = area(footer, image, Guid::SEV_HASH_TABLE)? else {
        return Ok(None);
    };
    let page = PAGE_BYTES as u64;
    let fits_page = area.gpa % page + u64::from(area.size) <= page;
    let in_section = sections.is_empty()
        || sections.iter().any(|section| {
            section.kind == SevSectionKind::KernelHashes
                && area.gpa & !(page - 1) == u64::from(section.gpa)
        });
    if fits_page && in_section {
        return Ok(Some(area));
    }
    let gpa = u32::try_from(area.gpa).unwrap_or(u32::MAX);
    Err(FirmwareError::HashAreaPlace {
        offset,
        gpa,
        size: area.size,
    })
}
