//! Bit fields of a report: guest policy, platform information, key information.

use std::fmt;

/// The guest policy of a launch (AMD 56860, "Guest Policy").
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct GuestPolicy(pub u64);

/// Guest-policy bit 17, which the firmware requires to be one.
const POLICY_RESERVED_ONE: u64 = 1 << 17;

impl GuestPolicy {
    /// SMT allowed, everything else forbidden: what Kata and QEMU use (0x30000).
    pub const RELEASE: Self = Self(1 << 16 | POLICY_RESERVED_ONE);

    fn bit(self, index: u32) -> bool {
        self.0 >> index & 1 == 1
    }

    /// The least minor version of the firmware's ABI, bits 7:0.
    pub fn abi_minor(self) -> u8 {
        self.0.to_le_bytes()[0]
    }

    /// The least major version of the firmware's ABI, bits 15:8.
    pub fn abi_major(self) -> u8 {
        self.0.to_le_bytes()[1]
    }

    /// Whether the guest may run with simultaneous multithreading, bit 16.
    pub fn smt_allowed(self) -> bool {
        self.bit(16)
    }

    /// Whether bit 17, reserved as one, is one.
    pub fn reserved_one(self) -> bool {
        self.0 & POLICY_RESERVED_ONE != 0
    }

    /// Whether a migration agent may be associated with the guest, bit 18.
    pub fn migration_agent_allowed(self) -> bool {
        self.bit(18)
    }

    /// Whether the host may read and write guest memory for debugging, bit 19.
    pub fn debug_allowed(self) -> bool {
        self.bit(19)
    }

    /// Whether the guest must run on one socket, bit 20.
    pub fn single_socket_required(self) -> bool {
        self.bit(20)
    }

    /// Whether CXL memory and devices may be populated, bit 21.
    pub fn cxl_allowed(self) -> bool {
        self.bit(21)
    }

    /// Whether AES-256-XTS memory encryption is required, bit 22.
    pub fn aes_256_xts_required(self) -> bool {
        self.bit(22)
    }

    /// Whether running average power limiting must be off, bit 23.
    pub fn rapl_must_be_disabled(self) -> bool {
        self.bit(23)
    }

    /// Whether ciphertext hiding of DRAM is required, bit 24.
    pub fn ciphertext_hiding_required(self) -> bool {
        self.bit(24)
    }

    /// Whether the host's page-swap commands are off, bit 25.
    pub fn page_swap_disabled(self) -> bool {
        self.bit(25)
    }

    /// Bits that this layout gives no meaning, bits 63:26.
    pub fn unknown_bits(self) -> u64 {
        self.0 >> 26 << 26
    }
}

impl fmt::Debug for GuestPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GuestPolicy({:#x})", self.0)
    }
}

impl fmt::Display for GuestPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// What is on or off on the platform (AMD 56860, `PLATFORM_INFO`).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PlatformInfo(pub u64);

impl PlatformInfo {
    fn bit(self, index: u32) -> bool {
        self.0 >> index & 1 == 1
    }

    /// Simultaneous multithreading is on, bit 0.
    pub fn smt_enabled(self) -> bool {
        self.bit(0)
    }

    /// Transparent memory encryption is on, bit 1.
    pub fn tsme_enabled(self) -> bool {
        self.bit(1)
    }

    /// The platform uses ECC memory, bit 2.
    pub fn ecc_enabled(self) -> bool {
        self.bit(2)
    }

    /// Running average power limiting is off, bit 3.
    pub fn rapl_disabled(self) -> bool {
        self.bit(3)
    }

    /// Ciphertext hiding of DRAM is on, bit 4.
    pub fn ciphertext_hiding_enabled(self) -> bool {
        self.bit(4)
    }

    /// Memory aliases were looked for and none was found, bit 5.
    pub fn alias_check_complete(self) -> bool {
        self.bit(5)
    }

    /// Trusted I/O is on, bit 7.
    pub fn tio_enabled(self) -> bool {
        self.bit(7)
    }

    /// Bits that this layout gives no meaning: bit 6 and bits 63:8.
    pub fn unknown_bits(self) -> u64 {
        self.0 & !0xBF
    }
}

impl fmt::Debug for PlatformInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PlatformInfo({:#x})", self.0)
    }
}

impl fmt::Display for PlatformInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// The key that a report says it was signed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SigningKey {
    /// The versioned chip endorsement key, 0.
    Vcek,
    /// The versioned loaded endorsement key, 1.
    Vlek,
    /// No key: the report is not signed, 7.
    None,
    /// A selector without a meaning, 2 to 6.
    Reserved(u8),
}

impl fmt::Display for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vcek => f.write_str("VCEK"),
            Self::Vlek => f.write_str("VLEK"),
            Self::None => f.write_str("none"),
            Self::Reserved(value) => write!(f, "reserved ({value})"),
        }
    }
}

/// How the report was signed (AMD 56860, bits at offset 0x48).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyInfo(pub u32);

impl KeyInfo {
    /// The launch was signed with an author key, bit 0.
    pub fn author_key_enabled(self) -> bool {
        self.0 & 1 == 1
    }

    /// Chip id and chip-specific signature are masked, bit 1.
    pub fn chip_key_masked(self) -> bool {
        self.0 >> 1 & 1 == 1
    }

    /// The key the signature was made with, bits 4:2.
    pub fn signing_key(self) -> SigningKey {
        match self.0.to_le_bytes()[0] >> 2 & 7 {
            0 => SigningKey::Vcek,
            1 => SigningKey::Vlek,
            7 => SigningKey::None,
            other => SigningKey::Reserved(other),
        }
    }

    /// Bits that this layout gives no meaning, bits 31:5.
    pub fn unknown_bits(self) -> u32 {
        self.0 >> 5 << 5
    }
}

impl fmt::Debug for KeyInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyInfo({:#x})", self.0)
    }
}

impl fmt::Display for KeyInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}
