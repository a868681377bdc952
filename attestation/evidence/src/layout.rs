//! The bytes of an attestation report, AMD 56860 table `ATTESTATION_REPORT`.

use zerocopy::byteorder::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The length of an attestation report in bytes.
pub const REPORT_BYTES: usize = 0x4A0;

/// How many of the report's first bytes its signature covers.
pub const SIGNED_BYTES: usize = 0x2A0;

/// A firmware version as the report stores it: build, minor, major.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    FromBytes,
    IntoBytes,
    KnownLayout,
    Immutable,
    Unaligned,
    Debug,
    Default,
)]
#[repr(C)]
pub struct RawFirmwareVersion {
    /// Build number.
    pub build: u8,
    /// Minor version.
    pub minor: u8,
    /// Major version.
    pub major: u8,
    /// Reserved, zero.
    pub reserved: u8,
}

/// An ECDSA P-384 signature: two little-endian integers in 72 bytes each.
#[derive(
    Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Debug,
)]
#[repr(C)]
pub struct RawSignature {
    /// The integer r, little-endian, zero-extended.
    pub r: [u8; 72],
    /// The integer s, little-endian, zero-extended.
    pub s: [u8; 72],
    /// Reserved, zero.
    pub reserved: [u8; 368],
}

/// The 1184 bytes of an attestation report, field by field.
///
/// Offsets are those of AMD 56860. Fields that later versions added are
/// reserved (zero) in earlier ones. [`crate::SnpReport`] is the checked form.
#[derive(
    Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Debug,
)]
#[repr(C)]
pub struct RawReport {
    /// 0x000: version of this layout.
    pub version: U32,
    /// 0x004: guest security version, from the id block.
    pub guest_svn: U32,
    /// 0x008: guest policy, see [`crate::GuestPolicy`].
    pub policy: U64,
    /// 0x010: family id, from the id block.
    pub family_id: [u8; 16],
    /// 0x020: image id, from the id block.
    pub image_id: [u8; 16],
    /// 0x030: VMPL that asked for the report.
    pub vmpl: U32,
    /// 0x034: signature algorithm, 1 = ECDSA P-384 with SHA-384.
    pub signature_algorithm: U32,
    /// 0x038: TCB now running.
    pub current_tcb: [u8; 8],
    /// 0x040: platform information, see [`crate::PlatformInfo`].
    pub platform_info: U64,
    /// 0x048: author key, chip-key mask and signing key, see [`crate::KeyInfo`].
    pub key_info: U32,
    /// 0x04C: reserved.
    pub reserved_04c: U32,
    /// 0x050: the guest's own data.
    pub report_data: [u8; 64],
    /// 0x090: launch digest.
    pub launch_digest: [u8; 48],
    /// 0x0C0: the host's data of the launch (`HOST_DATA`).
    pub host_data: [u8; 32],
    /// 0x0E0: SHA-384 of the id key.
    pub id_key_digest: [u8; 48],
    /// 0x110: SHA-384 of the author key.
    pub author_key_digest: [u8; 48],
    /// 0x140: id of this guest, stable over its life.
    pub report_id: [u8; 32],
    /// 0x160: report id of the migration agent; all ones without one.
    pub report_id_ma: [u8; 32],
    /// 0x180: TCB that the signing key was derived with.
    pub reported_tcb: [u8; 8],
    /// 0x188: CPU family, extended and base combined (version 3 and later).
    pub cpuid_family: u8,
    /// 0x189: CPU model, extended and base combined (version 3 and later).
    pub cpuid_model: u8,
    /// 0x18A: CPU stepping (version 3 and later).
    pub cpuid_stepping: u8,
    /// 0x18B: reserved.
    pub reserved_18b: [u8; 21],
    /// 0x1A0: chip id, or zero when masked or signed by a VLEK.
    pub chip_id: [u8; 64],
    /// 0x1E0: TCB the firmware cannot go below.
    pub committed_tcb: [u8; 8],
    /// 0x1E8: firmware version now running.
    pub current_version: RawFirmwareVersion,
    /// 0x1EC: firmware version the platform cannot go below.
    pub committed_version: RawFirmwareVersion,
    /// 0x1F0: TCB when the guest was launched or imported.
    pub launch_tcb: [u8; 8],
    /// 0x1F8: mitigations present at launch (version 5).
    pub launch_mitigations: U64,
    /// 0x200: mitigations present now (version 5).
    pub current_mitigations: U64,
    /// 0x208: reserved.
    pub reserved_208: [u8; 152],
    /// 0x2A0: signature over bytes 0x000..0x2A0.
    pub signature: RawSignature,
}

const _: () = assert!(size_of::<RawReport>() == REPORT_BYTES);
const _: () = assert!(std::mem::offset_of!(RawReport, report_data) == 0x050);
const _: () = assert!(std::mem::offset_of!(RawReport, chip_id) == 0x1A0);
const _: () = assert!(std::mem::offset_of!(RawReport, launch_tcb) == 0x1F0);
const _: () = assert!(std::mem::offset_of!(RawReport, signature) == SIGNED_BYTES);

impl RawReport {
    /// A report of zeros, to be filled in.
    pub fn zeroed() -> Self {
        zerocopy::FromZeros::new_zeroed()
    }
}
