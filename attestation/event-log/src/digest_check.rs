//! Whether an event's digest covers what the log shows of it.

use serde::Serialize;

use crate::aael::Aael;
use crate::event::{Event, EventDigest};
use crate::event_type::EventType;
use crate::variable::Variable;

/// How an event's digest relates to the event's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DigestCheck {
    /// The digest covers the data: what the log shows was measured.
    Data,
    /// The digest covers the value of the variable in the data.
    Value,
    /// The digest covers something that is not in the log, such as a file.
    Elsewhere,
    /// The digest should cover the data, and does not: the log was changed.
    Contradiction,
    /// The algorithm is not known.
    Unknown,
}

impl Event<'_> {
    /// Compares all digests with the data.
    pub fn digest_check(&self) -> DigestCheck {
        let covers = |data: &[u8]| {
            let matches = |digest: &EventDigest<'_>| {
                Some(digest.algorithm.digest(data)?.as_slice() == digest.bytes)
            };
            let known: Vec<bool> = self.digests.iter().filter_map(matches).collect();
            (!known.is_empty()).then(|| known.iter().all(|matches| *matches))
        };
        match covers(self.data) {
            None => return DigestCheck::Unknown,
            Some(true) => return DigestCheck::Data,
            Some(false) => {}
        }
        let value = self.variable().map(|variable| variable.value);
        if self.kind == EventType::EFI_VARIABLE_BOOT && value.and_then(covers) == Some(true) {
            return DigestCheck::Value;
        }
        if self.must_cover_data() {
            DigestCheck::Contradiction
        } else {
            DigestCheck::Elsewhere
        }
    }

    /// The variable that the event is about.
    pub fn variable(&self) -> Option<Variable<'_>> {
        let about_variable = [
            EventType::EFI_VARIABLE_DRIVER_CONFIG,
            EventType::EFI_VARIABLE_BOOT,
            EventType::EFI_VARIABLE_BOOT2,
            EventType::EFI_VARIABLE_AUTHORITY,
        ];
        about_variable
            .contains(&self.kind)
            .then(|| Variable::parse(self.data))
            .flatten()
    }

    /// Events whose digest is that of their data (PC Client PFP 1.06, section 10.4.1).
    fn must_cover_data(&self) -> bool {
        match self.kind {
            EventType::SEPARATOR
            | EventType::EFI_ACTION
            | EventType::EFI_GPT_EVENT
            | EventType::EFI_VARIABLE_DRIVER_CONFIG
            | EventType::EFI_VARIABLE_BOOT2
            | EventType::EFI_VARIABLE_AUTHORITY => true,
            // The variable may have been measured with or without its name.
            EventType::EFI_VARIABLE_BOOT => self.variable().is_some(),
            EventType::EVENT_TAG => Aael::parse(self.data).is_some(),
            _ => false,
        }
    }
}
