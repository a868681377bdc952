//! Reads an attestation report; one that parses must show.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(report) = redoubt_evidence::SnpReport::parse(data) {
        let _ = redoubt_evidence::show(&report);
    }
});
