//! The shim's log: key=value lines in the FIFO that containerd reads.
//!
//! containerd may be restarted while a shim lives, so a line that nobody takes is
//! dropped rather than waited for.

use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::OFlags;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

/// The longest line: what a pipe takes in one piece.
const MAX_LINE_BYTES: usize = 4096;

/// Set once debug logging is wanted, by a flag or by the sandbox's configuration.
static DEBUG: AtomicBool = AtomicBool::new(false);

/// Starts logging to the FIFO `log` in the working folder; without one the log is lost,
/// which must not stop a container.
pub fn start(debug: bool, namespace: &str, id: &str) {
    if debug {
        more();
    }
    let Some(fifo) = open_fifo(Path::new("log")) else {
        return;
    };
    let layer = KeyValueLayer {
        fifo,
        namespace: namespace.to_owned(),
        id: id.to_owned(),
    };
    // Fails only where a subscriber is installed already, which then serves as well.
    let _ = tracing_subscriber::registry().with(layer).try_init();
}

/// Logs at debug level from now on.
pub fn more() {
    DEBUG.store(true, Ordering::Relaxed);
    tracing::callsite::rebuild_interest_cache();
}

/// Opens both ways, so that neither opening nor writing waits for containerd.
fn open_fifo(path: &Path) -> Option<File> {
    let flags = OFlags::NONBLOCK | OFlags::CLOEXEC;
    let flags = i32::try_from(flags.bits()).ok()?;
    File::options()
        .read(true)
        .write(true)
        .custom_flags(flags)
        .open(path)
        .ok()
}

struct KeyValueLayer {
    fifo: File,
    namespace: String,
    id: String,
}

impl<S: Subscriber> Layer<S> for KeyValueLayer {
    fn enabled(&self, metadata: &tracing::Metadata<'_>, _: Context<'_, S>) -> bool {
        let limit = if DEBUG.load(Ordering::Relaxed) {
            Level::DEBUG
        } else {
            Level::INFO
        };
        // Libraries speak up only when something is wrong.
        let own = metadata.target().starts_with("redoubt")
            || metadata.target().starts_with("containerd_shim");
        *metadata.level() <= if own { limit } else { Level::WARN }
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let line = self.line(
            *event.metadata().level(),
            &fields,
            OffsetDateTime::now_utc(),
        );
        // One write per line, so that lines of several processes do not mix.
        let _ = (&self.fifo).write(line.as_bytes());
    }
}

impl KeyValueLayer {
    fn line(&self, level: Level, fields: &Fields, at: OffsetDateTime) -> String {
        let time = at.format(&Rfc3339).unwrap_or_default();
        let level = match level {
            Level::ERROR => "error",
            Level::WARN => "warning",
            Level::INFO => "info",
            Level::DEBUG | Level::TRACE => "debug",
        };
        let mut line = format!(
            "time=\"{time}\" level={level} msg={}",
            quoted(&fields.message)
        );
        let _ = write!(
            line,
            " name=containerd-shim-kata-v2 ns={} id={}",
            self.namespace, self.id
        );
        line.push_str(&fields.pairs);
        if line.len() >= MAX_LINE_BYTES {
            let mut end = MAX_LINE_BYTES - 1;
            while !line.is_char_boundary(end) {
                end -= 1;
            }
            line.truncate(end);
        }
        line.push('\n');
        line
    }
}

/// The message and the other fields of an event.
#[derive(Default)]
struct Fields {
    message: String,
    pairs: String,
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.message);
        } else {
            let _ = write!(self.pairs, " {}={}", field.name(), quoted(value));
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

/// A value that cannot end its line or another field.
fn quoted(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:".contains(c);
    if !value.is_empty() && value.chars().all(plain) {
        return value.to_owned();
    }
    let mut text = String::with_capacity(value.len() + 2);
    text.push('"');
    for c in value.chars() {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            '\n' => text.push_str("\\n"),
            c if c.is_control() => text.push(' '),
            c => text.push(c),
        }
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer() -> KeyValueLayer {
        let fifo = File::options().write(true).open("/dev/null").unwrap();
        KeyValueLayer {
            fifo,
            namespace: "default".to_owned(),
            id: "demo".to_owned(),
        }
    }

    #[test]
    fn a_line_has_time_level_message_and_fields() {
        let fields = Fields {
            message: "stage reached".to_owned(),
            pairs: " t_ms=12".to_owned(),
        };
        let line = layer().line(Level::INFO, &fields, OffsetDateTime::UNIX_EPOCH);
        insta::assert_snapshot!(line, @r#"time="1970-01-01T00:00:00Z" level=info msg="stage reached" name=containerd-shim-kata-v2 ns=default id=demo t_ms=12"#);
    }

    #[test]
    fn a_value_cannot_forge_fields_or_lines() {
        assert_eq!(
            quoted("a\" level=fatal\nx\u{1b}[2J"),
            r#""a\" level=fatal\nx [2J""#
        );
        assert_eq!(quoted(""), r#""""#);
        assert_eq!(quoted("10.0.0.1:80/x"), "10.0.0.1:80/x");
    }

    #[test]
    fn a_long_line_fits_a_pipe() {
        let fields = Fields {
            message: "ü".repeat(5000),
            pairs: String::new(),
        };
        let line = layer().line(Level::WARN, &fields, OffsetDateTime::UNIX_EPOCH);
        assert!(line.len() <= MAX_LINE_BYTES && line.ends_with('\n'));
    }

    #[test]
    fn a_full_fifo_does_not_block() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            0,
        )
        .unwrap();
        let fifo = open_fifo(&path).unwrap();
        let line = [b'x'; 4096];
        let refused = (0..1000).find_map(|_| (&fifo).write(&line).err()).unwrap();
        assert_eq!(refused.kind(), std::io::ErrorKind::WouldBlock);
    }
}
