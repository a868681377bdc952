//! The initial state of a vCPU (AMD APM volume 2, table B-4).
//!
//! The APM's state after reset (table 14-1) leaves choices: cached segment attributes, the PAT,
//! the FPU's control words, and which processor RDX names. Each monitor chose differently.

use crate::cpu::CpuSignature;
use crate::vmm::Vmm;

/// Reset vector of the boot processor.
pub const BSP_EIP: u32 = 0xffff_fff0;

/// What KVM puts into RDX of a vCPU that has no CPUID table yet.
///
/// After reset RDX identifies the processor (APM volume 2, table 14-1), so it is never zero. EC2 and
/// GCE measure their vCPUs before they give them a CPUID table; this is a family 6 of no model.
const RDX_WITHOUT_CPUID: CpuSignature = CpuSignature(0x600);

/// Segment attributes: present and accessed, or not yet accessed; code, data, LDT and task.
const CODE: u16 = 0x9b;
const CODE_NOT_ACCESSED: u16 = 0x9a;
const DATA: u16 = 0x93;
const DATA_NOT_ACCESSED: u16 = 0x92;
const LDT: u16 = 0x82;
const TASK: u16 = 0x8b;
const TASK_16: u16 = 0x83;
/// 32-bit segments of 4 KiB granularity.
const FLAT: u16 = 0xc00;

/// The architecture's PAT after reset (APM volume 2, section 7.8.2).
const PAT: u64 = 0x0007_0406_0007_0406;
/// GCE's.
const PAT_GCE: u64 = 0x0007_0106;

/// What the monitors chose.
struct Choices {
    code: u16,
    stack: u16,
    task: u16,
    pat: u64,
    rdx: CpuSignature,
    mxcsr: u32,
    fpu_control: u16,
}

impl Choices {
    fn of(vmm: Vmm, eip: u32, cpu: CpuSignature) -> Self {
        let qemu = Self {
            code: CODE,
            stack: DATA,
            task: TASK,
            pat: PAT,
            rdx: cpu,
            mxcsr: 0x1f80,
            fpu_control: 0x037f,
        };
        let cloud = Self {
            rdx: RDX_WITHOUT_CPUID,
            mxcsr: 0,
            fpu_control: 0,
            ..qemu
        };
        match vmm {
            Vmm::Qemu => qemu,
            Vmm::Ec2 => Self {
                code: if eip == BSP_EIP {
                    CODE_NOT_ACCESSED
                } else {
                    CODE
                },
                stack: DATA_NOT_ACCESSED,
                task: TASK_16,
                ..cloud
            },
            Vmm::Gce => Self {
                pat: PAT_GCE,
                ..cloud
            },
        }
    }
}

/// The page whose hash goes into the launch digest for one vCPU in real mode.
///
/// `eip` is the vCPU's reset vector and `sev_features` the guest features that the monitor enables;
/// `cpu` counts only where the monitor shows it to the guest.
pub fn vmsa_page(vmm: Vmm, eip: u32, cpu: CpuSignature, sev_features: u64) -> [u8; 4096] {
    real_mode(&Choices::of(vmm, eip, cpu), eip, sev_features)
}

fn real_mode(choices: &Choices, eip: u32, sev_features: u64) -> [u8; 4096] {
    let mut page = Page::of(choices, sev_features);
    for at in [0x00, 0x30, 0x40, 0x50] {
        page.segment(at, 0, DATA, 0);
    }
    page.segment(0x20, 0, choices.stack, 0);
    page.segment(0x10, 0xf000, choices.code, eip & 0xffff_0000);
    page.u64(0x158, 0x10); // CR0: ET
    page.u64(0x178, u64::from(eip & 0xffff)); // RIP
    page.0
}

/// The same for a secure VM service module, which every vCPU enters in protected mode at `eip`.
///
/// The x87 control word stays zero here, unlike in guests without a service module.
pub fn svsm_vmsa_page(eip: u32, cpu: CpuSignature, sev_features: u64) -> [u8; 4096] {
    let choices = Choices {
        fpu_control: 0,
        ..Choices::of(Vmm::Qemu, eip, cpu)
    };
    let mut page = Page::of(&choices, sev_features);
    for at in [0x00, 0x20, 0x30, 0x40] {
        page.flat_segment(at, 0x10, DATA);
    }
    page.flat_segment(0x10, 0x08, CODE);
    page.segment(0x50, 0, DATA, 0); // GS stays as after reset
    page.u64(0x158, 0x11); // CR0: ET, PE
    page.u64(0x178, u64::from(eip)); // RIP
    page.0
}

struct Page([u8; 4096]);

impl Page {
    /// A page with all that does not depend on the processor's mode.
    fn of(choices: &Choices, sev_features: u64) -> Self {
        let mut page = Self([0; 4096]);
        page.segment(0x60, 0, 0, 0); // GDTR
        page.segment(0x70, 0, LDT, 0);
        page.segment(0x80, 0, 0, 0); // IDTR
        page.segment(0x90, 0, choices.task, 0);
        page.u64(0x0d0, 0x1000); // EFER: SVME
        page.u64(0x148, 0x40); // CR4: MCE
        page.u64(0x160, 0x400); // DR7
        page.u64(0x168, 0xffff_0ff0); // DR6
        page.u64(0x170, 0x2); // RFLAGS
        page.u64(0x268, choices.pat);
        page.u64(0x310, u64::from(choices.rdx.0));
        page.u64(0x3b0, sev_features);
        page.u64(0x3e8, 0x1); // XCR0: x87
        page.bytes(0x408, &choices.mxcsr.to_le_bytes());
        page.bytes(0x410, &choices.fpu_control.to_le_bytes());
        page
    }

    fn bytes(&mut self, at: usize, bytes: &[u8]) {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn u64(&mut self, at: usize, value: u64) {
        self.bytes(at, &value.to_le_bytes());
    }

    /// A segment register of 64 KiB: selector, attributes, limit, base.
    fn segment(&mut self, at: usize, selector: u16, attributes: u16, base: u32) {
        self.bytes(at, &selector.to_le_bytes());
        self.bytes(at + 2, &attributes.to_le_bytes());
        self.bytes(at + 4, &0xffffu32.to_le_bytes());
        self.u64(at + 8, u64::from(base));
    }

    /// A segment register that spans 4 GiB.
    fn flat_segment(&mut self, at: usize, selector: u16, attributes: u16) {
        self.segment(at, selector, attributes | FLAT, 0);
        self.bytes(at + 4, &u32::MAX.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use redoubt_firmware::Firmware;
    use sha2::{Digest, Sha384};

    use super::*;
    use crate::hashes::KernelHashes;
    use crate::launch::LaunchChain;

    /// Two published calculators disagree on EC2: `sev` 8.0.0 has zero in RDX, `sev-snp-measure`
    /// 0.0.13 has 0x600. RDX is all that they disagree on, as this test shows by making either
    /// page from the other; what stands in it follows from the APM: after reset RDX names the
    /// processor's family, and zero is no family. EC2's own correction of the calculator
    /// (sev-snp-measure 4a02bf0) says the same of its live reports.
    #[test]
    fn ec2_and_its_former_calculation_differ_in_rdx_alone() {
        let cpu = CpuSignature(0x80_0f12);
        let now = vmsa_page(Vmm::Ec2, BSP_EIP, cpu, 0x21);
        let choices = Choices {
            rdx: CpuSignature(0),
            ..Choices::of(Vmm::Ec2, BSP_EIP, cpu)
        };
        let former = real_mode(&choices, BSP_EIP, 0x21);
        let different: Vec<_> = (0..4096).filter(|at| now[*at] != former[*at]).collect();
        assert_eq!(different, [0x311]);
        assert_eq!(now[0x310..0x318], 0x600u64.to_le_bytes());
        let family =
            u32::from_le_bytes([now[0x310], now[0x311], now[0x312], now[0x313]]) >> 8 & 0xf;
        assert_ne!(family, 0, "a processor has a family");
        // The digests that each of them publishes for one and the same launch.
        let digest = |page: [u8; 4096]| {
            let image = include_bytes!("../testdata/ovmf_AmdSev_suffix.bin");
            let firmware = Firmware::parse(image).unwrap();
            let hashes = KernelHashes::of(b"", b"", "");
            let mut launch = LaunchChain::for_vmm(Vmm::Ec2, &firmware, Some(&hashes)).unwrap();
            launch.chain.vmsa(Sha384::digest(page).into());
            launch.chain.digest().to_string()
        };
        assert_eq!(
            digest(former),
            "6ae80856486b1396af8c82a40351d6ed76a20c785e9c7fa4ffa27c22d5d6313b4b3b458cd3c9968e6f89fb5d8450d7a6"
        );
        assert_eq!(
            digest(now),
            "0ce9ccc06bab55eebe8abc234f3df6514883977a68a591b71052498ab52b2f1aa415db338033946ef93aa8278c0d67fb"
        );
    }

    #[test]
    fn no_monitor_shows_a_vcpu_without_a_family() {
        for vmm in Vmm::ALL {
            let page = vmsa_page(vmm, BSP_EIP, CpuSignature(0x80_0f12), 1);
            assert_ne!(page[0x311], 0, "{vmm}");
        }
    }
}
