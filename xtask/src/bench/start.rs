//! From `ctr run` to the workload's first byte, over a bare boot of the same guest.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use redoubt_firmware::Firmware;
use redoubt_lab::{GuestFiles, Lab, PodRequest, RunningPod, Scenario, ScenarioOptions};
use redoubt_launch_digest::KernelHashes;

use super::median;
use crate::paths::Paths;
use crate::printer::Printer;
use crate::{build, demo, guest, setup};

const BARE_CMDLINE: &str = "console=ttyS0 quiet panic=1 reboot=k";
const BARE_LIMIT: Duration = Duration::from_secs(60);

/// Measures both sides `rounds` times.
pub(super) fn run(printer: &Printer, rounds: usize) -> Result<()> {
    let paths = Paths::find()?;
    let prepared = setup::run(printer)?;
    guest::run(printer)?;
    let binaries = build::lab_binaries(&paths, &prepared)?;
    let files = build::guest_files(&paths, &prepared);
    let lab = Lab::start(
        binaries.clone(),
        files.clone(),
        &build::sample_parts(&paths),
    )?;
    let key = lab.broker.put_resource("default/key/sample", &[7; 32])?;
    let image = lab.push_encrypted("sample", "kbs:///default/key/sample", &key)?;
    let scenario = Scenario::prepare(&lab, "bench", &ScenarioOptions::working(&image))?;
    let table = hash_table(&lab, &files)?;
    let (mut bare, mut pods) = (Vec::new(), Vec::new());
    let mut last_trail = Vec::new();
    for round in 1..=rounds {
        bare.push(bare_boot(&binaries.qemu, &files, &table)?);
        let pod = RunningPod::start(&lab, &scenario, &PodRequest::default())?;
        let outcome = pod.finish(Duration::from_secs(180))?;
        ensure!(outcome.status == 0, "the pod failed: {}", outcome.stderr);
        pods.push(outcome.first_byte.context("the workload printed nothing")?);
        last_trail = outcome.trail;
        fs::remove_file(scenario.trail())?;
        printer.step(&format!("round {round} of {rounds}"));
    }
    demo::print_trail(printer, &last_trail);
    let (bare, pod) = (median(&mut bare), median(&mut pods));
    printer.line(&format!(
        "bare QEMU boot to the agent     {:>6.2} s (median of {rounds})",
        bare.as_secs_f64()
    ));
    printer.line(&format!(
        "ctr run to the first byte       {:>6.2} s (median of {rounds})",
        pod.as_secs_f64()
    ));
    printer.line(&format!(
        "ratio                           {:>6.2}",
        pod.as_secs_f64() / bare.as_secs_f64()
    ));
    Ok(())
}

/// The kernel-hash table for [`BARE_CMDLINE`], in a file, and its address.
fn hash_table(lab: &Lab, files: &GuestFiles) -> Result<String> {
    let firmware = Firmware::parse(&fs::read(&files.firmware)?)?;
    let area = firmware.require_kernel_hashes(&files.firmware)?;
    let hashes = KernelHashes::of(
        &fs::read(&files.kernel)?,
        &fs::read(&files.initrd)?,
        BARE_CMDLINE,
    );
    let path = lab.dir().join("bare-hashes.bin");
    fs::write(&path, hashes.table())?;
    Ok(format!(
        "loader,file={},addr={:#x},force-raw=on",
        path.display(),
        area.gpa
    ))
}

/// Boots the guest without shim, network or initdata until its agent runs.
fn bare_boot(qemu: &Path, files: &GuestFiles, table: &str) -> Result<Duration> {
    let start = Instant::now();
    let mut child = Command::new(qemu)
        .args([
            "-machine",
            "q35,accel=tcg",
            "-cpu",
            "max",
            "-m",
            "512",
            "-smp",
            "1",
        ])
        .args([
            "-no-user-config",
            "-nodefaults",
            "-display",
            "none",
            "--no-reboot",
        ])
        .args([
            "-serial",
            "stdio",
            "-device",
            table,
            "-append",
            BARE_CMDLINE,
        ])
        .arg("-bios")
        .arg(&files.firmware)
        .arg("-kernel")
        .arg(&files.kernel)
        .arg("-initrd")
        .arg(&files.initrd)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start QEMU")?;
    let output = child.stdout.take().context("QEMU has no output")?;
    let mut elapsed = None;
    for line in BufReader::new(output).split(b'\n') {
        if String::from_utf8_lossy(&line?).contains("\"agent-up\"") {
            elapsed = Some(start.elapsed());
            break;
        }
        if start.elapsed() > BARE_LIMIT {
            break;
        }
    }
    child.kill()?;
    child.wait()?;
    match elapsed {
        Some(elapsed) => Ok(elapsed),
        None => bail!("the bare guest's agent did not come up"),
    }
}
