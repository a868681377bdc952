//! What the host offers, as plain data gathered elsewhere.

use serde::{Deserialize, Serialize};

/// What the host offers to a virtual machine.
///
/// Finding it out is the caller's part.
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts about a host"
)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostFacts {
    /// SEV-SNP, when the kernel has it enabled.
    pub sev_snp: Option<SnpHost>,
    /// Intel TDX is enabled in the kernel.
    pub tdx: bool,
    /// Intel's quote generation service listens on its Unix socket.
    pub tdx_quote_socket: bool,
    /// `/dev/kvm` can be opened.
    pub kvm: bool,
    /// `/dev/vhost-net` exists.
    pub vhost_net: bool,
    /// `/dev/vhost-vsock` exists.
    pub vhost_vsock: bool,
}

/// Memory encryption properties of an SEV-SNP host (CPUID `Fn8000_001F` EBX).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnpHost {
    /// Position of the C-bit in a page table entry: bits 5 to 0.
    pub cbitpos: u32,
    /// Physical address bits lost to encryption: bits 11 to 6.
    pub reduced_phys_bits: u32,
}

impl SnpHost {
    /// Reads the two numbers out of EBX of CPUID leaf `0x8000_001F`.
    pub fn from_cpuid_ebx(ebx: u32) -> Self {
        Self {
            cbitpos: ebx & 0x3f,
            reduced_phys_bits: (ebx >> 6) & 0x3f,
        }
    }
}

impl HostFacts {
    /// A host that offers everything an SNP launch needs.
    ///
    /// For computing a digest away from the host: nothing in these facts is measured.
    pub fn assumed_snp() -> Self {
        Self {
            sev_snp: Some(SnpHost {
                cbitpos: 51,
                reduced_phys_bits: 1,
            }),
            ..Self::assumed_plain()
        }
    }

    /// A host that offers everything a TDX launch needs; nothing in these facts is measured either.
    pub fn assumed_tdx() -> Self {
        Self {
            tdx: true,
            ..Self::assumed_plain()
        }
    }

    fn assumed_plain() -> Self {
        Self {
            kvm: true,
            vhost_net: true,
            vhost_vsock: true,
            ..Self::default()
        }
    }
}
