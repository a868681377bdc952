//! Wall time and peak memory of programs.

use std::fmt;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

/// How often a program's peak is read while it runs; the kernel keeps the peak, so that only
/// what is allocated in the last moments can be missed.
const SAMPLING: Duration = Duration::from_millis(4);

/// One run of one side.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    elapsed: Duration,
    peak_kib: u64,
}

impl Sample {
    /// Two programs one after the other.
    pub(super) fn then(self, next: Self) -> Self {
        Self {
            elapsed: self.elapsed + next.elapsed,
            peak_kib: self.peak_kib.max(next.peak_kib),
        }
    }
}

/// Runs a program to its end; its output is shown only when it fails.
pub(super) fn measured(command: &mut Command) -> Result<Sample> {
    let name = command.get_program().to_string_lossy().into_owned();
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let started = Instant::now();
    let child = command
        .spawn()
        .with_context(|| format!("{name} does not start"))?;
    let (output, elapsed, peak_kib) = watched(child, started)?;
    ensure!(
        output.status.success(),
        "{name} ended with {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(Sample { elapsed, peak_kib })
}

fn watched(child: Child, started: Instant) -> Result<(std::process::Output, Duration, u64)> {
    let status = format!("/proc/{}/status", child.id());
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut peak = 0;
            while !is_done.load(Ordering::Relaxed) {
                peak = peak.max(peak_of(&status).unwrap_or_default());
                std::thread::sleep(SAMPLING);
            }
            peak
        });
        let output = child.wait_with_output();
        let elapsed = started.elapsed();
        is_done.store(true, Ordering::Relaxed);
        let peak = watcher.join().unwrap_or_default();
        Ok((output?, elapsed, peak))
    })
}

/// `VmHWM` of a process, in KiB.
fn peak_of(status: &str) -> Option<u64> {
    let text = fs::read_to_string(status).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// KiB as MiB, for people.
pub(super) fn mib(kib: u64) -> f64 {
    f64::from(u32::try_from(kib).unwrap_or(u32::MAX)) / 1024.0
}

/// All runs of one side.
#[derive(Default)]
pub(super) struct Series(Vec<Sample>);

impl Series {
    pub(super) fn add(&mut self, sample: Sample) {
        self.0.push(sample);
    }

    /// The median time.
    pub(super) fn seconds(&self) -> f64 {
        let mut times: Vec<Duration> = self.0.iter().map(|sample| sample.elapsed).collect();
        super::super::median(&mut times).as_secs_f64()
    }

    /// The greatest peak.
    pub(super) fn peak_kib(&self) -> u64 {
        self.0
            .iter()
            .map(|sample| sample.peak_kib)
            .max()
            .unwrap_or(0)
    }
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let best = self.0.iter().map(|sample| sample.elapsed).min();
        write!(
            f,
            "{:>6.2} s (median of {}, best {:.2} s), peak {:>6.1} MiB",
            self.seconds(),
            self.0.len(),
            best.unwrap_or_default().as_secs_f64(),
            mib(self.peak_kib())
        )
    }
}
