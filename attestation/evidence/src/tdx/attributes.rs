//! Attributes of a TD.

use std::fmt;

/// `TD_ATTRIBUTES` (Intel TDX module ABI specification, 348551).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TdAttributes(pub u64);

impl TdAttributes {
    fn bit(self, index: u32) -> bool {
        self.0 >> index & 1 == 1
    }

    /// Whether the host may debug the TD, bit 0.
    pub fn debug(self) -> bool {
        self.bit(0)
    }

    /// Whether the host may profile the TD, bits 4 to 6.
    pub fn profiling(self) -> bool {
        self.0 & 0x70 != 0
    }

    /// Whether the service TDs are part of the report, bit 17.
    pub fn service_td_extension(self) -> bool {
        self.bit(17)
    }

    /// Whether accesses to pending pages raise no exception in the guest, bit 28.
    pub fn sept_ve_disabled(self) -> bool {
        self.bit(28)
    }

    /// Whether a migration TD may move the TD, bit 29.
    pub fn migratable(self) -> bool {
        self.bit(29)
    }

    /// Whether the TD may use supervisor protection keys, bit 30.
    pub fn protection_keys(self) -> bool {
        self.bit(30)
    }

    /// Whether the TD may use Key Locker, bit 31.
    pub fn key_locker(self) -> bool {
        self.bit(31)
    }

    /// Whether the TD may use performance monitoring, bit 63.
    pub fn performance_monitoring(self) -> bool {
        self.bit(63)
    }

    /// Bits that must be zero: 1 to 3, 7 to 15, 23 to 26, 32 to 61.
    pub fn reserved_bits(self) -> u64 {
        const RESERVED: u64 = 0xE | 0xFF80 | 0x0780_0000 | 0x3FFF_FFFF_0000_0000;
        self.0 & RESERVED
    }
}

impl fmt::Debug for TdAttributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TdAttributes({:#x})", self.0)
    }
}

impl fmt::Display for TdAttributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}
