//! Reads a line on the guest's console; one that is read is written the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use redoubt_agent_api::stage::{FatalLine, Stage, StageLine};

fuzz_target!(|data: &[u8]| {
    let mut stages = Vec::from_iter(StageLine::parse(data));
    let mut ends = Vec::from_iter(FatalLine::parse(data));
    if let Ok(text) = std::str::from_utf8(data) {
        stages.push(StageLine::new(Stage::AgentUp, text));
        ends.push(FatalLine::new("RDT-AGT-001", text));
    }
    for stage in stages {
        let line = stage.to_string();
        assert_eq!(StageLine::parse(line.as_bytes()), Some(stage), "{line}");
    }
    for end in ends {
        let line = end.to_string();
        assert_eq!(FatalLine::parse(line.as_bytes()), Some(end), "{line}");
    }
});
