//! Reads the ACPI tables that QEMU gives a TDX guest.

#![no_main]

use libfuzzer_sys::fuzz_target;
use redoubt_tdx_measurement::AcpiTables;

fuzz_target!(|data: &[u8]| {
    if let Ok(tables) = AcpiTables::from_tables(data.to_vec()) {
        let _ = tables.check_vcpus(4);
        let _ = tables.digests();
    }
});
