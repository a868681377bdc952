//! Reads the key broker's configuration and its reference values.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use redoubt_kbs_server::{ServerConfig, parse_reference_values};

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = ServerConfig::parse(text, Path::new("/etc/broker/config.toml"));
    }
    let _ = parse_reference_values(data, "fuzz.json");
});
