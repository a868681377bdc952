//! Reads texts that the guest meets: the kernel command line, ids from the host, and
//! the kernel's counters.

#![no_main]

use libfuzzer_sys::fuzz_target;
use redoubt_attester::AttesterKind;
use redoubt_containers::{ContainerId, ProcessId, parse_flat_keyed, parse_io_stat};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let _ = AttesterKind::from_command_line(text);
    if let Ok(id) = ContainerId::parse(text) {
        // An id becomes part of paths.
        assert!(!id.as_str().contains(['/', '\0']) && id.as_str() != "..");
    }
    if let Some((container, exec)) = text.split_once('\n') {
        let _ = ProcessId::from_request(container, exec);
    }
    let _ = parse_flat_keyed(text);
    let _ = parse_io_stat(text);
});
