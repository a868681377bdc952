use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use serde::Serialize;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::oneshot;

use super::chain::check;
use super::{AuditEvent, AuditHead, AuditRecord};
use crate::KbsServerError;

/// Most records that wait to be written. More are refused, not forgotten.
const MAX_WAITING: usize = 4096;

/// Most records that are written and flushed together.
const MAX_BATCH: usize = 256;

#[derive(Serialize)]
struct Numbered<'a> {
    seq: u64,
    time: String,
    event: AuditEvent,
    #[serde(flatten)]
    record: &'a AuditRecord,
    prev: &'a str,
}

struct Waiting {
    event: AuditEvent,
    record: AuditRecord,
    done: oneshot::Sender<Result<(), String>>,
}

/// An audit log that is open for appending, by this process alone.
///
/// One thread writes: records that come while it flushes the file are flushed
/// together next time.
#[derive(Debug)]
pub struct AuditLog {
    path: PathBuf,
    waiting: Option<SyncSender<Box<Waiting>>>,
    thread: Option<JoinHandle<()>>,
    head: Arc<Mutex<AuditHead>>,
}

impl AuditLog {
    /// Opens a log or begins one. The whole chain is checked; a last line that
    /// a crash tore is cut off, and the cut is recorded.
    pub fn open(path: &Path) -> Result<Self, KbsServerError> {
        let unusable = |reason: String| KbsServerError::AuditLog {
            path: path.to_owned(),
            reason,
        };
        let file = open_locked(path)?;
        let (head, length, torn) = check(&file, None).map_err(unusable)?;
        let mut writer = Writer {
            file,
            head,
            length,
            broken: false,
        };
        if torn > 0 {
            writer
                .file
                .set_len(length)
                .map_err(|error| unusable(error.to_string()))?;
            let record = AuditRecord {
                reason: Some(format!("{torn} bytes of an unfinished record were cut off")),
                ..AuditRecord::default()
            };
            writer
                .append(&[(AuditEvent::Repaired, &record)])
                .map_err(unusable)?;
        }
        let head = Arc::new(Mutex::new(writer.head.clone()));
        let (waiting, jobs) = sync_channel(MAX_WAITING);
        let thread = std::thread::Builder::new()
            .name("audit-log".to_owned())
            .spawn({
                let head = Arc::clone(&head);
                move || write_all(writer, &jobs, &head)
            })
            .map_err(|error| unusable(error.to_string()))?;
        Ok(Self {
            path: path.to_owned(),
            waiting: Some(waiting),
            thread: Some(thread),
            head,
        })
    }

    /// Appends a record; when this is done, it is on the disk.
    pub async fn record(
        &self,
        event: AuditEvent,
        record: AuditRecord,
    ) -> Result<(), KbsServerError> {
        let outcome = self.submit(event, record)?.await;
        self.outcome(outcome)
    }

    /// The same for callers that can block.
    pub fn record_now(&self, event: AuditEvent, record: AuditRecord) -> Result<(), KbsServerError> {
        let outcome = self.submit(event, record)?.blocking_recv();
        self.outcome(outcome)
    }

    fn submit(
        &self,
        event: AuditEvent,
        record: AuditRecord,
    ) -> Result<oneshot::Receiver<Result<(), String>>, KbsServerError> {
        let (done, outcome) = oneshot::channel();
        let waiting = Box::new(Waiting {
            event,
            record: record.bounded(),
            done,
        });
        let sent = self.waiting.as_ref().map(|sender| sender.try_send(waiting));
        match sent {
            Some(Ok(())) => Ok(outcome),
            _ => Err(self.unusable("too many records wait to be written".to_owned())),
        }
    }

    fn outcome(
        &self,
        outcome: Result<Result<(), String>, oneshot::error::RecvError>,
    ) -> Result<(), KbsServerError> {
        outcome
            .unwrap_or_else(|_| Err("its writer has stopped".to_owned()))
            .map_err(|reason| self.unusable(reason))
    }

    fn unusable(&self, reason: String) -> KbsServerError {
        KbsServerError::AuditLog {
            path: self.path.clone(),
            reason,
        }
    }

    /// The end of the chain.
    pub fn head(&self) -> AuditHead {
        self.head
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Drop for AuditLog {
    /// Waits for the writer, so that the file is free afterwards.
    fn drop(&mut self) {
        drop(self.waiting.take());
        if let Some(thread) = self.thread.take() {
            // A writer that panicked has nothing more to write.
            let _ = thread.join();
        }
    }
}

fn open_locked(path: &Path) -> Result<File, KbsServerError> {
    let file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
        .map_err(|source| KbsServerError::Write {
            path: path.to_owned(),
            source,
        })?;
    file.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => KbsServerError::AuditLogInUse {
            path: path.to_owned(),
        },
        TryLockError::Error(source) => KbsServerError::Write {
            path: path.to_owned(),
            source,
        },
    })?;
    Ok(file)
}

fn write_all(mut writer: Writer, jobs: &Receiver<Box<Waiting>>, head: &Mutex<AuditHead>) {
    while let Ok(first) = jobs.recv() {
        let mut batch = vec![first];
        while batch.len() < MAX_BATCH
            && let Ok(next) = jobs.try_recv()
        {
            batch.push(next);
        }
        let records: Vec<_> = batch
            .iter()
            .map(|waiting| (waiting.event, &waiting.record))
            .collect();
        let outcome = writer.append(&records);
        head.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone_from(&writer.head);
        for waiting in batch {
            // Who does not wait any more needs no answer.
            let _ = waiting.done.send(outcome.clone());
        }
    }
}

#[derive(Debug)]
struct Writer {
    file: File,
    head: AuditHead,
    length: u64,
    /// Earlier records could neither be written nor taken back.
    broken: bool,
}

impl Writer {
    /// Appends records, all or none of them.
    fn append(&mut self, records: &[(AuditEvent, &AuditRecord)]) -> Result<(), String> {
        if self.broken {
            return Err("an earlier record could not be written".to_owned());
        }
        let mut head = self.head.clone();
        let mut lines = Vec::new();
        for (event, record) in records {
            head = add_line(&mut lines, &head, *event, record)?;
        }
        let written = self
            .file
            .write_all(&lines)
            .and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            // A half-written line must not stay before the next one.
            self.broken = self.file.set_len(self.length).is_err();
            return Err(error.to_string());
        }
        self.length += lines.len() as u64;
        self.head = head;
        Ok(())
    }
}

fn add_line(
    lines: &mut Vec<u8>,
    head: &AuditHead,
    event: AuditEvent,
    record: &AuditRecord,
) -> Result<AuditHead, String> {
    let numbered = Numbered {
        seq: head.records,
        time: OffsetDateTime::now_utc()
            .format(&Rfc3339)
            .unwrap_or_default(),
        event,
        record,
        prev: &head.hash,
    };
    let text = serde_json::to_string(&numbered).map_err(|error| error.to_string())?;
    let hash = hex::encode(Sha256::digest(&text));
    let open = text.strip_suffix('}').unwrap_or(&text);
    lines.extend_from_slice(format!("{open},\"hash\":\"{hash}\"}}\n").as_bytes());
    Ok(AuditHead {
        records: head.records + 1,
        hash,
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::chain::MAX_LINE_BYTES;
    use super::super::{AuditEvent, verify_audit_log};
    use super::*;

    fn record(reason: &str) -> AuditRecord {
        AuditRecord {
            reason: Some(reason.to_owned()),
            ..AuditRecord::default()
        }
    }

    fn log_of(count: usize) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        let log = AuditLog::open(&path).unwrap();
        for number in 0..count {
            log.record_now(AuditEvent::ResourceReleased, record(&format!("n{number}")))
                .unwrap();
        }
        (dir, path)
    }

    #[test]
    fn chain_continues_over_restarts_and_verifies() {
        let (_dir, path) = log_of(3);
        let log = AuditLog::open(&path).unwrap();
        log.record_now(AuditEvent::Stopped, AuditRecord::default())
            .unwrap();
        let head = verify_audit_log(&path, None).unwrap();
        assert_eq!(head.records, 4);
        assert_eq!(head, log.head());
    }

    #[test]
    fn changed_removed_and_swapped_records_are_found() {
        let (_dir, path) = log_of(4);
        let good = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = good.lines().collect();
        let join = |order: &[usize]| {
            order
                .iter()
                .flat_map(|index| [lines[*index], "\n"])
                .collect::<String>()
        };
        for (bad, reason) in [
            (good.replace("n1", "n7"), "record 1 was changed"),
            (join(&[0, 2, 3]), "record 1 does not follow the one before"),
            (join(&[1, 2, 3]), "record 0 does not follow the one before"),
            (
                join(&[0, 2, 1, 3]),
                "record 1 does not follow the one before",
            ),
            ("{}\n".to_owned(), "record 0 has no hash"),
            ("\n".to_owned(), "record 0 has no hash"),
            ("x".repeat(MAX_LINE_BYTES + 1), "record 0 is too long"),
        ] {
            std::fs::write(&path, bad).unwrap();
            let error = verify_audit_log(&path, None).unwrap_err();
            assert!(error.to_string().ends_with(reason), "{error}");
            assert!(AuditLog::open(&path).is_err());
        }
    }

    #[test]
    fn torn_last_line_is_cut_and_the_cut_recorded() {
        let (_dir, path) = log_of(3);
        let whole = std::fs::read(&path).unwrap();
        for cut in [1, 20, 100] {
            std::fs::write(&path, &whole[..whole.len() - cut]).unwrap();
            assert!(verify_audit_log(&path, None).is_err());
            drop(AuditLog::open(&path).unwrap());
            assert_eq!(verify_audit_log(&path, None).unwrap().records, 3);
            assert!(
                std::fs::read_to_string(&path)
                    .unwrap()
                    .contains("\"event\":\"repaired\"")
            );
        }
    }

    #[test]
    fn cut_end_is_found_by_a_head_that_was_noted() {
        let (_dir, path) = log_of(3);
        let noted = verify_audit_log(&path, None).unwrap();
        let text = noted.to_string();
        assert_eq!(text.parse::<AuditHead>().unwrap(), noted);
        let log = AuditLog::open(&path).unwrap();
        log.record_now(AuditEvent::Stopped, AuditRecord::default())
            .unwrap();
        assert_eq!(verify_audit_log(&path, Some(&noted)).unwrap().records, 4);
        let whole = std::fs::read_to_string(&path).unwrap();
        let cut: String = whole
            .lines()
            .take(2)
            .flat_map(|line| [line, "\n"])
            .collect();
        std::fs::write(&path, cut).unwrap();
        assert_eq!(verify_audit_log(&path, None).unwrap().records, 2);
        assert!(verify_audit_log(&path, Some(&noted)).is_err());
        assert!(verify_audit_log(&path, Some(&AuditHead::default())).is_ok());
        for bad in ["", "3", "3:", "x:00", &format!("3:{}", "g".repeat(64))] {
            assert!(bad.parse::<AuditHead>().is_err(), "{bad}");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn records_of_many_tasks_are_all_there() {
        let (_dir, path) = log_of(0);
        let log = std::sync::Arc::new(AuditLog::open(&path).unwrap());
        let tasks: Vec<_> = (0..200)
            .map(|number| {
                let log = std::sync::Arc::clone(&log);
                tokio::spawn(async move {
                    let record = record(&format!("n{number}"));
                    log.record(AuditEvent::ResourceReleased, record).await
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap().unwrap();
        }
        assert_eq!(log.head().records, 200);
        assert_eq!(verify_audit_log(&path, None).unwrap(), log.head());
    }

    #[test]
    fn log_has_one_writer_and_is_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        let _log = AuditLog::open(&path).unwrap();
        assert!(matches!(
            AuditLog::open(&path),
            Err(KbsServerError::AuditLogInUse { .. })
        ));
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }

    #[test]
    fn long_and_hostile_texts_are_cut_and_stay_on_one_line() {
        let (_dir, path) = log_of(0);
        let log = AuditLog::open(&path).unwrap();
        let text = format!("a\nb\u{1b}[2J\"}}{}", "x".repeat(100_000));
        log.record_now(AuditEvent::EvidenceRefused, record(&text))
            .unwrap();
        let written = std::fs::read_to_string(&path).unwrap();
        assert_eq!(written.lines().count(), 1);
        assert!(written.len() < 8192);
        assert_eq!(verify_audit_log(&path, None).unwrap().records, 1);
    }
}
