//! Reads the manifests, indexes and configurations of images.

#![no_main]

use libfuzzer_sys::fuzz_target;
use redoubt_image_offload::{ImageConfig, ManifestDocument, Platform};

fuzz_target!(|data: &[u8]| {
    match ManifestDocument::parse(data) {
        Ok(ManifestDocument::Image(manifest)) => {
            for layer in &manifest.layers {
                let _ = layer.layer_type();
            }
        }
        Ok(ManifestDocument::Index(index)) => {
            let _ = index.select(&Platform::default());
        }
        Err(_) => {}
    }
    let _ = ImageConfig::parse(data);
});
