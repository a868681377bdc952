//! Reads the options of an encrypted layer, and opens a key that is wrapped as JWE.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use redoubt_ocicrypt::{JweMessage, LayerMediaType, PrivateKey, PrivateOptions, PublicOptions};

static KEY: LazyLock<PrivateKey> = LazyLock::new(|| {
    let pem = include_bytes!("../../../image-offload/ocicrypt/testdata/keys/ec256_priv.pem");
    PrivateKey::parse(pem).expect("a key")
});

fuzz_target!(|data: &[u8]| {
    if let Ok(options) = PublicOptions::parse(data) {
        assert_eq!(PublicOptions::parse(&options.to_json()).ok(), Some(options));
    }
    let _ = PrivateOptions::parse(data);
    if let Ok(message) = JweMessage::parse(data) {
        let _ = message.open(&KEY);
    }
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = LayerMediaType::parse(text);
    }
});
