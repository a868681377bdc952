//! TCB versions and their two byte orders.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where the components stand in the eight bytes of a TCB version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcbLayout {
    /// Family 19h: boot loader at 0, TEE at 1, SNP at 6, microcode at 7.
    MilanGenoa,
    /// Family 1Ah: FMC at 0, boot loader at 1, TEE at 2, SNP at 3, microcode at 7.
    Turin,
}

/// Security versions of the firmware components (AMD 56860, `TCB_VERSION`).
///
/// Versions are compared component by component: [`TcbVersion::at_least`] is a
/// partial order, so there is no `Ord` here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TcbVersion {
    /// Firmware mailbox controller; only Turin and later have it.
    #[serde(default)]
    pub fmc: Option<u8>,
    /// Boot loader of the secure processor.
    pub bootloader: u8,
    /// Operating system of the secure processor.
    pub tee: u8,
    /// SNP firmware.
    pub snp: u8,
    /// Lowest microcode patch level of all cores.
    pub microcode: u8,
}

impl TcbVersion {
    /// Reads the eight bytes of a TCB version.
    pub fn from_bytes(bytes: [u8; 8], layout: TcbLayout) -> Self {
        match layout {
            TcbLayout::MilanGenoa => Self {
                fmc: None,
                bootloader: bytes[0],
                tee: bytes[1],
                snp: bytes[6],
                microcode: bytes[7],
            },
            TcbLayout::Turin => Self {
                fmc: Some(bytes[0]),
                bootloader: bytes[1],
                tee: bytes[2],
                snp: bytes[3],
                microcode: bytes[7],
            },
        }
    }

    /// Writes the eight bytes of a TCB version; reserved bytes are zero.
    pub fn to_bytes(self, layout: TcbLayout) -> [u8; 8] {
        match layout {
            TcbLayout::MilanGenoa => [
                self.bootloader,
                self.tee,
                0,
                0,
                0,
                0,
                self.snp,
                self.microcode,
            ],
            TcbLayout::Turin => [
                self.fmc.unwrap_or(0),
                self.bootloader,
                self.tee,
                self.snp,
                0,
                0,
                0,
                self.microcode,
            ],
        }
    }

    /// Whether every component is at least the one in `minimum`.
    ///
    /// A minimum that names an FMC version is not met by a TCB without one.
    pub fn at_least(&self, minimum: &Self) -> bool {
        let fmc = match (self.fmc, minimum.fmc) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(own), Some(least)) => own >= least,
        };
        fmc && self.bootloader >= minimum.bootloader
            && self.tee >= minimum.tee
            && self.snp >= minimum.snp
            && self.microcode >= minimum.microcode
    }
}

impl fmt::Display for TcbVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(fmc) = self.fmc {
            write!(f, "fmc {fmc}, ")?;
        }
        write!(
            f,
            "bootloader {}, tee {}, snp {}, microcode {}",
            self.bootloader, self.tee, self.snp, self.microcode
        )
    }
}
