//! Reads what containerd hands to the shim: arguments, standard input, runtime
//! options and the addresses of streams.
//!
//! The input is a line of arguments, a newline and the rest.

#![no_main]

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use libfuzzer_sys::fuzz_target;
use protobuf::well_known_types::any::Any;
use redoubt_shim::stdio::Target;
use redoubt_shim::{bootstrap, cli, runtime_options};

fuzz_target!(|data: &[u8]| {
    let (line, rest) = match data.iter().position(|&byte| byte == b'\n') {
        Some(end) => (&data[..end], &data[end + 1..]),
        None => (data, &data[..0]),
    };
    let arguments: Vec<OsString> = line
        .split(|&byte| byte == b' ')
        .map(|word| OsString::from_vec(word.to_vec()))
        .collect();
    if let Ok(flags) = cli::parse(&arguments) {
        let _ = flags.require_identity();
        let _ = bootstrap::interpret(rest, &flags);
    }
    let options = Any {
        type_url: "types.googleapis.com/runtimeoptions.v1.Options".to_owned(),
        value: rest.to_vec(),
        ..Any::default()
    };
    let _ = runtime_options::parse(Some(&options));
    if let Ok(address) = std::str::from_utf8(rest) {
        let _ = Target::parse("stdout", address);
    }
});
