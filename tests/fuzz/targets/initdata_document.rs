//! Reads an initdata TOML document; one that parses survives every way of delivery.

#![no_main]

use libfuzzer_sys::fuzz_target;
use redoubt_initdata::Initdata;

fuzz_target!(|data: &[u8]| {
    let Ok(document) = Initdata::parse_toml(data) else {
        return;
    };
    let delivered = Initdata::from_disk_image(&document.to_disk_image());
    assert_eq!(
        delivered
            .expect("a disk image that was just made")
            .host_data(),
        document.host_data()
    );
    if let Ok(annotation) = document.to_annotation() {
        let delivered = Initdata::from_annotation(&annotation);
        assert_eq!(
            delivered
                .expect("an annotation that was just made")
                .toml_bytes(),
            document.toml_bytes()
        );
    }
});
