//! Reads the annotations of an encrypted layer, given as lines `name=value`.

#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use redoubt_ocicrypt::LayerEncryption;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let annotations: BTreeMap<String, String> = text
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    if let Ok(encryption) = LayerEncryption::from_annotations(&annotations) {
        assert!(!encryption.recipients.is_empty());
        let _ = encryption.schemes();
    }
});
