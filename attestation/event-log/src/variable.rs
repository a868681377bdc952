//! UEFI variables in events (`UEFI_VARIABLE_DATA`, PC Client PFP 1.06, section 10.4.3).

use redoubt_firmware::Guid;

use crate::reader::Reader;
use crate::text;

/// A variable with the value that was measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable<'a> {
    /// Whose variable it is.
    pub vendor: Guid,
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: &'a [u8],
}

impl<'a> Variable<'a> {
    /// Reads the data of an event; `None` if it holds anything but one variable.
    pub fn parse(data: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(data);
        let vendor = reader.take(16, "vendor").ok()?.try_into().map(Guid).ok()?;
        let name_chars = usize::try_from(reader.u64("length of the name").ok()?).ok()?;
        let value_len = usize::try_from(reader.u64("length of the value").ok()?).ok()?;
        let name = reader.take(name_chars.checked_mul(2)?, "name").ok()?;
        let value = reader.take(value_len, "value").ok()?;
        reader.rest().is_empty().then(|| Self {
            vendor,
            name: text::utf16_until_nul(name),
            value,
        })
    }

    /// What an event about a variable holds, as the firmware hashes it.
    pub fn encode(vendor: Guid, name: &str, value: &[u8]) -> Vec<u8> {
        let units: Vec<u16> = name.encode_utf16().collect();
        let mut data = vendor.0.to_vec();
        data.extend_from_slice(&(units.len() as u64).to_le_bytes());
        data.extend_from_slice(&(value.len() as u64).to_le_bytes());
        for unit in units {
            data.extend_from_slice(&unit.to_le_bytes());
        }
        data.extend_from_slice(value);
        data
    }
}
