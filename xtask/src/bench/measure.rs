//! `redoubt measure snp` over only hashing the same files, and over `sev-snp-measure`.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use redoubt_lab::GuestFiles;
use sha2::{Digest, Sha256, Sha384};

use super::median;
use crate::paths::{Paths, text};
use crate::peer::{self, SevSnpMeasure};
use crate::printer::Printer;
use crate::{build, guest, setup};

const CMDLINE: &str = "console=ttyS0 quiet panic=1 reboot=k";
const VCPUS: &str = "4";
const CPU_MODEL: &str = "EPYC-v4";

/// The times of one side.
#[derive(Default)]
struct Side(Vec<Duration>);

impl Side {
    fn add<T>(&mut self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let start = Instant::now();
        let result = work()?;
        self.0.push(start.elapsed());
        Ok(result)
    }

    /// Median and best, in milliseconds.
    fn milliseconds(&mut self) -> (f64, f64) {
        let median = median(&mut self.0);
        let best = self.0.first().copied().unwrap_or_default();
        (median.as_secs_f64() * 1e3, best.as_secs_f64() * 1e3)
    }
}

/// Measures all sides `rounds` times, one after the other in each round.
pub(super) fn run(printer: &Printer, rounds: usize) -> Result<()> {
    let paths = Paths::find()?;
    let prepared = setup::run(printer)?;
    build::host_programs(&paths)?;
    let peer = SevSnpMeasure::install(printer, &paths)?;
    let files = build::guest_files(&paths, &prepared);
    // Any guest serves.
    if !files.kernel.exists() || !files.initrd.exists() {
        guest::run(printer)?;
    }
    let redoubt = paths.binary("redoubt");
    let (mut one_by_one, mut beside, mut ours, mut theirs) = <(Side, Side, Side, Side)>::default();
    printer.step(&format!("{rounds} rounds"));
    for _ in 0..rounds {
        one_by_one.add(|| hash_one_by_one(&files))?;
        beside.add(|| hash_beside(&files))?;
        let digest = ours.add(|| printed(&mut ours_on(&redoubt, &files)?))?;
        let same = theirs.add(|| printed(&mut theirs_on(&peer.program(), &files)?))?;
        ensure!(digest == same, "the digests differ: {digest} and {same}");
    }
    let measured = ours.milliseconds();
    for (name, side) in [
        ("only hashing, one file after the other", &mut one_by_one),
        ("only hashing, the firmware beside the others", &mut beside),
        (
            &format!("sev-snp-measure {} (Python)", peer::VERSION),
            &mut theirs,
        ),
    ] {
        let times = side.milliseconds();
        print(printer, name, times);
        printer.line(&format!(
            "{:<48}{:>8.2}  (of the best {:.2})",
            "  redoubt measure snp over it",
            measured.0 / times.0,
            measured.1 / times.1
        ));
    }
    print(printer, "redoubt measure snp", measured);
    Ok(())
}

fn print(printer: &Printer, name: &str, (median, best): (f64, f64)) {
    printer.line(&format!("{name:<48}{median:>8.2} ms (best {best:.2} ms)"));
}

/// SHA-384 of the firmware, SHA-256 of kernel and initrd: the least that a measurement does.
fn hash_one_by_one(files: &GuestFiles) -> Result<()> {
    hash_firmware(&files.firmware)?;
    hash_boot_files(files)
}

/// The same on two processors, as the measurement does it.
fn hash_beside(files: &GuestFiles) -> Result<()> {
    thread::scope(|scope| {
        let boot_files = scope.spawn(|| hash_boot_files(files));
        hash_firmware(&files.firmware)?;
        boot_files.join().ok().context("a hashing thread ended")?
    })
}

fn hash_firmware(path: &Path) -> Result<()> {
    std::hint::black_box(Sha384::digest(fs::read(path)?));
    Ok(())
}

fn hash_boot_files(files: &GuestFiles) -> Result<()> {
    for path in [&files.kernel, &files.initrd] {
        std::hint::black_box(Sha256::digest(fs::read(path)?));
    }
    Ok(())
}

fn ours_on(redoubt: &Path, files: &GuestFiles) -> Result<Command> {
    let mut command = Command::new(redoubt);
    command.args(["measure", "snp", "--bare"]);
    command.args(["--firmware", text(&files.firmware)?]);
    command.args(["--vcpus", VCPUS, "--cpu-model", CPU_MODEL]);
    boot(&mut command, files)?;
    Ok(command)
}

fn theirs_on(program: &Path, files: &GuestFiles) -> Result<Command> {
    let mut command = Command::new(program);
    command.args(["--mode", "snp", "--ovmf", text(&files.firmware)?]);
    command.args(["--vcpus", VCPUS, "--vcpu-type", CPU_MODEL]);
    boot(&mut command, files)?;
    Ok(command)
}

fn boot(command: &mut Command, files: &GuestFiles) -> Result<()> {
    command.args(["--kernel", text(&files.kernel)?]);
    command.args(["--initrd", text(&files.initrd)?]);
    command.args(["--append", CMDLINE]);
    Ok(())
}

fn printed(command: &mut Command) -> Result<String> {
    let output = command.output()?;
    ensure!(
        output.status.success(),
        "a program failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
