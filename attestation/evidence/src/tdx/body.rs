//! The bytes of a TD report inside a quote.

use zerocopy::byteorder::little_endian::U64;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The TD report of TDX 1.0, 584 bytes.
#[derive(
    Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Debug,
)]
#[repr(C)]
pub struct RawTdReport {
    /// 0x000: security versions of the TDX module and the platform at launch.
    pub tee_tcb_svn: [u8; 16],
    /// 0x010: measurement of the TDX module.
    pub mr_seam: [u8; 48],
    /// 0x040: signer of the TDX module; zero for Intel's own.
    pub mr_signer_seam: [u8; 48],
    /// 0x070: attributes of the TDX module.
    pub seam_attributes: U64,
    /// 0x078: attributes of the TD, see [`crate::tdx::TdAttributes`].
    pub td_attributes: U64,
    /// 0x080: extended features that the TD may use.
    pub xfam: U64,
    /// 0x088: measurement of the TD's initial memory.
    pub mr_td: [u8; 48],
    /// 0x0B8: the host's data of the launch; carries the initdata digest.
    pub mr_config_id: [u8; 48],
    /// 0x0E8: id of the owner.
    pub mr_owner: [u8; 48],
    /// 0x118: configuration of the owner.
    pub mr_owner_config: [u8; 48],
    /// 0x148: RTMR0 to RTMR3.
    pub rtmrs: [[u8; 48]; 4],
    /// 0x208: the guest's own data.
    pub report_data: [u8; 64],
}

/// What TDX 1.5 adds behind it, 64 bytes.
#[derive(
    Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Debug,
)]
#[repr(C)]
pub struct RawTdReport15 {
    /// 0x248: security versions now, after an update that preserved the TD.
    pub tee_tcb_svn_2: [u8; 16],
    /// 0x258: measurement of the service TDs that are bound; zero without one.
    pub mr_service_td: [u8; 48],
}

const _: () = assert!(size_of::<RawTdReport>() == 584);
const _: () = assert!(size_of::<RawTdReport15>() == 64);
const _: () = assert!(std::mem::offset_of!(RawTdReport, mr_td) == 136);
const _: () = assert!(std::mem::offset_of!(RawTdReport, rtmrs) == 328);
