//! ACPI tables as files.

use std::io::ErrorKind;
use std::path::Path;

use redoubt_tdx_measurement::AcpiTables;

use super::inputs::{AcpiSha256, TdxInputs, sha256};
use crate::failure::{CliError, Failure};
use crate::files;
use crate::in_file::NameFile;

/// Reads a directory with `tables`, `rsdp` and `table-loader`, or the tables alone.
///
/// What is missing is made as QEMU makes it.
pub(super) fn read(path: &Path, inputs: &mut TdxInputs) -> Result<AcpiTables, Failure> {
    let in_directory = path.is_dir();
    let tables = if in_directory {
        files::read(&path.join("tables"))
    } else {
        files::read(path)
    }?;
    let mut hashes = AcpiSha256 {
        tables: sha256(&tables),
        rsdp: None,
        loader: None,
    };
    let acpi = match in_directory.then(|| rest(path)).transpose()?.flatten() {
        None => AcpiTables::from_tables(tables),
        Some(Rest { rsdp, loader }) => {
            hashes.rsdp = Some(sha256(&rsdp));
            hashes.loader = Some(sha256(&loader));
            AcpiTables::from_files(loader, rsdp, tables)
        }
    };
    inputs.acpi_sha256 = Some(hashes);
    Ok(acpi.in_file(path)?)
}

/// What links the tables.
struct Rest {
    rsdp: Vec<u8>,
    loader: Vec<u8>,
}

/// Root pointer and table loader, where the directory has them.
fn rest(directory: &Path) -> Result<Option<Rest>, CliError> {
    let optional = |name: &str| match files::read(&directory.join(name)) {
        Err(CliError::Read { cause, .. }) if cause.kind() == ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    };
    let both = optional("rsdp")?.zip(optional("table-loader")?);
    Ok(both.map(|(rsdp, loader)| Rest { rsdp, loader }))
}
