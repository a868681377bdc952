//! Reads the initdata disk that a guest finds.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = redoubt_initdata::Initdata::from_disk_image(data);
});
