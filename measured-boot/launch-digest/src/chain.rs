//! The chain of `PAGE_INFO` hashes (AMD 56860, section 8.17.2).

use redoubt_firmware::PAGE_BYTES;
use sha2::{Digest, Sha384};

use crate::digest::{LAUNCH_DIGEST_LEN, LaunchDigest};

/// Length of `PAGE_INFO` in bytes.
const PAGE_INFO_LEN: u8 = 0x70;
/// Guest physical address at which the firmware of the CPU measures a VMSA.
const VMSA_GPA: u64 = 0xffff_ffff_f000;

/// The type of a measured page (AMD 56860, table 68).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum PageKind {
    /// A page with contents.
    Normal = 1,
    /// The initial state of a vCPU.
    Vmsa = 2,
    /// A page of zeros.
    Zero = 3,
    /// A page whose contents are not measured.
    Unmeasured = 4,
    /// The secrets page, filled by the CPU's firmware.
    Secrets = 5,
    /// The CPUID page, filled by the hypervisor and checked by the CPU's firmware.
    Cpuid = 6,
}

/// A launch digest under construction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chain {
    digest: [u8; LAUNCH_DIGEST_LEN],
}

impl Chain {
    pub(crate) fn new() -> Self {
        Self {
            digest: [0; LAUNCH_DIGEST_LEN],
        }
    }

    pub(crate) fn digest(self) -> LaunchDigest {
        LaunchDigest(self.digest)
    }

    /// Pages with contents, starting at `gpa`; `bytes` are whole pages.
    pub(crate) fn normal_pages(&mut self, gpa: u64, bytes: &[u8]) {
        let mut page_gpa = gpa;
        for page in bytes.chunks(PAGE_BYTES) {
            self.extend(PageKind::Normal, page_gpa, Sha384::digest(page).into());
            page_gpa += PAGE_BYTES as u64;
        }
    }

    /// Pages without contents of their own, starting at `gpa`.
    pub(crate) fn empty_pages(&mut self, kind: PageKind, gpa: u64, size: u64) {
        for page_gpa in (gpa..gpa + size).step_by(PAGE_BYTES) {
            self.extend(kind, page_gpa, [0; LAUNCH_DIGEST_LEN]);
        }
    }

    /// The state of one vCPU, given as the hash of its page.
    pub(crate) fn vmsa(&mut self, page_digest: [u8; LAUNCH_DIGEST_LEN]) {
        self.extend(PageKind::Vmsa, VMSA_GPA, page_digest);
    }

    fn extend(&mut self, kind: PageKind, gpa: u64, contents: [u8; LAUNCH_DIGEST_LEN]) {
        let mut page_info = [0; PAGE_INFO_LEN as usize];
        page_info[..48].copy_from_slice(&self.digest);
        page_info[48..96].copy_from_slice(&contents);
        page_info[96] = PAGE_INFO_LEN;
        page_info[98] = kind as u8;
        // The bytes between are IMI_PAGE and the VMPL permissions, zero at launch.
        page_info[104..].copy_from_slice(&gpa.to_le_bytes());
        self.digest = Sha384::digest(page_info).into();
    }
}
