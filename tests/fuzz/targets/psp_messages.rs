//! Reads what a guest asks the simulated PSP and what it hears.

#![no_main]

use libfuzzer_sys::fuzz_target;
use redoubt_evidence::psp::{ReportRequest, ReportResponse};

fuzz_target!(|data: &[u8]| {
    if let Ok(request) = ReportRequest::parse(data) {
        assert_eq!(request.to_bytes().as_slice(), data);
    }
    if let Ok(evidence) = ReportResponse::parse(data) {
        let written = ReportResponse::Report(Box::new(evidence.clone())).to_bytes();
        if let Ok(bytes) = written {
            assert_eq!(ReportResponse::parse(&bytes).ok(), Some(evidence));
        }
    }
});
