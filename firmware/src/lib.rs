//! What an OVMF image holds: footer GUID table, SEV and TDX metadata, kernel-hash area.
//!
//! An OVMF image ends at guest address 4 GiB. 48 bytes before its end stands a
//! GUID that marks a table of entries, read backwards; each entry names an
//! address or a value that a launcher needs. [`Firmware::parse`] reads the
//! table and the metadata that it points to, and refuses anything that lies
//! about its own size or place.

#![forbid(unsafe_code)]

mod bytes;
mod error;
mod footer;
mod guid;
mod image;
mod sev;
mod tdx;
mod versions;

pub use error::FirmwareError;
pub use footer::{FooterEntry, FooterTable};
pub use guid::Guid;
pub use image::{Capability, Firmware, FirmwareKind, GuestArea, MAX_FIRMWARE_BYTES};
pub use sev::{SevSection, SevSectionKind};
pub use tdx::{TdxAttributes, TdxSection, TdxSectionKind};
pub use versions::{EdkRelease, FirmwareVersion};

/// Length of a guest page in bytes.
pub const PAGE_BYTES: usize = 4096;
