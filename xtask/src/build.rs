//! Builds the programs of this workspace.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use redoubt_lab::{Binaries, GuestFiles, SampleParts};

use crate::paths::{GUEST_PROFILE, Paths};
use crate::printer::Printer;
use crate::setup::{Prepared, find_program};

/// `cargo` for this checkout.
pub(crate) fn cargo(paths: &Paths) -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.current_dir(&paths.root);
    command
}

/// Builds what ships: shim and command line for speed, the guest's programs small and alone, so
/// that they carry no feature that only a host program asked for.
pub(crate) fn programs(printer: &Printer, paths: &Paths) -> Result<()> {
    printer.step("building shim and command line");
    host_programs(paths)?;
    printer.step("building the guest's agent and the program that opens root disks");
    let mut guest = cargo(paths);
    guest.args([
        "build",
        "--profile",
        GUEST_PROFILE,
        "--locked",
        "-p",
        "redoubt-agent",
        "-p",
        "redoubt-root-loader",
    ]);
    succeed(&mut guest)
}

/// Builds shim and command line.
pub(crate) fn host_programs(paths: &Paths) -> Result<()> {
    let mut host = cargo(paths);
    host.args(["build", "--release", "--locked", "--workspace", "--bins"]);
    host.args([
        "--exclude",
        "redoubt-agent",
        "--exclude",
        "redoubt-root-loader",
    ]);
    succeed(&mut host)
}

fn succeed(command: &mut Command) -> Result<()> {
    let status = command.status().context("cannot start cargo")?;
    ensure!(status.success(), "cargo build failed");
    Ok(())
}

/// What the lab runs: the programs built here and those of the machine.
pub(crate) fn lab_binaries(paths: &Paths, prepared: &Prepared) -> Result<Binaries> {
    let shim = paths.binary("containerd-shim-kata-v2");
    Ok(Binaries {
        shim_dir: shim.parent().context("the shim has no folder")?.to_owned(),
        redoubt: paths.binary("redoubt"),
        qemu: find_program("qemu-system-x86_64").context("QEMU is not installed")?,
        vsock_daemon: prepared.vsock_daemon.clone(),
        containerd_dir: None,
    })
}

/// What guests of the lab boot from.
pub(crate) fn guest_files(paths: &Paths, prepared: &Prepared) -> GuestFiles {
    GuestFiles {
        firmware: prepared.firmware.clone(),
        kernel: paths.guest().join("vmlinuz"),
        initrd: paths.guest().join("initrd.zst"),
        root_disk: None,
    }
}

/// The Debian packages that the sample image is made of.
pub(crate) fn sample_parts(paths: &Paths) -> SampleParts {
    SampleParts {
        busybox: paths.packages().join("busybox"),
        libc: paths.packages().join("libc6"),
        hello: paths.packages().join("hello"),
    }
}
