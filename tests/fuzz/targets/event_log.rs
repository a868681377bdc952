//! Reads a confidential guest's event log, replays it and names every event.

#![no_main]

use libfuzzer_sys::fuzz_target;
use redoubt_event_log::{Aael, EventLog};

fuzz_target!(|data: &[u8]| {
    let Ok(log) = EventLog::parse(data) else {
        return;
    };
    assert_eq!(log.labels().len(), log.events().len());
    assert!(log.len_without_padding() <= data.len());
    let _ = log.replay();
    for event in log.events() {
        let _ = event.digest_check();
        let _ = event.variable();
        if let Some(runtime_event) = Aael::parse(event.data) {
            assert_eq!(Aael::parse(&runtime_event.encode()), Some(runtime_event));
        }
    }
});
