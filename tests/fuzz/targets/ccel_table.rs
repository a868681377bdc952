//! Reads the ACPI table that says where a guest's event log is.

#![no_main]

use libfuzzer_sys::fuzz_target;
use redoubt_event_log::{CcelTable, device_path};

fuzz_target!(|data: &[u8]| {
    let _ = CcelTable::parse(data);
    let _ = device_path(data);
});
