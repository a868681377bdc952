//! The initial state of a vCPU as QEMU/KVM sets it up (AMD APM volume 2, table B-4).

/// Reset vector of the boot processor.
pub const BSP_EIP: u32 = 0xffff_fff0;

/// Segment attributes: present code, data and busy task segments after reset.
const CODE: u16 = 0x9b;
const DATA: u16 = 0x93;
const LDT: u16 = 0x82;
const TASK: u16 = 0x8b;

/// The page whose hash goes into the launch digest for one vCPU.
///
/// `eip` is the vCPU's reset vector, `rdx` the CPUID signature and
/// `sev_features` the guest features that KVM enables.
pub fn vmsa_page(eip: u32, rdx: u32, sev_features: u64) -> [u8; 4096] {
    let mut page = Page([0; 4096]);
    for at in [0x00, 0x20, 0x30, 0x40, 0x50] {
        page.segment(at, 0, DATA, 0);
    }
    page.segment(0x10, 0xf000, CODE, eip & 0xffff_0000);
    page.segment(0x60, 0, 0, 0); // GDTR
    page.segment(0x70, 0, LDT, 0);
    page.segment(0x80, 0, 0, 0); // IDTR
    page.segment(0x90, 0, TASK, 0);
    page.u64(0x0d0, 0x1000); // EFER: SVME
    page.u64(0x148, 0x40); // CR4: MCE
    page.u64(0x158, 0x10); // CR0: ET
    page.u64(0x160, 0x400); // DR7
    page.u64(0x168, 0xffff_0ff0); // DR6
    page.u64(0x170, 0x2); // RFLAGS
    page.u64(0x178, u64::from(eip & 0xffff)); // RIP
    page.u64(0x268, 0x0007_0406_0007_0406); // PAT
    page.u64(0x310, u64::from(rdx)); // RDX
    page.u64(0x3b0, sev_features);
    page.u64(0x3e8, 0x1); // XCR0: x87
    page.bytes(0x408, &0x1f80u32.to_le_bytes()); // MXCSR
    page.bytes(0x410, &0x037fu16.to_le_bytes()); // x87 control word
    page.0
}

struct Page([u8; 4096]);

impl Page {
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
}
