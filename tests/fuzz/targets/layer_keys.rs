//! Reads private and public keys for layers, as PEM, DER or JWK.

#![no_main]

use libfuzzer_sys::fuzz_target;
use redoubt_ocicrypt::{PrivateKey, PublicKey};

fuzz_target!(|data: &[u8]| {
    if let Ok(key) = PrivateKey::parse(data) {
        let _ = key.public_key();
    }
    let _ = PublicKey::parse(data);
});
