//! Event logs of real guests, and what can be done to them.

use std::io::Read as _;

use redoubt_event_log::{EventLog, EventLogError, Rtmrs};

use crate::case::Expected::{self, Accepted, Refused};
use crate::case::{Case, Observed, Outcome, Row, Step};
use crate::error::HarnessError;
use crate::snp::unreadable;

const QUOTE_LOG: &[u8] =
    include_bytes!("../../event-log/testdata/attestation-rs-tdx_ccel_live2.dat.gz");
const QUOTE: &[u8] = include_bytes!("../../event-log/testdata/attestation-rs-tdx_quote_live.dat");
const REPORT_LOG: &[u8] =
    include_bytes!("../../event-log/testdata/attestation-rs-tdx_ccel_live.bin.gz");
const REPORT: &[u8] =
    include_bytes!("../../event-log/testdata/attestation-rs-tdx_tdreport_live.bin");

/// Where RTMR0 to RTMR3 stand in a quote of version 4, and in a TDREPORT.
const IN_QUOTE: usize = 376;
const IN_REPORT: usize = 720;

const EV_NO_ACTION: u32 = 3;
const EV_SEPARATOR: &str = "EV_SEPARATOR";
const SHA384: u16 = 0x000C;

fn unpacked(packed: &[u8]) -> Result<Vec<u8>, HarnessError> {
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(packed)
        .read_to_end(&mut bytes)
        .map_err(|_| HarnessError::Vector {
            what: "a packed event log",
        })?;
    Ok(bytes)
}

fn registers(bytes: &[u8], offset: usize) -> Rtmrs {
    let register = |index: usize| {
        let start = offset + 48 * index;
        let slice = bytes.get(start..start + 48).unwrap_or_default();
        slice.try_into().unwrap_or([0; 48])
    };
    Rtmrs::new([0, 1, 2, 3].map(register))
}

/// Replays a log against registers.
fn replay(log: &[u8], reported: &Rtmrs) -> Observed {
    let replayed = EventLog::parse(log)
        .and_then(|log| log.replay())
        .and_then(|replayed| replayed.verify(reported));
    match replayed {
        Ok(()) => Observed::Accepted,
        Err(error) => unreadable(&error),
    }
}

/// Where the events of a log end, and where the first with this name stands.
fn places(log: &[u8], name: &str) -> Result<(usize, std::ops::Range<usize>), EventLogError> {
    let log = EventLog::parse(log)?;
    let end = |event: &redoubt_event_log::Event<'_>| {
        let digests = event.digests.iter().map(|digest| 2 + digest.bytes.len());
        // Register, kind, number of digests and length of the data.
        event.offset + 4 * 4 + digests.sum::<usize>() + event.data.len()
    };
    let last = log.events().iter().map(end).max().unwrap_or_default();
    let named = log
        .events()
        .iter()
        .find(|event| event.kind.to_string() == name);
    let named = named.map_or(0..0, |event| event.offset..end(event));
    Ok((last, named))
}

/// A record that stands in a log and is not measured.
fn no_action() -> Vec<u8> {
    let mut record = 1_u32.to_le_bytes().to_vec();
    record.extend(EV_NO_ACTION.to_le_bytes());
    record.extend(1_u32.to_le_bytes());
    record.extend(SHA384.to_le_bytes());
    record.extend([0; 48]);
    record.extend(4_u32.to_le_bytes());
    record.extend(*b"note");
    record
}

/// Puts bytes into a log, in the place of as many of its padding.
fn inserted(log: &[u8], at: usize, bytes: &[u8]) -> Vec<u8> {
    let (front, back) = log.split_at(at.min(log.len()));
    let mut out = [front, bytes, back].concat();
    out.truncate(log.len());
    out
}

fn altered(change: impl Fn(&[u8]) -> Result<Vec<u8>, EventLogError>) -> Outcome {
    let log = unpacked(QUOTE_LOG)?;
    Ok(match change(&log) {
        Ok(log) => replay(&log, &registers(QUOTE, IN_QUOTE)),
        Err(error) => Observed::Broken(error.to_string()),
    })
}

pub(crate) fn cases() -> Vec<Case> {
    const DIFFERS: Expected = Refused(Step::Evidence, "RDT-LOG-015");
    let case = |name, expected, run: fn() -> Outcome| {
        Case::local(Row::EventLog, name, expected, move |_| run())
    };
    vec![
        case(
            "real: leads to the registers of its quote",
            Accepted,
            || altered(|log| Ok(log.to_vec())),
        ),
        case(
            "real: leads to the registers of its TDREPORT",
            Accepted,
            || {
                Ok(replay(
                    &unpacked(REPORT_LOG)?,
                    &registers(REPORT, IN_REPORT),
                ))
            },
        ),
        case("a record that is not measured", Accepted, || {
            altered(|log| {
                let (end, _) = places(log, EV_SEPARATOR)?;
                Ok(inserted(log, end, &no_action()))
            })
        }),
        case("the log of another boot", DIFFERS, || {
            Ok(replay(&unpacked(REPORT_LOG)?, &registers(QUOTE, IN_QUOTE)))
        }),
        case("a separator that stands twice", DIFFERS, || {
            altered(|log| {
                let (_, separator) = places(log, EV_SEPARATOR)?;
                let twice = log.get(separator.clone()).unwrap_or_default();
                Ok(inserted(log, separator.end, twice))
            })
        }),
        case("an event that was left out", DIFFERS, || {
            altered(|log| {
                let (_, separator) = places(log, EV_SEPARATOR)?;
                let mut log = log.to_vec();
                log.drain(separator);
                Ok(log)
            })
        }),
        case("one altered digest", DIFFERS, || {
            altered(|log| {
                let (_, separator) = places(log, EV_SEPARATOR)?;
                let mut log = log.to_vec();
                // Behind register, kind, number of digests and algorithm.
                if let Some(byte) = log.get_mut(separator.start + 14) {
                    *byte ^= 1;
                }
                Ok(log)
            })
        }),
        case(
            "a log that was cut inside an event",
            Refused(Step::Evidence, "RDT-LOG-002"),
            || {
                altered(|log| {
                    let (_, separator) = places(log, EV_SEPARATOR)?;
                    Ok(log.get(..separator.start + 6).unwrap_or_default().to_vec())
                })
            },
        ),
    ]
}
