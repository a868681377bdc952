//! The trail: which stage of a sandbox's life was reached when.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use redoubt_agent_api::stage::Stage;
use serde::Serialize;

use crate::error::SandboxError;

/// Longest detail of a line, in characters.
const MAX_DETAIL: usize = 512;

/// Most lines that one sandbox writes: a guest must not fill the host's disk.
const MAX_LINES: u32 = 512;

/// Writes one JSON line per reached stage to the configured file.
///
/// Clones write to the same file.
#[derive(Clone, Debug)]
pub struct Trail {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    sandbox: String,
    started: Instant,
    lines: AtomicU32,
    file: Option<Mutex<File>>,
}

#[derive(Serialize)]
struct Line<'a> {
    sandbox: &'a str,
    t_ms: u128,
    stage: &'a str,
    detail: &'a str,
}

impl Trail {
    /// Opens the trail of a sandbox; without a path only the log hears of it.
    ///
    /// `started` is the moment that the times of the trail count from.
    pub fn open(
        sandbox: &str,
        path: Option<&Path>,
        started: Instant,
    ) -> Result<Self, SandboxError> {
        let file = path.map(open_append).transpose()?;
        let file = file.map(Mutex::new);
        let shared = Shared {
            sandbox: sandbox.to_owned(),
            started,
            lines: AtomicU32::new(0),
            file,
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// Passes a line of the guest's console on to the log, if that is at debug level.
    pub(crate) fn console(&self, line: &str) {
        tracing::debug!(sandbox = %self.shared.sandbox, line, "guest console");
    }

    /// Notes that a stage was reached. A full disk is logged; it stops no sandbox.
    pub fn record(&self, stage: Stage, detail: &str) {
        let shared = &self.shared;
        let detail: String = redoubt_errors::flatten(detail)
            .chars()
            .take(MAX_DETAIL)
            .collect();
        if shared.lines.fetch_add(1, Ordering::Relaxed) >= MAX_LINES {
            return;
        }
        let stage = stage.to_string();
        let t_ms = shared.started.elapsed().as_millis();
        tracing::info!(sandbox = %shared.sandbox, t_ms, stage, detail, "stage reached");
        let Some(file) = &shared.file else { return };
        let line = Line {
            sandbox: &shared.sandbox,
            t_ms,
            stage: &stage,
            detail: &detail,
        };
        let Ok(mut text) = serde_json::to_string(&line) else {
            return;
        };
        text.push('\n');
        // One write of one line to a file opened for appending: lines of several shims mix whole.
        let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = file.write_all(text.as_bytes()) {
            tracing::warn!(%error, "cannot write the trail");
        }
    }
}

fn open_append(path: &Path) -> Result<File, SandboxError> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
        .map_err(|source| SandboxError::State {
            action: "open the trail",
            path: path.to_owned(),
            source,
        })
}
