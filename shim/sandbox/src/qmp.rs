//! QEMU's monitor: the few commands a sandbox needs, each with a deadline.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::StreamExt;
use qapi::futures::{QapiService, QmpStreamTokio};
use qapi::qmp::{self, QmpCommand};
use tokio::io::{AsyncRead, ReadBuf, ReadHalf, WriteHalf};
use tokio::net::UnixStream;
use tokio::sync::watch;

use crate::error::SandboxError;

/// How long QEMU may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Longest line from QEMU, in bytes. What a guest does must not fill the host's memory,
/// not even through a QEMU that it has taken over.
const MAX_LINE_BYTES: usize = 1024 * 1024;

type Service = QapiService<QmpStreamTokio<WriteHalf<UnixStream>>>;

/// What QEMU has announced about the virtual machine.
#[derive(Clone, Debug, Default)]
pub(crate) struct VmSigns {
    /// Why the machine shut down, in QMP's words.
    pub(crate) shutdown: Option<String>,
    /// The guest reset itself where it should have ended.
    pub(crate) guest_reset: bool,
    /// The guest's kernel announced a panic.
    pub(crate) panicked: bool,
}

/// A connection to QEMU's monitor.
pub(crate) struct Qmp {
    service: Service,
    signs: watch::Receiver<VmSigns>,
}

impl std::fmt::Debug for Qmp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Qmp")
            .field("signs", &*self.signs.borrow())
            .finish_non_exhaustive()
    }
}

impl Qmp {
    /// Negotiates on a fresh connection.
    pub(crate) async fn negotiate(stream: UnixStream) -> Result<Self, SandboxError> {
        const COMMAND: &str = "qmp_capabilities";
        let negotiation = async {
            let (read, write) = tokio::io::split(stream);
            QmpStreamTokio::open_split(LineLimited::new(read), write)
                .await?
                .negotiate()
                .await
        };
        let stream = tokio::time::timeout(TIMEOUT, negotiation)
            .await
            .map_err(|_| timed_out(COMMAND))?
            .map_err(|source| SandboxError::Qmp {
                command: COMMAND,
                source,
            })?;
        let (service, mut events) = stream.into_parts();
        let (signs_tx, signs) = watch::channel(VmSigns::default());
        tokio::spawn(async move {
            while let Some(event) = events.next().await {
                match event {
                    Ok(event) => signs_tx.send_modify(|signs| note(signs, &event)),
                    // An answer that nobody waits for any more is no reason to stop listening.
                    Err(error) => tracing::debug!(%error, "QMP"),
                }
            }
        });
        Ok(Self { service, signs })
    }

    /// What QEMU has announced, and each change of it.
    pub(crate) fn signs(&self) -> watch::Receiver<VmSigns> {
        self.signs.clone()
    }

    /// Stops the virtual CPUs.
    pub(crate) async fn stop(&self) -> Result<(), SandboxError> {
        self.execute(qmp::stop {}, "stop").await.map(drop)
    }

    /// Lets the virtual CPUs run again.
    pub(crate) async fn cont(&self) -> Result<(), SandboxError> {
        self.execute(qmp::cont {}, "cont").await.map(drop)
    }

    /// Ends QEMU.
    pub(crate) async fn quit(&self) -> Result<(), SandboxError> {
        self.execute(qmp::quit {}, "quit").await.map(drop)
    }

    /// The first virtual CPU's registers as QEMU prints them; useless where they are encrypted.
    pub(crate) async fn registers(&self) -> Result<String, SandboxError> {
        let command_line = "info registers".to_owned();
        let command = qmp::human_monitor_command {
            cpu_index: None,
            command_line,
        };
        self.execute(command, "human-monitor-command").await
    }

    async fn execute<C: QmpCommand>(
        &self,
        command: C,
        name: &'static str,
    ) -> Result<C::Ok, SandboxError> {
        tokio::time::timeout(TIMEOUT, self.service.execute(command))
            .await
            .map_err(|_| timed_out(name))?
            .map_err(|error| SandboxError::Qmp {
                command: name,
                source: io::Error::other(error),
            })
    }
}

fn timed_out(command: &'static str) -> SandboxError {
    let timeout_ms = u64::try_from(TIMEOUT.as_millis()).unwrap_or(u64::MAX);
    SandboxError::QmpTimeout {
        command,
        timeout_ms,
    }
}

fn note(signs: &mut VmSigns, event: &qmp::Event) {
    match event {
        qmp::Event::SHUTDOWN { data, .. } => {
            signs
                .shutdown
                .get_or_insert_with(|| format!("{:?}", data.reason));
        }
        qmp::Event::RESET { data, .. } => signs.guest_reset |= data.guest,
        qmp::Event::GUEST_PANICKED { .. } => signs.panicked = true,
        _ => {}
    }
}

/// Fails a stream that sends a line longer than [`MAX_LINE_BYTES`].
#[derive(Debug)]
struct LineLimited {
    inner: ReadHalf<UnixStream>,
    line_bytes: usize,
}

impl LineLimited {
    fn new(inner: ReadHalf<UnixStream>) -> Self {
        Self {
            inner,
            line_bytes: 0,
        }
    }
}

impl AsyncRead for LineLimited {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(context, buffer);
        let new = buffer.filled().get(before..).unwrap_or_default();
        self.line_bytes = match new.iter().rposition(|byte| *byte == b'\n') {
            Some(end) => new.len() - end - 1,
            None => self.line_bytes.saturating_add(new.len()),
        };
        if self.line_bytes > MAX_LINE_BYTES {
            return Poll::Ready(Err(io::Error::other("QEMU sends a line without end")));
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

    use super::*;

    const GREETING: &str = "{\"QMP\":{\"version\":{\"qemu\":{\"micro\":2,\"minor\":0,\"major\":10},\"package\":\"Debian\"},\"capabilities\":[\"oob\"]}}\r\n";

    /// A monitor that answers each command with what `answer` makes of its id.
    fn monitor(answer: impl Fn(u64) -> Option<String> + Send + 'static) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().unwrap();
        tokio::spawn(async move {
            let (read, mut write) = theirs.into_split();
            write.write_all(GREETING.as_bytes()).await.unwrap();
            let mut lines = BufReader::new(read).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                let command: serde_json::Value = serde_json::from_str(&line).unwrap();
                if let Some(text) = answer(command["id"].as_u64().unwrap()) {
                    if write.write_all(text.as_bytes()).await.is_err() {
                        return;
                    }
                }
            }
        });
        ours
    }

    #[tokio::test]
    async fn commands_are_answered_and_events_seen() {
        let stream = monitor(|id| {
            let event = r#"{"timestamp":{"seconds":1,"microseconds":2},"event":"SHUTDOWN","data":{"guest":true,"reason":"guest-reset"}}"#;
            Some(format!("{event}\r\n{{\"return\":{{}},\"id\":{id}}}\r\n"))
        });
        let qmp = Qmp::negotiate(stream).await.unwrap();
        qmp.stop().await.unwrap();
        let shutdown = qmp.signs().borrow().shutdown.clone();
        assert_eq!(shutdown.as_deref(), Some("guest_reset"));
    }

    #[tokio::test]
    async fn a_refused_command_is_an_error() {
        let stream = monitor(|id| {
            Some(if id == 0 {
                format!("{{\"return\":{{}},\"id\":{id}}}\r\n")
            } else {
                format!(
                    "{{\"error\":{{\"class\":\"GenericError\",\"desc\":\"no\"}},\"id\":{id}}}\r\n"
                )
            })
        });
        let qmp = Qmp::negotiate(stream).await.unwrap();
        assert!(matches!(
            qmp.cont().await,
            Err(SandboxError::Qmp {
                command: "cont",
                ..
            })
        ));
    }

    #[tokio::test]
    async fn a_line_without_end_is_refused() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let flood =
            tokio::spawn(async move { while theirs.write_all(&[b' '; 65536]).await.is_ok() {} });
        let result = Qmp::negotiate(ours).await;
        assert!(matches!(result, Err(SandboxError::Qmp { .. })));
        flood.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_qemu_is_given_up() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        assert!(matches!(
            Qmp::negotiate(ours).await,
            Err(SandboxError::QmpTimeout { .. })
        ));
    }
}
