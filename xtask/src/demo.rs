//! Runs an encrypted image in a measured, attested VM on this machine.

use std::fs;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use nix::sys::signal::{SigSet, Signal};
use redoubt_lab::{
    Lab, Leftovers, PodOutcome, PodRequest, RunningPod, Scenario, ScenarioOptions, TrailLine,
};

use crate::paths::Paths;
use crate::printer::Printer;
use crate::{build, guest, setup};

const KEY_ID: &str = "kbs:///default/key/sample";
const KEY_PATH: &str = "default/key/sample";
/// A pod on an emulated processor starts within seconds; this bounds a hang.
const POD_LIMIT: Duration = Duration::from_secs(180);

/// Options of the demo.
#[derive(Debug, Args)]
pub(crate) struct DemoOptions {
    /// Leave servers, files and the log of everything up until Ctrl-C.
    #[arg(long)]
    keep: bool,
    /// Show the log of each component.
    #[arg(long)]
    verbose: bool,
    /// Arguments for the workload; the first is its exit status.
    #[arg(last = true)]
    arguments: Vec<String>,
}

/// Runs the demo and gives the workload's exit status.
pub(crate) fn run(printer: &Printer, options: &DemoOptions) -> Result<u8> {
    let interrupted = watch_for_interrupt()?;
    let paths = Paths::find()?;
    let prepared = setup::run(printer)?;
    guest::run(printer)?;
    let before = Leftovers::now();
    let outcome = run_lab(printer, &paths, &prepared, options, &interrupted)?;
    let left = Leftovers::settled_since(&before, Duration::from_secs(5));
    if left.is_empty() {
        printer.step("everything is gone: processes, mounts, taps, namespaces, cgroups, files");
    } else {
        bail!("left behind: {}", left.join(", "));
    }
    u8::try_from(outcome.status).context("the workload ended without an exit status")
}

fn run_lab(
    printer: &Printer,
    paths: &Paths,
    prepared: &setup::Prepared,
    options: &DemoOptions,
    interrupted: &Arc<AtomicBool>,
) -> Result<PodOutcome> {
    printer.step("starting a private containerd, a registry and the key broker");
    let mut lab = Lab::start(
        build::lab_binaries(paths, prepared)?,
        build::guest_files(paths, prepared),
        &build::sample_parts(paths),
    )?;
    if options.keep {
        lab.keep_files();
    }
    printer.step("encrypting and pushing a three-layer image; its key goes to the broker");
    let key = lab.broker.put_resource(KEY_PATH, &random_key()?)?;
    let image = lab.push_encrypted("sample", KEY_ID, &key)?;
    printer.note(&image);
    printer.step("computing the launch digest and registering it with the broker");
    let scenario = Scenario::prepare(&lab, "demo", &ScenarioOptions::working(&image))?;
    printer.note(&format!(
        "launch digest {}",
        scenario.launch_digest.as_deref().unwrap_or("?")
    ));
    printer.note("the processor's signature is simulated: this machine's TEE, if any, is not used");
    printer.step("ctr run --runtime io.containerd.kata.v2");
    let request = PodRequest {
        command: workload_command(&options.arguments),
        show_output: true,
        ..PodRequest::default()
    };
    let pod = RunningPod::start(&lab, &scenario, &request)?;
    let outcome = pod.finish_unless(POD_LIMIT, interrupted);
    let trail = outcome
        .as_ref()
        .map(|outcome| outcome.trail.clone())
        .unwrap_or_default();
    print_trail(printer, &trail);
    if options.verbose || outcome.is_err() {
        print_logs(printer, &lab);
    }
    let outcome = outcome?;
    printer.step(&format!(
        "the workload ended with status {}",
        outcome.status
    ));
    if options.keep {
        wait_to_leave(printer, &lab, &scenario, interrupted);
    }
    Ok(outcome)
}

/// The image's own program with the user's arguments, or nothing to run it as it is.
fn workload_command(arguments: &[String]) -> Vec<String> {
    if arguments.is_empty() {
        return Vec::new();
    }
    std::iter::once("/srv/workload".to_owned())
        .chain(arguments.iter().cloned())
        .collect()
}

fn random_key() -> Result<[u8; 32]> {
    let mut key = [0_u8; 32];
    fs::File::open("/dev/urandom")?.read_exact(&mut key)?;
    Ok(key)
}

/// The trail as a table: time since the start, time for the step, what happened.
pub(crate) fn print_trail(printer: &Printer, trail: &[TrailLine]) {
    printer.line("");
    printer.line("  time      step  what happened");
    let mut last = 0;
    for line in trail {
        let step = line.t_ms.saturating_sub(last);
        last = line.t_ms;
        printer.line(&format!(
            "{:>6} ms {:>6} ms  {}{}",
            line.t_ms,
            step,
            sentence(&line.stage),
            if line.detail.is_empty() {
                String::new()
            } else {
                format!(": {}", line.detail)
            }
        ));
    }
    printer.line("");
}

fn sentence(stage: &str) -> &str {
    match stage {
        "launch-planned" => "launch planned",
        "qemu-started" => "QEMU started",
        "kernel-verified" => "firmware verified kernel, initrd and command line",
        "agent-up" => "agent up",
        "initdata-verified" => "initdata checked against HOST_DATA",
        "evidence-accepted" => "evidence accepted",
        "key-released" => "key released",
        "layers-verified" => "layers verified and decrypted",
        "container-started" => "container started",
        "exited" => "exited",
        other => other,
    }
}

fn print_logs(printer: &Printer, lab: &Lab) {
    for (name, text) in [
        ("containerd and shim", lab.containerd.last_lines(80)),
        ("key broker", lab.broker.last_lines(30)),
        ("key broker's audit log", lab.broker.audit_log()),
    ] {
        printer.line(&format!("--- {name} ---"));
        printer.line(&text);
    }
}

fn wait_to_leave(printer: &Printer, lab: &Lab, scenario: &Scenario, interrupted: &AtomicBool) {
    printer.step("kept up; Ctrl-C ends it");
    printer.note(&format!("files          {}", lab.dir().display()));
    printer.note(&format!(
        "configuration  {}",
        scenario.configuration.display()
    ));
    printer.note(&format!(
        "containerd     ctr --address {}/containerd/containerd.sock",
        lab.dir().display()
    ));
    while !interrupted.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Turns Ctrl-C into a flag, so that everything is removed before the program ends.
fn watch_for_interrupt() -> Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    signals.thread_block().context("cannot block signals")?;
    let raised = Arc::clone(&flag);
    std::thread::spawn(move || {
        while signals.wait().is_ok() {
            raised.store(true, Ordering::Relaxed);
        }
    });
    Ok(flag)
}
