//! The event log against the registers.

use redoubt_event_log::{EventLog, Rtmrs};
use redoubt_evidence::tdx::TdxQuote;
use redoubt_verifier::{ClaimList, ClaimName};

/// Replays a log: what it leads to must be the quote's RTMRs, all four.
///
/// An event that was measured but not logged shows as a difference as well, so
/// a guest cannot measure something and keep it out of its log.
pub(crate) fn check(quote: &TdxQuote, log: Option<&[u8]>, claims: &mut ClaimList) {
    const EXPECTED: &str = "a log that leads to the quote's RTMRs";
    let Some(log) = log else {
        claims.unchecked_seen(ClaimName::EventLog, EXPECTED, "no log given".to_owned());
        return;
    };
    let replayed = EventLog::parse(log).and_then(|log| {
        let rtmrs = log.replay()?;
        Ok((rtmrs, log.events().len()))
    });
    let (good, seen) = match replayed {
        Ok((rtmrs, count)) => {
            let differences = rtmrs.differences(&Rtmrs::new(quote.report().rtmrs));
            let names: Vec<String> = differences
                .iter()
                .map(|difference| difference.rtmr.to_string())
                .collect();
            if names.is_empty() {
                (true, format!("{count} records lead to them"))
            } else {
                let words = format!("{count} records lead elsewhere in {}", names.join(", "));
                (false, words)
            }
        }
        Err(error) => (false, error.to_string()),
    };
    claims.check(
        ClaimName::EventLog,
        EXPECTED.to_owned(),
        seen,
        "replay",
        good,
    );
}
