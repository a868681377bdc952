//! Ways in which an event log can be wrong.

use redoubt_errors::{ErrorCode, UserError};

use crate::algorithm::HashAlgorithm;
use crate::event_type::EventType;
use crate::replay::Rtmr;

/// Why an event log was refused. Offsets count from the start of the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, displaydoc::Display)]
pub enum EventLogError {
    /// event log of {size} bytes is larger than 4 MiB
    TooLarge {
        /// Length of the log in bytes.
        size: usize,
    },
    /// event log, offset {offset:#x}: {field} needs {needed} bytes, {left} are left
    Truncated {
        /// Where the field starts.
        offset: usize,
        /// The field's name.
        field: &'static str,
        /// Length of the field in bytes.
        needed: usize,
        /// Bytes that are left.
        left: usize,
    },
    /// event log does not start with the record "Spec ID Event03" of a crypto-agile log
    NoSpecId,
    /// event log, offset {offset:#x}: {count} hash algorithms, of which there may be 1 to 8
    AlgorithmCount {
        /// Where the number stands.
        offset: usize,
        /// The number found there.
        count: u32,
    },
    /// event log, offset {offset:#x}: a digest of {algorithm} cannot have {size} bytes
    AlgorithmSize {
        /// Where the algorithm stands.
        offset: usize,
        /// The algorithm.
        algorithm: HashAlgorithm,
        /// The length stated for it in bytes.
        size: u16,
    },
    /// event log, offset {offset:#x}: hash algorithm {algorithm} stands there twice
    AlgorithmTwice {
        /// Where the second one stands.
        offset: usize,
        /// The algorithm.
        algorithm: HashAlgorithm,
    },
    /// event log, offset {offset:#x}: {count} digests in an event, of which there may be 1 to {limit}
    DigestCount {
        /// Where the number stands.
        offset: usize,
        /// The number found there.
        count: u32,
        /// Number of algorithms that the log's first record names.
        limit: usize,
    },
    /// event log, offset {offset:#x}: hash algorithm {algorithm} is not named in the log's first record
    UnknownAlgorithm {
        /// Where the algorithm stands.
        offset: usize,
        /// The algorithm.
        algorithm: HashAlgorithm,
    },
    /// event log, offset {offset:#x}: bytes follow the last event
    TrailingBytes {
        /// Where the first such byte stands.
        offset: usize,
    },
    /// event log has more than 10000 events
    TooManyEvents,
    /// event log, offset {offset:#x}: {kind} extends register {register}, which is no RTMR
    NoRtmr {
        /// Where the event starts.
        offset: usize,
        /// What the event is.
        kind: EventType,
        /// The register's number in the log.
        register: u32,
    },
    /// event log, offset {offset:#x}: {kind} has no SHA-384 digest, which RTMRs are made of
    NoSha384 {
        /// Where the event starts.
        offset: usize,
        /// What the event is.
        kind: EventType,
    },
    /// {rtmr} was reported as {reported}, but the event log leads to {replayed}
    RtmrMismatch {
        /// The register.
        rtmr: Rtmr,
        /// Its value by the report, in hexadecimal.
        reported: String,
        /// Its value by the log, in hexadecimal.
        replayed: String,
    },
    /// CCEL table, offset {offset:#x}: {field} is wrong
    CcelTable {
        /// Where the field stands.
        offset: usize,
        /// The field's name.
        field: &'static str,
    },
    /// runtime event: {field} {problem}
    Aael {
        /// `domain`, `operation` or `content`.
        field: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
}

impl UserError for EventLogError {
    fn code(&self) -> ErrorCode {
        ErrorCode(match self {
            Self::TooLarge { .. } => "RDT-LOG-001",
            Self::Truncated { .. } => "RDT-LOG-002",
            Self::NoSpecId => "RDT-LOG-003",
            Self::AlgorithmCount { .. } => "RDT-LOG-004",
            Self::AlgorithmSize { .. } => "RDT-LOG-005",
            Self::AlgorithmTwice { .. } => "RDT-LOG-006",
            Self::DigestCount { .. } => "RDT-LOG-007",
            Self::UnknownAlgorithm { .. } => "RDT-LOG-008",
            Self::TrailingBytes { .. } => "RDT-LOG-009",
            Self::TooManyEvents => "RDT-LOG-010",
            Self::NoRtmr { .. } => "RDT-LOG-011",
            Self::NoSha384 { .. } => "RDT-LOG-012",
            Self::CcelTable { .. } => "RDT-LOG-013",
            Self::Aael { .. } => "RDT-LOG-014",
            Self::RtmrMismatch { .. } => "RDT-LOG-015",
        })
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NoSpecId => Some(
                "in a guest, the log is /sys/firmware/acpi/tables/data/CCEL; the file \
                 /sys/firmware/acpi/tables/CCEL only says where it lies in memory"
                    .to_owned(),
            ),
            Self::NoRtmr { .. } => {
                Some("this may be the log of a TPM, whose registers are PCRs".to_owned())
            }
            Self::RtmrMismatch { .. } => {
                Some("the log was changed, or it is the log of another guest or boot".to_owned())
            }
            _ => None,
        }
    }
}
