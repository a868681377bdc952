//! Reads the key packet of an encrypted layer and opens it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use redoubt_ocicrypt::ProviderPacket;

/// The published key of ocicrypt's test data.
const KEY: &[u8; 32] = include_bytes!("../../../image-offload/ocicrypt/testdata/keys/kek1.bin");

fuzz_target!(|data: &[u8]| {
    if let Ok(packet) = ProviderPacket::parse(data) {
        let _ = packet.unwrap(KEY);
        let _ = packet.to_json();
    }
});
