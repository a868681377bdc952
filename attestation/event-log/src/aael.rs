//! Tagged events, among them those that the attestation agent records while the guest runs.
//!
//! An event of the type `EV_EVENT_TAG` starts with an identifier and a length.
//! The agent's are text: domain, operation and content, separated by spaces.

use sha2::{Digest, Sha384};

use crate::error::EventLogError;
use crate::reader::Reader;

/// Identifier of the attestation agent's events: `AAEL`.
pub const AAEL_TAG: u32 = 0x4141_454c;
/// Identifier of the kernel's event about its command line.
pub const LOAD_OPTIONS_TAG: u32 = 0x8f3b_22ed;
/// Identifier of the kernel's event about the initrd.
pub const INITRD_TAG: u32 = 0x8f3b_22ec;

/// An event with an identifier of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaggedEvent<'a> {
    /// The identifier.
    pub tag: u32,
    /// What belongs to it.
    pub data: &'a [u8],
}

impl<'a> TaggedEvent<'a> {
    /// Reads the data of an event; `None` if it has another form.
    pub fn parse(event: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(event);
        let tag = reader.u32("tag").ok()?;
        let data = reader.sized("length", "data").ok()?;
        reader.rest().is_empty().then_some(Self { tag, data })
    }
}

/// An event of the attestation agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aael {
    domain: String,
    operation: String,
    content: String,
}

impl Aael {
    /// An event; domain and operation hold no space, the content no line end.
    pub fn new(domain: &str, operation: &str, content: &str) -> Result<Self, EventLogError> {
        for (field, word) in [("domain", domain), ("operation", operation)] {
            if word.is_empty() || word.chars().any(|c| c.is_whitespace() || c.is_control()) {
                return Err(EventLogError::Aael {
                    field,
                    problem: "is empty or holds a space or control character",
                });
            }
        }
        if content.contains(['\n', '\r', '\0']) {
            return Err(EventLogError::Aael {
                field: "content",
                problem: "holds a line end or NUL",
            });
        }
        Ok(Self {
            domain: domain.to_owned(),
            operation: operation.to_owned(),
            content: content.to_owned(),
        })
    }

    /// Reads the data of an event; `None` if it is not the agent's.
    pub fn parse(event: &[u8]) -> Option<Self> {
        let tagged = TaggedEvent::parse(event).filter(|event| event.tag == AAEL_TAG)?;
        let text = std::str::from_utf8(tagged.data).ok()?;
        let (domain, rest) = text.split_once(' ')?;
        let (operation, content) = rest.split_once(' ')?;
        Self::new(domain, operation, content).ok()
    }

    /// Whose event it is.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// What was done.
    pub fn operation(&self) -> &str {
        &self.operation
    }

    /// To what, often as JSON.
    pub fn content(&self) -> &str {
        &self.content
    }

    /// The event's data, which its digest covers.
    pub fn encode(&self) -> Vec<u8> {
        let text = format!("{} {} {}", self.domain, self.operation, self.content);
        let mut event = AAEL_TAG.to_le_bytes().to_vec();
        // A text of more than 4 GiB cannot have been made.
        event.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
        event.extend_from_slice(text.as_bytes());
        event
    }

    /// The digest that extends an RTMR.
    pub fn sha384(&self) -> [u8; 48] {
        Sha384::digest(self.encode()).into()
    }
}
