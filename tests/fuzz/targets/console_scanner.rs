//! Reads a guest's console in pieces; how it is cut must not matter.
//!
//! The first byte is the length of a piece.

#![no_main]

use libfuzzer_sys::fuzz_target;
use redoubt_sandbox::ConsoleScanner;

fuzz_target!(|data: &[u8]| {
    let Some((&length, console)) = data.split_first() else {
        return;
    };
    let whole = ConsoleScanner::new().feed(console);
    let mut scanner = ConsoleScanner::new();
    let pieces: Vec<_> = console
        .chunks(usize::from(length).max(1))
        .flat_map(|piece| scanner.feed(piece))
        .collect();
    assert_eq!(pieces, whole);
});
