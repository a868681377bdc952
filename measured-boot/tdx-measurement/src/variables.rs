//! UEFI variables in the configuration firmware volume, as EDK II stores them.
//!
//! The volume starts with a header whose length it names (UEFI PI 1.8, volume
//! 3); then comes the store: a GUID, a length, two state bytes; then the
//! variables, each with a header of 60 bytes, aligned to 4 bytes.

use redoubt_firmware::Guid;

use crate::bytes::{array, size_at, u16_at};

const VOLUME_HEADER_LEN_AT: usize = 48;
const STORE_HEADER_LEN: usize = 28;
const VARIABLE_HEADER_LEN: usize = 60;
/// Start of a variable.
const MAGIC: u16 = 0x55aa;
/// State of a variable that was written whole and not deleted.
const ADDED: u8 = 0x3f;
/// A store of authenticated variables.
const AUTHENTICATED_STORE: Guid = Guid::new(
    0xaaf3_2c78,
    0x947b,
    0x439a,
    0xa180,
    [0x2e, 0x14, 0x4e, 0xc3, 0x77, 0x92],
);
/// Variables that the UEFI specification defines.
pub(crate) const GLOBAL: Guid = Guid::new(
    0x8be4_df61,
    0x93ca,
    0x11d2,
    0xaa0d,
    [0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c],
);
/// The databases of secure boot.
pub(crate) const IMAGE_SECURITY: Guid = Guid::new(
    0xd719_b2cb,
    0x3d3a,
    0x4596,
    0xa3bc,
    [0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f],
);

/// The value of a variable; `None` if the volume has no such variable.
pub(crate) fn variable<'a>(volume: &'a [u8], vendor: Guid, name: &str) -> Option<&'a [u8]> {
    let store_at = usize::from(u16_at(volume, VOLUME_HEADER_LEN_AT)?);
    if array(volume, store_at).map(Guid) != Some(AUTHENTICATED_STORE) {
        return None;
    }
    let wanted: Vec<u8> = name
        .encode_utf16()
        .chain([0])
        .flat_map(u16::to_le_bytes)
        .collect();
    let mut at = store_at.checked_add(STORE_HEADER_LEN)?;
    // Every step goes on by at least a header's length.
    while u16_at(volume, at) == Some(MAGIC) {
        let [state] = array(volume, at + 2)?;
        let name_len = size_at(volume, at + 36)?;
        let value_len = size_at(volume, at + 40)?;
        let found_vendor = array(volume, at + 44).map(Guid)?;
        let name_at = at.checked_add(VARIABLE_HEADER_LEN)?;
        let value_at = name_at.checked_add(name_len)?;
        let end = value_at.checked_add(value_len)?;
        let value = volume.get(value_at..end)?;
        if state == ADDED && found_vendor == vendor && volume.get(name_at..value_at)? == wanted {
            return Some(value);
        }
        at = end.checked_next_multiple_of(4)?;
    }
    None
}
