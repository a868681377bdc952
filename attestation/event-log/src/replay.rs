//! Computes the registers that a log leads to.

use std::fmt;

use serde::{Serialize, Serializer};
use sha2::{Digest, Sha384};

use crate::error::EventLogError;
use crate::log::EventLog;

/// Number of run-time measurement registers.
pub const RTMR_COUNT: usize = 4;
const RTMR_LEN: usize = 48;

/// One of the four registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rtmr {
    /// The firmware's configuration and what the host gave it.
    Rtmr0,
    /// What the firmware booted.
    Rtmr1,
    /// What the kernel was given: command line and initrd.
    Rtmr2,
    /// What runs after the boot.
    Rtmr3,
}

impl Rtmr {
    /// All of them in order.
    pub const ALL: [Self; RTMR_COUNT] = [Self::Rtmr0, Self::Rtmr1, Self::Rtmr2, Self::Rtmr3];

    /// The register's number.
    pub fn index(self) -> usize {
        match self {
            Self::Rtmr0 => 0,
            Self::Rtmr1 => 1,
            Self::Rtmr2 => 2,
            Self::Rtmr3 => 3,
        }
    }
}

impl fmt::Display for Rtmr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RTMR{}", self.index())
    }
}

impl Serialize for Rtmr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The values of the four registers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rtmrs {
    values: [RtmrValue; RTMR_COUNT],
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct RtmrValue([u8; RTMR_LEN]);

impl Default for RtmrValue {
    fn default() -> Self {
        Self([0; RTMR_LEN])
    }
}

impl fmt::Debug for RtmrValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// A register whose value is not the one that was replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtmrDifference {
    /// The register.
    pub rtmr: Rtmr,
    /// Its value by the log.
    pub replayed: [u8; RTMR_LEN],
    /// Its value by the report.
    pub reported: [u8; RTMR_LEN],
}

impl Rtmrs {
    /// Registers with these values.
    pub fn new(values: [[u8; RTMR_LEN]; RTMR_COUNT]) -> Self {
        Self {
            values: values.map(RtmrValue),
        }
    }

    /// The value of one register.
    pub fn get(&self, rtmr: Rtmr) -> [u8; RTMR_LEN] {
        let [first, second, third, fourth] = self.values;
        match rtmr {
            Rtmr::Rtmr0 => first.0,
            Rtmr::Rtmr1 => second.0,
            Rtmr::Rtmr2 => third.0,
            Rtmr::Rtmr3 => fourth.0,
        }
    }

    /// Replaces the value of one register.
    pub fn set(&mut self, rtmr: Rtmr, value: [u8; RTMR_LEN]) {
        for (known, current) in Rtmr::ALL.iter().zip(&mut self.values) {
            if *known == rtmr {
                current.0 = value;
            }
        }
    }

    /// Extends a register by a digest, as the TDX module does (TDX Module Base 1.5, section 12.2.2).
    pub fn extend(&mut self, rtmr: Rtmr, digest: &[u8; RTMR_LEN]) {
        let hash = Sha384::new()
            .chain_update(self.get(rtmr))
            .chain_update(digest);
        self.set(rtmr, hash.finalize().into());
    }

    /// Compares these replayed registers with those of a report; an error names the first that differs.
    pub fn verify(&self, reported: &Self) -> Result<(), EventLogError> {
        match self.differences(reported).first() {
            None => Ok(()),
            Some(difference) => Err(EventLogError::RtmrMismatch {
                rtmr: difference.rtmr,
                reported: hex::encode(difference.reported),
                replayed: hex::encode(difference.replayed),
            }),
        }
    }

    /// The registers of a report that differ from these replayed ones, in order.
    pub fn differences(&self, reported: &Self) -> Vec<RtmrDifference> {
        Rtmr::ALL
            .into_iter()
            .map(|rtmr| RtmrDifference {
                rtmr,
                replayed: self.get(rtmr),
                reported: reported.get(rtmr),
            })
            .filter(|difference| difference.replayed != difference.reported)
            .collect()
    }
}

impl Serialize for Rtmrs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        let mut map = serializer.serialize_map(Some(RTMR_COUNT))?;
        for rtmr in Rtmr::ALL {
            let name = format!("rtmr{}", rtmr.index());
            map.serialize_entry(&name, &hex::encode(self.get(rtmr)))?;
        }
        map.end()
    }
}

impl EventLog<'_> {
    /// The registers after all events; they start as zeros.
    pub fn replay(&self) -> Result<Rtmrs, EventLogError> {
        let mut rtmrs = Rtmrs::default();
        for event in self.events().iter().filter(|event| event.extends()) {
            let rtmr = event.register.rtmr().ok_or(EventLogError::NoRtmr {
                offset: event.offset,
                kind: event.kind,
                register: event.register.0,
            })?;
            let digest = event.sha384().ok_or(EventLogError::NoSha384 {
                offset: event.offset,
                kind: event.kind,
            })?;
            rtmrs.extend(rtmr, &digest);
        }
        Ok(rtmrs)
    }
}
