//! ACPI tables as QEMU gives them to the firmware, which measures them before it uses them.

use serde::Serialize;
use sha2::{Digest, Sha384};

use crate::bytes::{array, size_at, u32_at};
use crate::error::TdxError;
use crate::linker_loader;

/// The longest file of ACPI tables that is read, in bytes. QEMU's has 128 KiB.
pub const MAX_ACPI_BYTES: usize = 4 << 20;
/// The shortest table has a signature, a length and a checksum.
const MIN_TABLE_LEN: usize = 10;

/// SHA-384 of the three parts, in the order in which the firmware measures them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcpiDigests {
    /// Of `etc/table-loader`: how the firmware links the tables.
    pub loader: [u8; 48],
    /// Of `etc/acpi/rsdp`: the root pointer.
    pub rsdp: [u8; 48],
    /// Of `etc/acpi/tables`: the tables themselves.
    pub tables: [u8; 48],
}

/// The three files that QEMU passes to the firmware.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcpiTables {
    loader: Vec<u8>,
    rsdp: Vec<u8>,
    tables: Vec<u8>,
}

/// One table in `etc/acpi/tables`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Table {
    pub(crate) signature: [u8; 4],
    pub(crate) offset: u32,
    pub(crate) len: u32,
}

impl AcpiTables {
    /// The three files as QEMU wrote them.
    pub fn from_files(loader: Vec<u8>, rsdp: Vec<u8>, tables: Vec<u8>) -> Result<Self, TdxError> {
        for file in [&loader, &rsdp, &tables] {
            if file.is_empty() || file.len() > MAX_ACPI_BYTES {
                return Err(TdxError::AcpiSize { size: file.len() });
            }
        }
        Ok(Self {
            loader,
            rsdp,
            tables,
        })
    }

    /// The tables, with the other two files made as QEMU makes them for the tables of a plain machine.
    pub fn from_tables(tables: Vec<u8>) -> Result<Self, TdxError> {
        let list = list(&tables)?;
        let rsdp = linker_loader::rsdp(&list)?;
        let loader = linker_loader::table_loader(&list)?;
        Self::from_files(loader, rsdp, tables)
    }

    /// Refuses tables that were made for another number of vCPUs.
    pub fn check_vcpus(&self, vcpus: u32) -> Result<(), TdxError> {
        match self.vcpus()? {
            Some(found) if found != vcpus => Err(TdxError::AcpiVcpus { found, vcpus }),
            _ => Ok(()),
        }
    }

    /// The vCPUs that the tables list; `None` if there is no list.
    fn vcpus(&self) -> Result<Option<u32>, TdxError> {
        let list = list(&self.tables)?;
        let madt = list.iter().find(|table| table.signature == *b"APIC");
        Ok(madt.and_then(|madt| {
            let start = usize::try_from(madt.offset).ok()?;
            let len = usize::try_from(madt.len).ok()?;
            Some(processors(self.tables.get(start..start + len)?))
        }))
    }

    /// What the firmware measures.
    pub fn digests(&self) -> AcpiDigests {
        AcpiDigests {
            loader: Sha384::digest(&self.loader).into(),
            rsdp: Sha384::digest(&self.rsdp).into(),
            tables: Sha384::digest(&self.tables).into(),
        }
    }
}

/// The tables in a file, up to the zeros that fill it.
fn list(tables: &[u8]) -> Result<Vec<Table>, TdxError> {
    if tables.is_empty() || tables.len() > MAX_ACPI_BYTES {
        return Err(TdxError::AcpiSize { size: tables.len() });
    }
    let mut found = Vec::new();
    let mut offset = 0;
    while let Some(signature) = array::<4>(tables, offset).filter(|name| *name != [0; 4]) {
        let length = u32_at(tables, offset + 4).unwrap_or(0);
        let end = size_at(tables, offset + 4)
            .filter(|len| *len >= MIN_TABLE_LEN)
            .and_then(|len| offset.checked_add(len))
            .filter(|end| *end <= tables.len());
        let (Some(end), Ok(start)) = (end, u32::try_from(offset)) else {
            return Err(TdxError::AcpiLength {
                offset,
                signature: name(signature),
                length,
            });
        };
        found.push(Table {
            signature,
            offset: start,
            len: length,
        });
        offset = end;
    }
    Ok(found)
}

/// The processors that a multiple APIC description table lists as usable (ACPI 6.5, section 5.2.12).
fn processors(madt: &[u8]) -> u32 {
    const ENTRIES_AT: usize = 44;
    const LOCAL_APIC: u8 = 0;
    const LOCAL_X2APIC: u8 = 9;
    const ENABLED: u32 = 1;
    let mut at = ENTRIES_AT;
    let mut processors = 0;
    while let Some([kind, len]) = array(madt, at).filter(|[_, len]| *len >= 2) {
        let flags = match kind {
            LOCAL_APIC => u32_at(madt, at + 4),
            LOCAL_X2APIC => u32_at(madt, at + 8),
            _ => None,
        };
        processors += flags.map_or(0, |flags| flags & ENABLED);
        at += usize::from(len);
    }
    processors
}

/// A table's name for people.
pub(crate) fn name(signature: [u8; 4]) -> String {
    signature
        .iter()
        .map(|byte| {
            let c = char::from(*byte);
            if c.is_ascii_graphic() { c } else { '?' }
        })
        .collect()
}
