//! Event logs of TDX guests.
//!
//! A TDX guest reports four run-time measurement registers (RTMRs). Each is a
//! chain of SHA-384 hashes over events that firmware, boot loader, kernel and
//! agent recorded. The log says which events these were. It comes from the
//! guest's memory, so nothing in it is true until the replay gives the same
//! RTMRs as the quote; [`EventLog::replay`] does that, [`Rtmrs::differences`]
//! compares, and [`EventLog::labels`] tells people what each event was.
//!
//! The records are those of the TCG (PC Client Platform Firmware Profile 1.06,
//! section 10.2: crypto-agile log). The ACPI table `CCEL` ([`CcelTable`], ACPI
//! 6.5, section 5.2.34) says where the firmware left them; the attestation
//! agent appends its own ([`Aael`]).

#![forbid(unsafe_code)]

mod aael;
mod algorithm;
mod ccel;
mod device_path;
mod digest_check;
mod error;
mod event;
mod event_type;
mod label;
mod log;
mod reader;
mod replay;
mod spec_id;
mod text;
mod variable;

pub use aael::{AAEL_TAG, Aael, INITRD_TAG, LOAD_OPTIONS_TAG, TaggedEvent};
pub use algorithm::HashAlgorithm;
pub use ccel::{CcType, CcelTable};
pub use device_path::device_path;
pub use digest_check::DigestCheck;
pub use error::EventLogError;
pub use event::{Event, EventDigest, Register};
pub use event_type::EventType;
pub use log::{EventLog, MAX_EVENTS, MAX_LOG_BYTES};
pub use replay::{RTMR_COUNT, Rtmr, RtmrDifference, Rtmrs};
pub use spec_id::SpecId;
pub use variable::Variable;
