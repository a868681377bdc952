//! The ACPI table that says where the firmware left the log (ACPI 6.5, section 5.2.34).

use serde::Serialize;

use crate::error::EventLogError;
use crate::reader::Reader;

const TABLE_LEN: usize = 56;

/// What kind of confidential guest wrote the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CcType {
    /// AMD SEV (1).
    Sev,
    /// Intel TDX (2).
    Tdx,
    /// One that this version does not know.
    Other(u8),
}

/// The table `CCEL`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct CcelTable {
    /// What kind of guest it is.
    pub cc_type: CcType,
    /// Most bytes that the log may have.
    pub log_area_len: u64,
    /// Guest physical address of the log.
    pub log_area_start: u64,
}

impl CcelTable {
    /// Reads the table and checks its length and checksum.
    pub fn parse(table: &[u8]) -> Result<Self, EventLogError> {
        let wrong = |offset, field| EventLogError::CcelTable { offset, field };
        let mut reader = Reader::new(table);
        if reader.take(4, "signature")? != b"CCEL" {
            return Err(wrong(0, "signature"));
        }
        let len = reader.u32("length")?;
        if usize::try_from(len) != Ok(TABLE_LEN) || table.len() != TABLE_LEN {
            return Err(wrong(4, "length"));
        }
        if table.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)) != 0 {
            return Err(wrong(9, "checksum"));
        }
        reader.take(28, "header")?;
        let cc_type = match reader.u8("type")? {
            1 => CcType::Sev,
            2 => CcType::Tdx,
            other => CcType::Other(other),
        };
        reader.take(3, "subtype")?;
        Ok(Self {
            cc_type,
            log_area_len: reader.u64("log area length")?,
            log_area_start: reader.u64("log area start")?,
        })
    }
}
