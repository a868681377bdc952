use std::fs::File;
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom};
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::KbsServerError;

/// Longest line, in bytes. What a line says is cut well below.
pub(super) const MAX_LINE_BYTES: usize = 64 * 1024;

const HASH_CHARS: usize = 64;

#[derive(Deserialize)]
struct Link {
    seq: u64,
    prev: String,
}

/// The end of a chain: how many records, and the hash of the last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

impl std::str::FromStr for AuditHead {
    type Err = &'static str;

    /// Reads `<records>:<hash>`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "it is not <records>:<64 hexadecimal digits>";
        let (records, hash) = text.split_once(':').ok_or(wrong)?;
        let plain = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        if hash.len() != HASH_CHARS || !hash.bytes().all(plain) {
            return Err(wrong);
        }
        Ok(Self {
            records: records.parse().map_err(|_| wrong)?,
            hash: hash.to_owned(),
        })
    }
}

impl std::fmt::Display for AuditHead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.records, self.hash)
    }
}

/// Checks a whole log and returns the end of its chain. The last line must be
/// complete. A head that was noted earlier must be on the chain: a log whose
/// end was cut off since then is found out by it alone.
pub fn verify_audit_log(
    path: &Path,
    earlier: Option<&AuditHead>,
) -> Result<AuditHead, KbsServerError> {
    let file = File::open(path).map_err(|source| KbsServerError::Read {
        path: path.to_owned(),
        source,
    })?;
    let unusable = |reason| KbsServerError::AuditLog {
        path: path.to_owned(),
        reason,
    };
    match check(&file, earlier).map_err(unusable)? {
        (head, _, 0) => Ok(head),
        (_, _, torn) => Err(unusable(format!(
            "its last {torn} bytes are an unfinished record"
        ))),
    }
}

/// Follows the chain. Returns its end, the length of the complete lines, and
/// how many bytes of an unfinished line follow.
pub(super) fn check(
    mut file: &File,
    expected: Option<&AuditHead>,
) -> Result<(AuditHead, u64, u64), String> {
    file.seek(SeekFrom::Start(0))
        .map_err(|error| error.to_string())?;
    let mut reader = BufReader::new(file);
    let mut head = AuditHead::default();
    let mut met = expected.is_none_or(|expected| *expected == head);
    let mut length = 0;
    let mut line = Vec::new();
    loop {
        line.clear();
        let limit = MAX_LINE_BYTES as u64 + 1;
        let read = std::io::Read::take(&mut reader, limit)
            .read_until(b'\n', &mut line)
            .map_err(|error| error.to_string())?;
        if read == 0 {
            return if met {
                Ok((head, length, 0))
            } else {
                Err(not_met(expected))
            };
        }
        if read > MAX_LINE_BYTES {
            return Err(format!("record {} is too long", head.records));
        }
        let Some(complete) = line.strip_suffix(b"\n") else {
            return Ok((head, length, read as u64));
        };
        head = follow_audit_line(&head, complete)?;
        met |= expected.is_some_and(|expected| *expected == head);
        length += read as u64;
    }
}

fn not_met(expected: Option<&AuditHead>) -> String {
    let records = expected.map_or(0, |head| head.records);
    format!("its first {records} records are not those that were noted earlier, or are missing")
}

/// Checks one line (without its line end) against the end of the chain before
/// it; returns the new end.
pub fn follow_audit_line(head: &AuditHead, line: &[u8]) -> Result<AuditHead, String> {
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
