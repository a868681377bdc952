//! Unpacks a layer, and looks whether anything came out beside its directory.
//!
//! The first byte says how the layer is compressed.

#![no_main]

use std::fs;

use libfuzzer_sys::fuzz_target;
use redoubt_fuzz::with_checksums;
use redoubt_image_offload::{UnpackOptions, fuzzing};
use redoubt_ocicrypt::Compression;

fuzz_target!(|data: &[u8]| {
    let Some((&kind, layer)) = data.split_first() else {
        return;
    };
    let place = tempfile::tempdir().expect("a directory");
    let path = |name: &str| place.path().join(name);
    for name in ["root", "trash", "outside"] {
        fs::create_dir(path(name)).expect("a directory");
    }
    fs::write(path("outside/file"), "untouched").expect("a file");
    let options = UnpackOptions {
        max_layer_bytes: 4 << 20,
        max_entries: 200,
        ..UnpackOptions::default()
    };
    let (compression, layer) = match kind {
        b'g' => (Compression::Gzip, layer.to_vec()),
        b'z' => (Compression::Zstd, layer.to_vec()),
        _ => (Compression::None, with_checksums(layer)),
    };
    let _ = fuzzing::unpack_layer(&layer, compression, &path("root"), &path("trash"), &options);
    let count = |directory| fs::read_dir(directory).expect("a directory").count();
    assert_eq!(count(place.path().to_owned()), 3);
    assert_eq!(count(path("outside")), 1);
    let outside = fs::read(path("outside/file")).expect("a file");
    assert_eq!(outside, b"untouched");
});
