//! Reads an image reference, an image's location and a registry's challenge.

#![no_main]

use libfuzzer_sys::fuzz_target;
use redoubt_image_offload::host::ImageLocation;
use redoubt_image_offload::{Digest, ImageReference, fuzzing};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(reference) = ImageReference::parse(text) {
        let again = ImageReference::parse(&reference.to_string());
        assert_eq!(
            again.map(|again| again.to_string()).ok(),
            Some(reference.to_string())
        );
    }
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.to_string(), text);
    }
    let _ = text.parse::<ImageLocation>();
    let _ = fuzzing::read_challenge(text);
});
