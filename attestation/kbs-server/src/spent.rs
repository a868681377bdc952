//! Challenges that were answered, so that none is answered twice.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256};

use crate::KbsServerError;

/// How many seconds of expiry share a directory.
const BUCKET_S: u64 = 60;

/// Most challenges that one process marks between two sweeps.
const MAX_MARKS: u64 = 1_000_000;

/// What marking a challenge came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spend {
    /// Nobody had answered it.
    First,
    /// Somebody had.
    Again,
    /// Too many were marked lately.
    Full,
}

/// One empty file for each answered challenge, until the challenge has ended.
///
/// Creating a file that must not exist is atomic for every process that sees
/// the directory, on one machine or through a network file system. Replicas
/// that share the directory therefore accept each challenge once between them;
/// a broker with a directory of its own accepts each challenge once.
#[derive(Debug)]
pub(crate) struct SpentChallenges {
    dir: PathBuf,
    marks: AtomicU64,
}

impl SpentChallenges {
    pub(crate) fn open(dir: PathBuf) -> Result<Self, KbsServerError> {
        make_dir(&dir).map_err(|source| KbsServerError::Write {
            path: dir.clone(),
            source,
        })?;
        Ok(Self {
            dir,
            marks: AtomicU64::new(0),
        })
    }

    /// Marks a challenge that ends at `expires_s`.
    pub(crate) fn spend(&self, nonce: &str, expires_s: u64) -> io::Result<Spend> {
        if self.marks.fetch_add(1, Ordering::Relaxed) >= MAX_MARKS {
            return Ok(Spend::Full);
        }
        let bucket = self.dir.join((expires_s / BUCKET_S).to_string());
        let file = bucket.join(hex::encode(Sha256::digest(nonce)));
        match mark(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                make_dir(&bucket)?;
                mark(&file)
            }
            outcome => outcome,
        }
    }

    /// Removes the marks of challenges that have ended.
    pub(crate) fn sweep(&self, now_s: u64) -> io::Result<()> {
        self.marks.store(0, Ordering::Relaxed);
        for entry in std::fs::read_dir(&self.dir)? {
            let path = entry?.path();
            let bucket = path.file_name().and_then(|name| name.to_str());
            let Some(bucket) = bucket.and_then(|name| name.parse::<u64>().ok()) else {
                continue;
            };
            // One more bucket, so that replicas' clocks may differ a little.
            if bucket.saturating_add(2).saturating_mul(BUCKET_S) <= now_s {
                ignore_missing(std::fs::remove_dir_all(&path))?;
            }
        }
        Ok(())
    }
}

fn mark(file: &Path) -> io::Result<Spend> {
    let created = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file);
    match created {
        Ok(_) => Ok(Spend::First),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Spend::Again),
        Err(error) => Err(error),
    }
}

fn make_dir(path: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
}

/// Another replica may have swept first.
fn ignore_missing(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenge_is_spent_once_over_replicas_and_restarts() {
        let dir = tempfile::tempdir().unwrap();
        let one = SpentChallenges::open(dir.path().join("spent")).unwrap();
        let two = SpentChallenges::open(dir.path().join("spent")).unwrap();
        assert_eq!(one.spend("nonce", 1000).unwrap(), Spend::First);
        assert_eq!(one.spend("nonce", 1000).unwrap(), Spend::Again);
        assert_eq!(two.spend("nonce", 1000).unwrap(), Spend::Again);
        assert_eq!(two.spend("other", 1000).unwrap(), Spend::First);
    }

    #[test]
    fn marks_are_removed_after_their_challenges_ended() {
        let dir = tempfile::tempdir().unwrap();
        let spent = SpentChallenges::open(dir.path().to_owned()).unwrap();
        spent.spend("a", 600).unwrap();
        spent.spend("b", 1200).unwrap();
        std::fs::write(dir.path().join("README"), "not a bucket").unwrap();
        spent.sweep(650).unwrap();
        assert_eq!(spent.spend("a", 600).unwrap(), Spend::Again);
        spent.sweep(720).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
        assert_eq!(spent.spend("b", 1200).unwrap(), Spend::Again);
    }

    #[test]
    fn marks_between_two_sweeps_are_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let spent = SpentChallenges::open(dir.path().to_owned()).unwrap();
        spent.marks.store(MAX_MARKS, Ordering::Relaxed);
        assert_eq!(spent.spend("a", 600).unwrap(), Spend::Full);
        spent.sweep(0).unwrap();
        assert_eq!(spent.spend("a", 600).unwrap(), Spend::First);
    }
}
