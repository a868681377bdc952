//! Initdata: TOML document, annotation, disk image and digest.
