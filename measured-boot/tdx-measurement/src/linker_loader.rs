//! QEMU's script for linking ACPI tables: commands of 128 bytes that the firmware executes.
//!
//! The commands are those of QEMU's `bios-linker-loader`; their order is that
//! in which QEMU builds the tables of the machine `q35`.

use crate::acpi::{Table, name};
use crate::error::TdxError;

const TABLES: &str = "etc/acpi/tables";
const RSDP: &str = "etc/acpi/rsdp";
const NAME_LEN: usize = 56;
const COMMAND_LEN: usize = 128;
/// QEMU fills the script up to a multiple of this many bytes.
const ALIGNMENT: usize = 4096;
/// Length of the root pointer of ACPI 1.0, and where it holds the root table's address.
const RSDP_LEN: u32 = 20;
const RSDP_ADDRESS_AT: u32 = 16;
/// Where a table and the root pointer have their checksum.
const TABLE_CHECKSUM_AT: u32 = 9;
const RSDP_CHECKSUM_AT: u32 = 8;
/// Where the root table's list of addresses starts.
const RSDT_ENTRIES_AT: u32 = 36;
/// Where the fixed description table points to FACS and DSDT, and how long the pointers are.
const FADT_POINTERS: [(u32, u8); 3] = [(36, 4), (40, 4), (140, 8)];
/// Tables that hold no pointers: only their checksum is computed.
const PLAIN_TABLES: [&[u8; 4]; 9] = [
    b"APIC", b"HPET", b"MCFG", b"WAET", b"SRAT", b"SLIT", b"HMAT", b"DMAR", b"SSDT",
];

/// Where a file is put.
#[derive(Clone, Copy)]
enum Zone {
    High = 1,
    FSegment = 2,
}

/// The root pointer before the firmware completes it.
pub(crate) fn rsdp(tables: &[Table]) -> Result<Vec<u8>, TdxError> {
    let root = find(tables, "RSDT")?;
    // Checksum and revision are zero.
    let mut rsdp = b"RSD PTR \0BOCHS \0".to_vec();
    rsdp.extend_from_slice(&root.offset.to_le_bytes());
    Ok(rsdp)
}

/// The script for these tables.
pub(crate) fn table_loader(tables: &[Table]) -> Result<Vec<u8>, TdxError> {
    let mut script = Script::default();
    script.allocate(RSDP, 16, Zone::FSegment);
    script.allocate(TABLES, 64, Zone::High);
    script.table_checksum(find(tables, "DSDT")?);
    let fixed = find(tables, "FACP")?;
    for (at, size) in FADT_POINTERS {
        script.pointer(TABLES, fixed.offset + at, size);
    }
    script.table_checksum(fixed);
    for table in tables {
        match &table.signature {
            b"FACS" | b"DSDT" | b"FACP" | b"RSDT" => {}
            plain if PLAIN_TABLES.contains(&plain) => script.table_checksum(*table),
            _ => {
                return Err(TdxError::AcpiUnknown {
                    offset: usize::try_from(table.offset).unwrap_or(usize::MAX),
                    signature: name(table.signature),
                });
            }
        }
    }
    let root = find(tables, "RSDT")?;
    for at in (RSDT_ENTRIES_AT..root.len).step_by(4) {
        script.pointer(TABLES, root.offset + at, 4);
    }
    script.table_checksum(root);
    script.pointer(RSDP, RSDP_ADDRESS_AT, 4);
    script.checksum(RSDP, RSDP_CHECKSUM_AT, 0, RSDP_LEN);
    Ok(script.finish())
}

fn find(tables: &[Table], signature: &'static str) -> Result<Table, TdxError> {
    tables
        .iter()
        .find(|table| table.signature == signature.as_bytes())
        .copied()
        .ok_or(TdxError::AcpiMissing { signature })
}

#[derive(Default)]
struct Script(Vec<u8>);

impl Script {
    fn allocate(&mut self, file: &str, alignment: u32, zone: Zone) {
        self.command(1, |command| {
            command.extend_from_slice(&file_name(file));
            command.extend_from_slice(&alignment.to_le_bytes());
            command.push(zone as u8);
        });
    }

    /// A pointer into the tables, at a place in a file.
    fn pointer(&mut self, file: &str, offset: u32, size: u8) {
        self.command(2, |command| {
            command.extend_from_slice(&file_name(file));
            command.extend_from_slice(&file_name(TABLES));
            command.extend_from_slice(&offset.to_le_bytes());
            command.push(size);
        });
    }

    fn checksum(&mut self, file: &str, result_at: u32, start: u32, len: u32) {
        self.command(3, |command| {
            command.extend_from_slice(&file_name(file));
            for number in [result_at, start, len] {
                command.extend_from_slice(&number.to_le_bytes());
            }
        });
    }

    fn table_checksum(&mut self, table: Table) {
        let result_at = table.offset + TABLE_CHECKSUM_AT;
        self.checksum(TABLES, result_at, table.offset, table.len);
    }

    fn command(&mut self, number: u32, arguments: impl FnOnce(&mut Vec<u8>)) {
        let mut command = number.to_le_bytes().to_vec();
        arguments(&mut command);
        command.resize(COMMAND_LEN, 0);
        self.0.append(&mut command);
    }

    fn finish(mut self) -> Vec<u8> {
        self.0.resize(self.0.len().next_multiple_of(ALIGNMENT), 0);
        self.0
    }
}

fn file_name(name: &str) -> [u8; NAME_LEN] {
    let mut field = [0; NAME_LEN];
    field
        .iter_mut()
        .zip(name.bytes())
        .for_each(|(to, from)| *to = from);
    field
}
