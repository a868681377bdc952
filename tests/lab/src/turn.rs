//! One lab at a time on a machine: what a pod leaves behind is looked for everywhere, so that
//! two at a time would blame each other, and both would share the processors.

use std::fs::File;

use anyhow::{Context, Result};
use nix::fcntl::{Flock, FlockArg};

/// Where labs have their folders; locked while one runs.
const FOLDER: &str = "/var/tmp";

/// The right to run a lab. Dropping it lets the next one start.
#[derive(Debug)]
pub(crate) struct Turn {
    _lock: Flock<File>,
}

impl Turn {
    /// Waits until no other lab runs.
    pub(crate) fn take() -> Result<Self> {
        let folder = File::open(FOLDER)?;
        let lock = Flock::lock(folder, FlockArg::LockExclusive)
            .map_err(|(_, error)| error)
            .with_context(|| format!("cannot lock {FOLDER}"))?;
        Ok(Self { _lock: lock })
    }
}
