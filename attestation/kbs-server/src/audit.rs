//! The audit log: JSON lines, each with the hash of the one before.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::KbsServerError;

/// Longest line, in bytes. What a line says is cut well below.
const MAX_LINE_BYTES: usize = 64 * 1024;

/// Longest text in a record, in characters.
const MAX_TEXT_CHARS: usize = 4096;

const HASH_CHARS: usize = 64;

/// What a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AuditEvent {
    /// The server started.
    Started,
    /// The server stopped in order.
    Stopped,
    /// The end of the log was torn by a crash and was cut off.
    Repaired,
    /// Evidence was accepted.
    EvidenceAccepted,
    /// Evidence was refused.
    EvidenceRefused,
    /// A resource was released.
    ResourceReleased,
    /// A resource was not released.
    ResourceRefused,
}

/// A record without its place in the log. Never holds a secret.
#[derive(Clone, Debug, Default, Serialize)]
pub struct AuditRecord {
    /// Who asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// The kind of TEE.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tee: Option<String>,
    /// The nonce of the handshake, which joins a release to its evidence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nonce: Option<String>,
    /// The launch digest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub launch_digest: Option<String>,
    /// `HOST_DATA`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_data: Option<String>,
    /// The reference value that matched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// The resource.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// The code that the guest was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<&'static str>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

#[derive(Serialize)]
struct Numbered<'a> {
    seq: u64,
    time: String,
    event: AuditEvent,
    #[serde(flatten)]
    record: &'a AuditRecord,
    prev: &'a str,
}

#[derive(Deserialize)]
struct Link {
    seq: u64,
    prev: String,
}

/// The end of a chain: how many records, and the hash of the last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditHead {
    /// Number of records.
    pub records: u64,
    /// Hash of the last record; zeros for an empty log.
    pub hash: String,
}

impl Default for AuditHead {
    fn default() -> Self {
        Self {
            records: 0,
            hash: "0".repeat(HASH_CHARS),
        }
    }
}

/// An audit log that is open for appending, by this process alone.
#[derive(Debug)]
pub struct AuditLog {
    path: PathBuf,
    state: Mutex<LogState>,
}

#[derive(Debug)]
struct LogState {
    file: File,
    head: AuditHead,
    length: u64,
    /// An earlier record could neither be written nor taken back.
    broken: bool,
}

impl AuditLog {
    /// Opens a log or begins one. The whole chain is checked; a last line that
    /// a crash tore is cut off, and the cut is recorded.
    pub fn open(path: &Path) -> Result<Self, KbsServerError> {
        let unusable = |reason: String| KbsServerError::AuditLog {
            path: path.to_owned(),
            reason,
        };
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
            TryLockError::Error(error) => unusable(error.to_string()),
        })?;
        let (head, length, torn) = check(&file).map_err(unusable)?;
        if torn > 0 {
            file.set_len(length)
                .map_err(|error| unusable(error.to_string()))?;
        }
        let state = Mutex::new(LogState {
            file,
            head,
            length,
            broken: false,
        });
        let log = Self {
            path: path.to_owned(),
            state,
        };
        if torn > 0 {
            let record = AuditRecord {
                reason: Some(format!("{torn} bytes of an unfinished record were cut off")),
                ..AuditRecord::default()
            };
            log.record(AuditEvent::Repaired, record)?;
        }
        Ok(log)
    }

    /// Appends a record; when this returns, it is on the disk.
    pub fn record(&self, event: AuditEvent, record: AuditRecord) -> Result<(), KbsServerError> {
        let unusable = |reason: String| KbsServerError::AuditLog {
            path: self.path.clone(),
            reason,
        };
        let record = bounded(record);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.broken {
            return Err(unusable(
                "an earlier record could not be written".to_owned(),
            ));
        }
        let now = OffsetDateTime::now_utc();
        let numbered = Numbered {
            seq: state.head.records,
            time: now.format(&Rfc3339).unwrap_or_default(),
            event,
            record: &record,
            prev: &state.head.hash,
        };
        let text = serde_json::to_string(&numbered).map_err(|error| unusable(error.to_string()))?;
        let hash = hex::encode(Sha256::digest(&text));
        let open = text.strip_suffix('}').unwrap_or(&text);
        let line = format!("{open},\"hash\":\"{hash}\"}}\n");
        let written = state
            .file
            .write_all(line.as_bytes())
            .and_then(|()| state.file.sync_data());
        if let Err(error) = written {
            // A half-written line must not stay before the next one.
            let taken_back = state.file.set_len(state.length);
            state.broken = taken_back.is_err();
            return Err(unusable(error.to_string()));
        }
        state.length += line.len() as u64;
        state.head = AuditHead {
            records: state.head.records + 1,
            hash,
        };
        Ok(())
    }

    /// The end of the chain.
    pub fn head(&self) -> AuditHead {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .head
            .clone()
    }
}

/// Checks a whole log and returns the end of its chain. The last line must be complete.
pub fn verify_audit_log(path: &Path) -> Result<AuditHead, KbsServerError> {
    let file = File::open(path).map_err(|source| KbsServerError::Read {
        path: path.to_owned(),
        source,
    })?;
    let unusable = |reason| KbsServerError::AuditLog {
        path: path.to_owned(),
        reason,
    };
    match check(&file).map_err(unusable)? {
        (head, _, 0) => Ok(head),
        (_, _, torn) => Err(unusable(format!(
            "its last {torn} bytes are an unfinished record"
        ))),
    }
}

/// Follows the chain. Returns its end, the length of the complete lines, and
/// how many bytes of an unfinished line follow.
fn check(mut file: &File) -> Result<(AuditHead, u64, u64), String> {
    file.seek(SeekFrom::Start(0))
        .map_err(|error| error.to_string())?;
    let mut reader = BufReader::new(file);
    let mut head = AuditHead::default();
    let mut length = 0;
    let mut line = Vec::new();
    loop {
        line.clear();
        let limit = MAX_LINE_BYTES as u64 + 1;
        let read = std::io::Read::take(&mut reader, limit)
            .read_until(b'\n', &mut line)
            .map_err(|error| error.to_string())?;
        if read == 0 {
            return Ok((head, length, 0));
        }
        if read > MAX_LINE_BYTES {
            return Err(format!("record {} is too long", head.records));
        }
        let Some(complete) = line.strip_suffix(b"\n") else {
            return Ok((head, length, read as u64));
        };
        head = follow(&head, complete)?;
        length += read as u64;
    }
}

fn follow(head: &AuditHead, line: &[u8]) -> Result<AuditHead, String> {
    let place = head.records;
    let text = std::str::from_utf8(line).map_err(|_| format!("record {place} is not UTF-8"))?;
    let hash = text
        .strip_suffix("\"}")
        .and_then(|rest| rest.get(rest.len().checked_sub(HASH_CHARS)?..))
        .ok_or_else(|| format!("record {place} has no hash"))?;
    let open = text
        .strip_suffix(&format!(",\"hash\":\"{hash}\"}}"))
        .ok_or_else(|| format!("record {place} has no hash"))?;
    let hashed = format!("{open}}}");
    if hex::encode(Sha256::digest(&hashed)) != hash {
        return Err(format!("record {place} was changed"));
    }
    let chained: Link = serde_json::from_str(&hashed)
        .map_err(|error| format!("record {place} is malformed: {error}"))?;
    if chained.seq != place || chained.prev != head.hash {
        return Err(format!("record {place} does not follow the one before"));
    }
    Ok(AuditHead {
        records: place + 1,
        hash: hash.to_owned(),
    })
}

/// Cuts texts that came from outside.
fn bounded(record: AuditRecord) -> AuditRecord {
    let cut = |text: Option<String>| {
        text.map(|text| {
            redoubt_errors::flatten(&text)
                .chars()
                .take(MAX_TEXT_CHARS)
                .collect()
        })
    };
    AuditRecord {
        peer: cut(record.peer),
        tee: cut(record.tee),
        nonce: cut(record.nonce),
        launch_digest: cut(record.launch_digest),
        host_data: cut(record.host_data),
        reference: cut(record.reference),
        resource: cut(record.resource),
        code: record.code,
        reason: cut(record.reason),
    }
}

#[cfg(test)]
mod tests {
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
            log.record(AuditEvent::ResourceReleased, record(&format!("n{number}")))
                .unwrap();
        }
        (dir, path)
    }

    #[test]
    fn chain_continues_over_restarts_and_verifies() {
        let (_dir, path) = log_of(3);
        let log = AuditLog::open(&path).unwrap();
        log.record(AuditEvent::Stopped, AuditRecord::default())
            .unwrap();
        let head = verify_audit_log(&path).unwrap();
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
            let error = verify_audit_log(&path).unwrap_err();
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
            assert!(verify_audit_log(&path).is_err());
            drop(AuditLog::open(&path).unwrap());
            assert_eq!(verify_audit_log(&path).unwrap().records, 3);
            assert!(
                std::fs::read_to_string(&path)
                    .unwrap()
                    .contains("\"event\":\"repaired\"")
            );
        }
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
        log.record(AuditEvent::EvidenceRefused, record(&text))
            .unwrap();
        let written = std::fs::read_to_string(&path).unwrap();
        assert_eq!(written.lines().count(), 1);
        assert!(written.len() < 8192);
        assert_eq!(verify_audit_log(&path).unwrap().records, 1);
    }
}
