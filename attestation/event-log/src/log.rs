//! Reads a whole log.

use crate::algorithm::HashAlgorithm;
use crate::error::EventLogError;
use crate::event::{Event, EventDigest, Register};
use crate::event_type::EventType;
use crate::reader::Reader;
use crate::spec_id::SpecId;

/// The longest log that is read, in bytes. Firmware reserves 64 KiB to 1 MiB.
pub const MAX_LOG_BYTES: usize = 4 << 20;
/// The most events that are read; real logs have about a hundred.
pub const MAX_EVENTS: usize = 10_000;

/// A log that was read to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventLog<'a> {
    spec_id: SpecId,
    events: Vec<Event<'a>>,
    len: usize,
}

impl<'a> EventLog<'a> {
    /// Reads a log. What follows the last event must be padding: zeros or 0xff.
    pub fn parse(log: &'a [u8]) -> Result<Self, EventLogError> {
        if log.len() > MAX_LOG_BYTES {
            return Err(EventLogError::TooLarge { size: log.len() });
        }
        let mut reader = Reader::new(log);
        let spec_id = SpecId::parse(&mut reader)?;
        let mut events = Vec::new();
        while !at_end(&reader)? {
            if events.len() == MAX_EVENTS {
                return Err(EventLogError::TooManyEvents);
            }
            events.push(parse_event(&mut reader, &spec_id)?);
        }
        Ok(Self {
            spec_id,
            events,
            len: reader.at(),
        })
    }

    /// What the first record says.
    pub fn spec_id(&self) -> &SpecId {
        &self.spec_id
    }

    /// The events, without the first record.
    pub fn events(&self) -> &[Event<'a>] {
        &self.events
    }

    /// Length in bytes without the padding: what needs to be sent to a verifier.
    pub fn len_without_padding(&self) -> usize {
        self.len
    }
}

/// True if only padding is left. A record cannot start like padding: no register has the
/// number `u32::MAX`, and an event of type 0 without digests does not exist.
fn at_end(reader: &Reader<'_>) -> Result<bool, EventLogError> {
    const RECORD_START: usize = 12;
    let rest = reader.rest();
    let start = rest.get(..RECORD_START.min(rest.len())).unwrap_or_default();
    let filler = match start.first() {
        None => return Ok(true),
        Some(0xff) if start.iter().take(4).all(|byte| *byte == 0xff) => 0xff,
        Some(0) if start.iter().all(|byte| *byte == 0) => 0,
        Some(_) => return Ok(false),
    };
    match rest.iter().position(|byte| *byte != filler) {
        None => Ok(true),
        Some(at) => Err(EventLogError::TrailingBytes {
            offset: reader.at() + at,
        }),
    }
}

fn parse_event<'a>(reader: &mut Reader<'a>, spec_id: &SpecId) -> Result<Event<'a>, EventLogError> {
    let offset = reader.at();
    let register = Register(reader.u32("register")?);
    let kind = EventType(reader.u32("event type")?);
    let digests = parse_digests(reader, spec_id)?;
    let data = reader.sized("length of the event", "event")?;
    Ok(Event {
        offset,
        register,
        kind,
        digests,
        data,
    })
}

fn parse_digests<'a>(
    reader: &mut Reader<'a>,
    spec_id: &SpecId,
) -> Result<Vec<EventDigest<'a>>, EventLogError> {
    let count_at = reader.at();
    let count = reader.u32("number of digests")?;
    let limit = spec_id.algorithms.len();
    if count == 0 || usize::try_from(count).is_ok_and(|count| count > limit) {
        return Err(EventLogError::DigestCount {
            offset: count_at,
            count,
            limit,
        });
    }
    let mut digests: Vec<EventDigest<'a>> = Vec::new();
    for _ in 0..count {
        let offset = reader.at();
        let algorithm = HashAlgorithm::from(reader.u16("algorithm")?);
        let len = spec_id
            .digest_len(algorithm)
            .ok_or(EventLogError::UnknownAlgorithm { offset, algorithm })?;
        if digests.iter().any(|other| other.algorithm == algorithm) {
            return Err(EventLogError::AlgorithmTwice { offset, algorithm });
        }
        digests.push(EventDigest {
            algorithm,
            bytes: reader.take(usize::from(len), "digest")?,
        });
    }
    Ok(digests)
}
