//! Reads the sealed reply of a key broker and opens it.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use redoubt_kbs_protocol::{JweResponse, TeeKeyPair};

/// The published key of the first vector in kbs-protocol's test data.
const KEY: [u8; 32] = [
    0x05, 0xb9, 0xc3, 0xb2, 0xac, 0x5b, 0x24, 0xb4, 0x67, 0xf4, 0xb2, 0x38, 0x69, 0xf9, 0x4c, 0xf3,
    0x83, 0x6c, 0x41, 0xeb, 0xe2, 0x0c, 0x0f, 0x57, 0x3b, 0x01, 0x61, 0xd6, 0x7f, 0x22, 0x2e, 0xec,
];
static PAIR: LazyLock<TeeKeyPair> =
    LazyLock::new(|| TeeKeyPair::from_secret_bytes(&KEY).expect("a key"));

fuzz_target!(|data: &[u8]| {
    if let Ok(reply) = JweResponse::parse(data) {
        let _ = reply.open(&PAIR);
    }
});
