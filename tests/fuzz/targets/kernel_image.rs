//! Reads a kernel as TDX firmware measures it: as it is, or as older QEMU hands it over.

#![no_main]

use libfuzzer_sys::fuzz_target;
use redoubt_tdx_measurement::{authenticode_sha384, patched_kernel};

fuzz_target!(|data: &[u8]| {
    let _ = authenticode_sha384(data);
    if let Ok(patched) = patched_kernel(data, 5 << 20, 2048) {
        assert_eq!(patched.len(), data.len());
        let _ = authenticode_sha384(&patched);
    }
});
