//! Project tasks: setup, demo, test, guest, bench, fuzz.

fn main() {}
