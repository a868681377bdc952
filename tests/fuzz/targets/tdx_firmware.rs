//! Reads the TDX metadata of a firmware and measures what it says, up to RTMR0.

#![no_main]

use libfuzzer_sys::fuzz_target;
use redoubt_firmware::Firmware;
use redoubt_tdx_measurement::{
    AcpiDigests, EventLayout, PageOrder, Platform, SecureBootDriver, mrtd, replay, rtmr0_events,
};

fuzz_target!(|data: &[u8]| {
    let Ok(firmware) = Firmware::parse(data) else {
        return;
    };
    for section in firmware.tdx_sections() {
        assert!(section.gpa < section.end());
    }
    let version = firmware.version();
    let _ = mrtd(&firmware, PageOrder::ByPage);
    let acpi = AcpiDigests {
        loader: [1; 48],
        rsdp: [2; 48],
        tables: [3; 48],
    };
    for memory_mib in [16, 2048, 65_536] {
        let platform = Platform { memory_mib, acpi };
        let layout = EventLayout::of(&version, SecureBootDriver::Absent);
        if let Ok(events) = rtmr0_events(&firmware, &platform, layout) {
            let _ = replay(&events);
        }
    }
});
