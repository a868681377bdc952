//! Walks over a layer's archive.
//!
//! The first byte is left out, so that the seeds are those of `archive_unpack`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use redoubt_fuzz::with_checksums;
use redoubt_image_offload::{UnpackOptions, fuzzing};

fuzz_target!(|data: &[u8]| {
    let archive = data.get(1..).unwrap_or_default();
    let options = UnpackOptions::default();
    if fuzzing::read_archive(archive, &options).is_err() {
        let _ = fuzzing::read_archive(&with_checksums(archive), &options);
    }
});
