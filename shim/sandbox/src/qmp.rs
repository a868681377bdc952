//! QEMU's monitor: the few commands a sandbox needs, each with a deadline.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
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
    /// How often the virtual CPUs were stopped.
    pub(crate) stops: u32,
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
        Self::negotiate_within(TIMEOUT, stream).await
    }

    /// Ends QEMU when it stops a virtual machine that it cannot go on with: otherwise the machine
    /// would stand still for ever and nobody would be told. Resolves when QEMU is gone.
    pub(crate) async fn end_when_broken(self: Arc<Self>) {
        let mut signs = self.signs();
        let mut seen = 0;
        while let Ok(stops) = signs
            .wait_for(|signs| signs.stops > seen)
            .await
            .map(|s| s.stops)
        {
            seen = stops;
            if self
                .status()
                .await
                .is_ok_and(|status| status == "internal-error")
            {
                tracing::error!("QEMU cannot go on with the virtual machine; it is ended");
                let _ = self.quit().await;
            }
        }
    }

    async fn negotiate_within(timeout: Duration, stream: UnixStream) -> Result<Self, SandboxError> {
        const COMMAND: &str = "qmp_capabilities";
        let negotiation = async {
            let (read, write) = tokio::io::split(stream);
            QmpStreamTokio::open_split(LineLimited::new(read), write)
                .await?
                .negotiate()
                .await
        };
        let stream = tokio::time::timeout(timeout, negotiation)
            .await
            .map_err(|_| timed_out(COMMAND, timeout))?
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

    /// What the virtual machine does, in QMP's words: `running`, `paused`, `internal-error`, …
    pub(crate) async fn status(&self) -> Result<String, SandboxError> {
        let status = self
            .execute(qmp::query_status {}, "query-status")
            .await?
            .status;
        Ok(serde_json::to_value(status)
            .ok()
            .and_then(|value| value.as_str().map(str::to_owned))
            .unwrap_or_else(|| format!("{status:?}")))
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

    /// Runs a command on a task of its own: the library allows one command at a time and does not
    /// survive one that is dropped half-way.
    async fn execute<C>(&self, command: C, name: &'static str) -> Result<C::Ok, SandboxError>
    where
        C: QmpCommand + Send + 'static,
        C::Ok: Send + 'static,
    {
        let failed = |source| SandboxError::Qmp {
            command: name,
            source,
        };
        let running = tokio::spawn(self.service.execute(command));
        tokio::time::timeout(TIMEOUT, running)
            .await
            .map_err(|_| timed_out(name, TIMEOUT))?
            .map_err(|ended| failed(ended.into()))?
            .map_err(|error| failed(io::Error::other(error)))
    }
}

fn timed_out(command: &'static str, timeout: Duration) -> SandboxError {
    let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
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
        qmp::Event::STOP { .. } => signs.stops = signs.stops.saturating_add(1),
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

    /// A monitor that gives the next of `answers` to each command.
    fn monitor(answers: &'static [&'static str]) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().unwrap();
        tokio::spawn(async move {
            let (read, mut write) = theirs.into_split();
            write.write_all(GREETING.as_bytes()).await.unwrap();
            let mut lines = BufReader::new(read).lines();
            for answer in answers {
                assert!(
                    lines
                        .next_line()
                        .await
                        .unwrap()
                        .unwrap()
                        .contains("execute")
                );
                write.write_all(answer.as_bytes()).await.unwrap();
            }
            // Silent from here on, but not gone.
            while let Ok(Some(_)) = lines.next_line().await {}
        });
        ours
    }

    const DONE: &str = "{\"return\":{}}\r\n";

    #[tokio::test]
    async fn commands_are_answered_and_events_seen() {
        const EVENT_THEN_DONE: &str = "{\"timestamp\":{\"seconds\":1,\"microseconds\":2},\"event\":\"SHUTDOWN\",\"data\":{\"guest\":true,\"reason\":\"guest-reset\"}}\r\n{\"return\":{}}\r\n";
        let qmp = Qmp::negotiate(monitor(&[DONE, EVENT_THEN_DONE]))
            .await
            .unwrap();
        qmp.stop().await.unwrap();
        let shutdown = qmp.signs().borrow().shutdown.clone();
        assert_eq!(shutdown.as_deref(), Some("guest_reset"));
    }

    #[tokio::test]
    async fn a_refused_command_is_an_error() {
        const REFUSED: &str = "{\"error\":{\"class\":\"GenericError\",\"desc\":\"no\"}}\r\n";
        let qmp = Qmp::negotiate(monitor(&[DONE, REFUSED, DONE]))
            .await
            .unwrap();
        assert!(matches!(
            qmp.cont().await,
            Err(SandboxError::Qmp {
                command: "cont",
                ..
            })
        ));
        qmp.stop().await.unwrap();
    }

    #[tokio::test]
    async fn a_machine_that_broke_is_ended_and_a_paused_one_is_not() {
        const STOPPED: &str = "{\"timestamp\":{\"seconds\":1,\"microseconds\":2},\"event\":\"STOP\"}\r\n{\"return\":{}}\r\n";
        const PAUSED: &str =
            "{\"return\":{\"status\":\"paused\",\"singlestep\":false,\"running\":false}}\r\n";
        const BROKEN: &str = "{\"return\":{\"status\":\"internal-error\",\"singlestep\":false,\"running\":false}}\r\n";
        let (ours, theirs) = UnixStream::pair().unwrap();
        let monitor = tokio::spawn(async move {
            let (read, mut write) = theirs.into_split();
            write.write_all(GREETING.as_bytes()).await.unwrap();
            let mut lines = BufReader::new(read).lines();
            let mut commands = Vec::new();
            for answer in [DONE, STOPPED, PAUSED, STOPPED, BROKEN, DONE] {
                commands.push(lines.next_line().await.unwrap().unwrap());
                write.write_all(answer.as_bytes()).await.unwrap();
            }
            commands
        });
        let qmp = Arc::new(Qmp::negotiate(ours).await.unwrap());
        let watch = tokio::spawn(Arc::clone(&qmp).end_when_broken());
        qmp.stop().await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        qmp.stop().await.unwrap();
        let commands = monitor.await.unwrap();
        assert!(commands[5].contains("\"quit\""), "{commands:?}");
        drop(qmp);
        watch.await.unwrap();
    }

    #[tokio::test]
    async fn a_caller_that_goes_away_leaves_the_monitor_usable() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (release, released) = tokio::sync::oneshot::channel::<()>();
        tokio::spawn(async move {
            let (read, mut write) = theirs.into_split();
            write.write_all(GREETING.as_bytes()).await.unwrap();
            let mut lines = BufReader::new(read).lines();
            lines.next_line().await.unwrap();
            write.write_all(DONE.as_bytes()).await.unwrap();
            lines.next_line().await.unwrap();
            released.await.unwrap();
            write.write_all(DONE.as_bytes()).await.unwrap();
            lines.next_line().await.unwrap();
            write.write_all(DONE.as_bytes()).await.unwrap();
            while let Ok(Some(_)) = lines.next_line().await {}
        });
        let qmp = Qmp::negotiate(ours).await.unwrap();
        let impatient = tokio::time::timeout(Duration::from_millis(20), qmp.stop()).await;
        assert!(impatient.is_err());
        release.send(()).unwrap();
        qmp.cont().await.unwrap();
    }

    #[tokio::test]
    async fn a_line_without_end_is_refused() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let flood = tokio::spawn(async move {
            let spaces = vec![b' '; 65536];
            while theirs.write_all(&spaces).await.is_ok() {}
        });
        let result = Qmp::negotiate(ours).await;
        assert!(matches!(result, Err(SandboxError::Qmp { .. })));
        flood.await.unwrap();
    }

    #[tokio::test]
    async fn a_silent_qemu_is_given_up() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let result = Qmp::negotiate_within(Duration::from_millis(20), ours).await;
        assert!(matches!(
            result,
            Err(SandboxError::QmpTimeout { timeout_ms: 20, .. })
        ));
    }
}
