//! The first error that libcontainer logs, which says more than the error it returns.
//!
//! libcontainer's processes tell each other of failures by the outermost
//! message only ("failed to prepare rootfs"); the cause appears in its log. So
//! the helper records error events, whichever of its forks they come from,
//! into a pipe and appends the first one to its answer.

use std::fmt::{self, Write};
use std::os::fd::OwnedFd;

use rustix::io::{read, write};
use rustix::pipe::{PipeFlags, pipe_with};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use super::protocol::one_line;

/// One record; below `PIPE_BUF`, so records of several processes do not mix.
const MAX_RECORD_BYTES: usize = 600;

/// The reading end of the records.
pub(super) struct Details(OwnedFd);

impl Details {
    /// Begins to record this process and its forks.
    pub(super) fn capture() -> Option<Self> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
        tracing::subscriber::set_global_default(Recorder(writer)).ok()?;
        Some(Self(reader))
    }

    /// The first record.
    pub(super) fn first(&self) -> Option<String> {
        let mut buffer = [0_u8; 4096];
        let length = read(&self.0, &mut buffer).ok()?;
        let text = String::from_utf8_lossy(buffer.get(..length)?).into_owned();
        text.lines().next().map(str::to_owned)
    }
}

struct Recorder(OwnedFd);

impl Subscriber for Recorder {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() == Level::ERROR
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let mut record = one_line(&fields.line());
        while record.len() > MAX_RECORD_BYTES {
            record.pop();
        }
        record.push('\n');
        // A full pipe already holds the records that matter.
        let _ = write(&self.0, record.as_bytes());
    }
}

/// The message and the error of an event; other fields may hold values of the specification.
#[derive(Default)]
struct Fields {
    message: String,
    error: String,
}

impl Fields {
    fn line(&self) -> String {
        if self.error.is_empty() {
            self.message.clone()
        } else {
            format!("{}: {}", self.message, self.error)
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let target = match field.name() {
            "message" => &mut self.message,
            "err" | "error" | "errno" => &mut self.error,
            _ => return,
        };
        // Writing to a string cannot fail.
        let _ = write!(target, "{value:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_message_and_the_error_of_error_events_are_kept() {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
        tracing::subscriber::with_default(Recorder(writer), || {
            tracing::debug!("not this");
            tracing::error!(err = ?"EINVAL", args = ?["secret"], "failed to mount");
            tracing::error!("failed to prepare rootfs");
        });
        assert_eq!(
            Details(reader).first().unwrap(),
            "failed to mount: \"EINVAL\""
        );
    }

    #[test]
    fn without_events_there_is_no_detail() {
        let (reader, _writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
        assert_eq!(Details(reader).first(), None);
    }
}
