//! Formatting, lints, unit tests and end-to-end tests.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::Args;
use redoubt_lab::{GuestFiles, RootDiskFiles};

use crate::paths::Paths;
use crate::printer::Printer;
use crate::{build, docs, guest, peer, root_disk, setup};

/// Options of the tests.
#[derive(Debug, Args)]
pub(crate) struct TestOptions {
    /// Leave out the end-to-end tests, which start virtual machines.
    #[arg(long)]
    fast: bool,
    /// Run only the end-to-end tests.
    #[arg(long, conflicts_with = "fast")]
    e2e: bool,
    /// Run only the comparison of launch digests with sev-snp-measure.
    #[arg(long, conflicts_with_all = ["fast", "e2e"])]
    reference: bool,
    /// Compare the launches of an earlier comparison instead of others.
    #[arg(long, value_name = "N", requires = "reference")]
    seed: Option<u64>,
    /// Passed on to the test runner, for example a test's name.
    #[arg(last = true)]
    filters: Vec<String>,
}

/// The package of the end-to-end tests.
const E2E: &str = "redoubt-e2e";

/// Runs every tier that was asked for; the first failure ends it.
pub(crate) fn run(printer: &Printer, options: &TestOptions) -> Result<()> {
    let paths = Paths::find()?;
    let prepared = setup::run(printer)?;
    if options.reference {
        printer.step("building shim and command line");
        build::host_programs(&paths)?;
        return peer::compare(printer, &paths, &prepared, options.seed);
    }
    let tools = setup::test_tools(printer, &paths)?;
    if !options.e2e {
        checks(printer, &paths, &tools)?;
        printer.step("unit tests");
        let mut nextest = workspace_tests(&tools, &paths);
        nextest.arg("--no-fail-fast");
        let busybox = paths.packages().join("busybox/usr/bin/busybox");
        ensure!(
            busybox.exists(),
            "the package busybox-static holds no busybox"
        );
        nextest.env("REDOUBT_BUSYBOX", busybox);
        succeed(nextest.args(&options.filters), "unit tests")?;
        // The unit tests have built the command whose help the pages show.
        docs::check(printer, &paths)?;
    }
    if !options.fast {
        guest::run(printer)?;
        let root_disk = root_disk::run(printer)?;
        guest::check_reproducible(printer)?;
        guest::check_budgets()?;
        virtual_machines(printer, &paths, &prepared, &tools, &options.filters)?;
        printer.step("end-to-end tests: containerd, QEMU, firmware, kernel, registry and broker");
        let mut nextest = tools.nextest(&paths);
        nextest.args(["run", "--release", "--package", E2E, "--locked"]);
        // One virtual machine on emulated processors keeps both cores busy.
        nextest.args(["--test-threads", "1"]);
        let containerds = setup::containerds(printer, &paths)?;
        let description = lab_description(&paths, &prepared, containerds, root_disk)?;
        nextest.env("REDOUBT_LAB", description);
        succeed(nextest.args(&options.filters), "end-to-end tests")?;
    }
    printer.step("all tests passed");
    printer.note("a tier of its own, not run: `cargo xtask test --reference` (needs PyPI)");
    Ok(())
}

/// The test runner over all tests but the end-to-end ones.
fn workspace_tests(tools: &setup::TestTools, paths: &Paths) -> Command {
    let mut nextest = tools.nextest(paths);
    nextest.args(["run", "--release", "--locked"]);
    nextest.args(["--workspace", "--exclude", E2E]);
    nextest
}

/// The sandbox's tests on real virtual machines, which its unit tests leave out.
fn virtual_machines(
    printer: &Printer,
    paths: &Paths,
    prepared: &setup::Prepared,
    tools: &setup::TestTools,
    filters: &[String],
) -> Result<()> {
    printer.step("sandboxes on real virtual machines");
    // The selection of the unit tests, whose programs are built already.
    let mut nextest = workspace_tests(tools, paths);
    nextest.args(["--run-ignored", "only", "--test-threads", "1"]);
    nextest.args([
        "-E",
        "package(redoubt-sandbox) and binary(vm) and not test(/^by_hand|^play_/)",
    ]);
    nextest.env("REDOUBT_VM_FIRMWARE", &prepared.firmware);
    nextest.env("REDOUBT_VM_KERNEL", &prepared.kernel);
    nextest.env("REDOUBT_VM_MODULES", &prepared.modules);
    nextest.env("REDOUBT_VM_VSOCK_DAEMON", &prepared.vsock_daemon);
    if !filters.is_empty() {
        // A name that was asked for may be one of another tier; without one, no test is a failure.
        nextest.arg("--no-tests=pass").args(filters);
    }
    succeed(&mut nextest, "tests of sandboxes")
}

fn checks(printer: &Printer, paths: &Paths, tools: &setup::TestTools) -> Result<()> {
    printer.step("formatting");
    succeed(
        build::cargo(paths).args(["fmt", "--all", "--check"]),
        "cargo fmt",
    )?;
    printer.step("licences, bans and sources of dependencies");
    succeed(
        tools.deny(paths).args([
            "check",
            "--hide-inclusion-graph",
            "licenses",
            "bans",
            "sources",
        ]),
        "cargo deny",
    )?;
    advisories(printer, paths, tools)?;
    printer.step("lints");
    let mut clippy = build::cargo(paths);
    clippy.args([
        "clippy",
        "--quiet",
        "--release",
        "--workspace",
        "--all-targets",
        "--locked",
    ]);
    succeed(clippy.args(["--", "-D", "warnings"]), "cargo clippy")
}

/// Checks against the advisory database where the machine can reach it.
fn advisories(printer: &Printer, paths: &Paths, tools: &setup::TestTools) -> Result<()> {
    let fetched = tools
        .deny(paths)
        .args(["fetch", "db"])
        .output()
        .context("cargo deny")?;
    if !fetched.status.success() {
        printer.note("NOT CHECKED: security advisories (the advisory database is out of reach)");
        return Ok(());
    }
    succeed(
        tools.deny(paths).args(["--offline", "check", "advisories"]),
        "advisories",
    )
}

/// What the end-to-end tests need to know, as JSON.
fn lab_description(
    paths: &Paths,
    prepared: &setup::Prepared,
    containerds: Vec<PathBuf>,
    root_disk: RootDiskFiles,
) -> Result<String> {
    let guest = GuestFiles {
        root_disk: Some(root_disk),
        ..build::guest_files(paths, prepared)
    };
    let description = redoubt_lab::LabDescription {
        binaries: build::lab_binaries(paths, prepared)?,
        guest,
        parts: build::sample_parts(paths),
        containerds,
    };
    Ok(serde_json::to_string(&description)?)
}

fn succeed(command: &mut Command, what: &str) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot start {what}"))?;
    ensure!(status.success(), "{what} failed");
    Ok(())
}
