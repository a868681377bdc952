//! One record of the log.

use serde::{Serialize, Serializer};

use crate::algorithm::HashAlgorithm;
use crate::event_type::EventType;
use crate::replay::Rtmr;

/// A register as the log numbers it: 0 is MRTD, 1 to 4 are RTMR0 to RTMR3 (UEFI 2.10, section 38.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Register(pub u32);

impl Register {
    /// The RTMR that this register is.
    pub fn rtmr(self) -> Option<Rtmr> {
        match self.0 {
            1 => Some(Rtmr::Rtmr0),
            2 => Some(Rtmr::Rtmr1),
            3 => Some(Rtmr::Rtmr2),
            4 => Some(Rtmr::Rtmr3),
            _ => None,
        }
    }
}

/// A digest with its algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventDigest<'a> {
    /// The algorithm.
    pub algorithm: HashAlgorithm,
    /// The digest's bytes.
    pub bytes: &'a [u8],
}

impl Serialize for EventDigest<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;
        let mut digest = serializer.serialize_struct("EventDigest", 2)?;
        digest.serialize_field("algorithm", &self.algorithm)?;
        digest.serialize_field("digest", &hex::encode(self.bytes))?;
        digest.end()
    }
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// Where the record starts in the log.
    pub offset: usize,
    /// The register that it extends.
    pub register: Register,
    /// What kind of event it is.
    pub kind: EventType,
    /// Its digests, at most one of each algorithm.
    pub digests: Vec<EventDigest<'a>>,
    /// What the log says about it. The digest may cover this or something else.
    pub data: &'a [u8],
}

impl Event<'_> {
    /// True if the event changes a register: all do but informational ones.
    pub fn extends(&self) -> bool {
        self.kind != EventType::NO_ACTION
    }

    /// The digest of this algorithm.
    pub fn digest(&self, algorithm: HashAlgorithm) -> Option<&[u8]> {
        self.digests
            .iter()
            .find(|digest| digest.algorithm == algorithm)
            .map(|digest| digest.bytes)
    }

    /// The SHA-384 digest, which extends an RTMR.
    pub fn sha384(&self) -> Option<[u8; 48]> {
        self.digest(HashAlgorithm::Sha384)?.try_into().ok()
    }
}
