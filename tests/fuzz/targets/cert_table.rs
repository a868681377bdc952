//! Reads the certificate table of an extended report; one that parses is written the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use redoubt_evidence::CertTable;

fuzz_target!(|data: &[u8]| {
    if let Ok(table) = CertTable::parse(data)
        && let Ok(bytes) = table.build()
    {
        assert_eq!(CertTable::parse(&bytes).ok(), Some(table));
    }
});
