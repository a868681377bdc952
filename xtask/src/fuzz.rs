//! Feeds every parser with hostile input (libFuzzer, `AddressSanitizer`).

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::paths::{Paths, TARGET, text};
use crate::printer::Printer;
use crate::setup;

const CARGO_FUZZ: (&str, &str) = ("cargo-fuzz", "0.13.2");

/// The package of the targets, below the checkout.
const PACKAGE: &str = "tests/fuzz";

/// The longest input; every format here shows its structure in fewer bytes.
const MAX_INPUT_BYTES: u32 = 16 << 10;
const MAX_MEMORY_MIB: u32 = 2048;
/// An input that takes longer is a finding. Policies may think for ten seconds.
const MAX_INPUT_SECONDS: u32 = 12;

/// Test data that makes good first inputs, beside `tests/fuzz/seeds`.
const SEEDS: [(&str, &str); 13] = [
    ("agent_policy", "agent/policy/policies"),
    ("archive_entries", "tests/fuzz/seeds/archive_unpack"),
    ("evidence_json", "attestation/evidence/testdata"),
    ("evidence_verdict", "attestation/verifier/testdata"),
    ("firmware_image", "firmware/testdata"),
    ("initdata_disk", "measured-boot/initdata/testdata"),
    ("initdata_document", "measured-boot/initdata/testdata"),
    ("layer_keys", "image-offload/ocicrypt/testdata/keys"),
    ("layer_keys", "attestation/verifier/testdata"),
    ("snp_report", "attestation/evidence/testdata"),
    ("tdx_firmware", "firmware/testdata"),
    ("trust_anchors", "attestation/verifier/testdata"),
    ("trust_anchors", "attestation/verifier/roots"),
];

/// Options of the fuzzing.
#[derive(Debug, Args)]
pub(crate) struct FuzzOptions {
    /// The targets to run; without any, all.
    targets: Vec<String>,
    /// How long each target runs.
    #[arg(long, default_value_t = 60, value_name = "N")]
    seconds: u32,
}

/// What one target's run came to.
struct Outcome {
    target: String,
    executions: String,
    coverage: String,
    /// The inputs that broke something.
    findings: Vec<PathBuf>,
    log: PathBuf,
}

/// Builds and runs the targets one after the other; fails when one found something.
pub(crate) fn run(printer: &Printer, options: &FuzzOptions) -> Result<()> {
    let paths = Paths::find()?;
    let targets = chosen(&paths, &options.targets)?;
    build(printer, &paths, &options.targets)?;
    let mut outcomes = Vec::new();
    for target in &targets {
        printer.step(&format!("{target}: {} s", options.seconds));
        outcomes.push(run_target(&paths, target, options.seconds)?);
    }
    print(printer, &outcomes);
    let found: Vec<&Outcome> = outcomes
        .iter()
        .filter(|outcome| !outcome.findings.is_empty())
        .collect();
    for outcome in &found {
        for finding in &outcome.findings {
            printer.note(&format!(
                "{}: {} (repeat with {} FILE; log {})",
                outcome.target,
                finding.display(),
                binary(&paths, &outcome.target).display(),
                outcome.log.display(),
            ));
        }
    }
    ensure!(found.is_empty(), "{} targets found something", found.len());
    Ok(())
}

/// The names that were given, checked, or all of them.
fn chosen(paths: &Paths, given: &[String]) -> Result<Vec<String>> {
    let dir = paths.root.join(PACKAGE).join("targets");
    let mut known = BTreeSet::new();
    for entry in fs::read_dir(&dir).with_context(|| format!("cannot read {}", dir.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            known.extend(
                path.file_stem()
                    .map(|stem| stem.to_string_lossy().into_owned()),
            );
        }
    }
    if let Some(unknown) = given.iter().find(|name| !known.contains(*name)) {
        let known: Vec<String> = known.into_iter().collect();
        bail!("there is no target {unknown}, only {}", known.join(", "));
    }
    Ok(if given.is_empty() {
        known.into_iter().collect()
    } else {
        given.to_vec()
    })
}

/// Builds the targets, by default all.
///
/// The sanitizer is an unstable option of the compiler, which the stable one takes
/// from `RUSTC_BOOTSTRAP`. The flags that cargo-fuzz sets replace those of the
/// workspace, where static linking would leave no room for a sanitizer.
fn build(printer: &Printer, paths: &Paths, targets: &[String]) -> Result<()> {
    let tool = setup::tool(printer, paths, CARGO_FUZZ)?;
    let one_by_one: Vec<Option<&String>> = if targets.is_empty() {
        vec![None]
    } else {
        targets.iter().map(Some).collect()
    };
    printer.step("building the fuzz targets");
    for target in one_by_one {
        let mut command = Command::new(&tool);
        command
            .current_dir(paths.root.join(PACKAGE))
            .env("RUSTC_BOOTSTRAP", "1")
            .env_remove("RUSTFLAGS")
            .args(["build", "--fuzz-dir", ".", "--target", TARGET])
            .args(["--target-dir", text(&paths.fuzz())?])
            .args(target);
        let status = command.status().context("cannot start cargo-fuzz")?;
        ensure!(status.success(), "the fuzz targets do not build");
    }
    Ok(())
}

fn binary(paths: &Paths, target: &str) -> PathBuf {
    paths.fuzz().join(TARGET).join("release").join(target)
}

fn run_target(paths: &Paths, target: &str, seconds: u32) -> Result<Outcome> {
    let folder = |kind: &str| -> Result<PathBuf> {
        let folder = paths.fuzz().join(kind).join(target);
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        Ok(folder)
    };
    let (corpus, findings) = (folder("corpus")?, folder("findings")?);
    let scratch = scratch(paths)?;
    let log = paths.fuzz().join("corpus").join(format!("{target}.log"));
    let before = files(&findings)?;
    let status = Command::new(binary(paths, target))
        .current_dir(&scratch)
        .env("ASAN_OPTIONS", "detect_odr_violation=0")
        .env("TMPDIR", &scratch)
        .arg(&corpus)
        .args(seeds(paths, target))
        .arg(format!("-artifact_prefix={}/", text(&findings)?))
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-max_len={MAX_INPUT_BYTES}"))
        .arg(format!("-rss_limit_mb={MAX_MEMORY_MIB}"))
        .arg(format!("-timeout={MAX_INPUT_SECONDS}"))
        .args(["-print_final_stats=1", "-use_value_profile=1"])
        .stdout(File::create(&log)?)
        .stderr(File::options().append(true).open(&log)?)
        .status()
        .with_context(|| format!("cannot start {target}"))?;
    // What a broken run leaves behind is of no use: its input is kept.
    let _ = fs::remove_dir_all(&scratch);
    let findings: Vec<PathBuf> = files(&findings)?.difference(&before).cloned().collect();
    ensure!(
        status.success() || !findings.is_empty(),
        "{target} ended with {status} and left no input, see {}",
        log.display()
    );
    let said = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
    Ok(Outcome {
        target: target.to_owned(),
        executions: last_after(&said, "stat::number_of_executed_units: "),
        coverage: last_after(&said, "cov: "),
        findings,
        log,
    })
}

/// A new folder for what targets write: in memory where that is possible, because
/// unpacking there is ten times as fast.
fn scratch(paths: &Paths) -> Result<PathBuf> {
    let memory = PathBuf::from("/dev/shm");
    let parent = if memory.is_dir() {
        memory
    } else {
        paths.fuzz()
    };
    let folder = parent.join(format!("redoubt-fuzz-{}", std::process::id()));
    fs::create_dir(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    Ok(folder)
}

fn seeds(paths: &Paths, target: &str) -> Vec<PathBuf> {
    let own = paths.root.join(PACKAGE).join("seeds").join(target);
    let others = SEEDS
        .iter()
        .filter(|(name, _)| *name == target)
        .map(|(_, folder)| paths.root.join(folder));
    std::iter::once(own)
        .chain(others)
        .filter(|folder| folder.is_dir())
        .collect()
}

fn files(folder: &Path) -> Result<BTreeSet<PathBuf>> {
    fs::read_dir(folder)?
        .map(|entry| Ok(entry?.path()))
        .collect()
}

/// The word behind the last `mark`.
fn last_after(text: &str, mark: &str) -> String {
    text.rsplit_once(mark)
        .and_then(|(_, rest)| rest.split_whitespace().next())
        .unwrap_or("?")
        .to_owned()
}

fn print(printer: &Printer, outcomes: &[Outcome]) {
    printer.line("| Target | Executions | Coverage | Findings |");
    printer.line("|---|---:|---:|---:|");
    for outcome in outcomes {
        printer.line(&format!(
            "| {} | {} | {} | {} |",
            outcome.target,
            outcome.executions,
            outcome.coverage,
            outcome.findings.len()
        ));
    }
}
