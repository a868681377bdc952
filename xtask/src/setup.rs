//! Prepares the machine: Debian packages, QEMU, firmware, guest kernel and cargo tools.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::apt::{self, PrivateApt};
use crate::paths::{Paths, text};
use crate::printer::Printer;

/// Programs that must be on the machine, and the package that brings each.
const PROGRAMS: [(&str, &str); 9] = [
    ("cc", "gcc"),
    ("containerd", "containerd"),
    ("ctr", "containerd"),
    ("docker-registry", "docker-registry"),
    ("skopeo", "skopeo"),
    ("umoci", "umoci"),
    ("ip", "iproute2"),
    ("xz", "xz-utils"),
    ("nsenter", "util-linux"),
];

/// Packages without a program to look for.
const LIBRARIES: [&str; 2] = ["libc6-dev", "ca-certificates"];

/// The oldest QEMU whose kernel-hash table equals the files it was given.
const QEMU_MAJOR: u32 = 10;
/// Debian releases that the tasks are tested on.
const SUPPORTED: [&str; 2] = ["bookworm", "trixie"];
/// The release whose QEMU comes from its backports.
const BACKPORTED: &str = "bookworm";
const FIRMWARE_SUITE: &str = "forky";
/// The suite of the guest kernel and of the sample image's programs.
const KERNEL_SUITE: &str = "trixie";
const VSOCK_DAEMON: (&str, &str) = ("vhost-device-vsock", "0.3.0");

/// What `setup` prepared, with the digest of each file that is not built here.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Prepared {
    /// The AmdSev build of OVMF.
    pub(crate) firmware: PathBuf,
    /// The guest kernel.
    pub(crate) kernel: PathBuf,
    /// The folder of the guest kernel's modules.
    pub(crate) modules: PathBuf,
    /// The vhost-user vsock daemon, over which simulated guests talk.
    pub(crate) vsock_daemon: PathBuf,
    /// Packages of other suites and their sha256.
    pub(crate) packages: Vec<PackageRecord>,
}

/// One package that was unpacked, for the record.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct PackageRecord {
    name: String,
    suite: String,
    sha256: String,
}

/// Installs what is missing; a second run finds everything in place.
pub(crate) fn run(printer: &Printer) -> Result<Prepared> {
    let paths = Paths::find()?;
    ensure!(
        nix::unistd::geteuid().is_root(),
        "run this as root: it installs Debian packages"
    );
    let release = debian_release(printer)?;
    install_programs(printer)?;
    install_qemu(printer, &paths, &release)?;
    let prepared = match recorded(&paths) {
        Some(prepared) => prepared,
        None => fetch_guest_parts(printer, &paths)?,
    };
    install_vsock_daemon(printer, &prepared)?;
    Ok(prepared)
}

fn debian_release(printer: &Printer) -> Result<String> {
    let os = fs::read_to_string("/etc/os-release").context("cannot read /etc/os-release")?;
    let codename = os
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .map(|name| name.trim_matches('"').to_owned())
        .context("/etc/os-release names no VERSION_CODENAME")?;
    if !SUPPORTED.contains(&codename.as_str()) {
        printer.note(&format!(
            "Debian 12 and 13 are supported; this is {codename}, untested"
        ));
    }
    Ok(codename)
}

fn install_programs(printer: &Printer) -> Result<()> {
    let mut packages: Vec<&str> = PROGRAMS
        .iter()
        .filter(|(program, _)| find_program(program).is_none())
        .map(|(_, package)| *package)
        .collect();
    packages.extend(apt::missing(&LIBRARIES));
    packages.dedup();
    if packages.is_empty() {
        return Ok(());
    }
    printer.step(&format!("installing {}", packages.join(", ")));
    // Debian starts a system containerd or registry on installation; these tasks run private ones.
    apt::install_from_system(&packages)
}

fn install_qemu(printer: &Printer, paths: &Paths, release: &str) -> Result<()> {
    if qemu_major().is_some_and(|major| major >= QEMU_MAJOR) {
        return Ok(());
    }
    printer.step("installing QEMU 10 or later");
    if release == BACKPORTED {
        let suite = format!("{release}-backports");
        let apt = PrivateApt::prepare(printer, &paths.apt().join("qemu"), &[release, &suite])?;
        apt.install(&suite, &["qemu-system-x86"])?;
    } else {
        apt::install_from_system(&["qemu-system-x86"])?;
    }
    let major = qemu_major().context("QEMU does not start after its installation")?;
    ensure!(
        major >= QEMU_MAJOR,
        "QEMU {major} is too old: {QEMU_MAJOR} or later is needed"
    );
    Ok(())
}

fn qemu_major() -> Option<u32> {
    let output = Command::new("qemu-system-x86_64")
        .arg("--version")
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.strip_prefix("QEMU emulator version ")?
        .split('.')
        .next()?
        .parse()
        .ok()
}

fn fetch_guest_parts(printer: &Printer, paths: &Paths) -> Result<Prepared> {
    printer.step("fetching firmware and guest kernel (the system's apt sources stay untouched)");
    let apt = PrivateApt::prepare(
        printer,
        &paths.apt().join("guest"),
        &[KERNEL_SUITE, FIRMWARE_SUITE],
    )?;
    let kernel_package = apt.dependency(KERNEL_SUITE, "linux-image-cloud-amd64", "linux-image-")?;
    let mut packages = Vec::new();
    let mut unpack = |suite: &str, package: &str, folder: &str| -> Result<PathBuf> {
        let into = paths.packages().join(folder);
        let file = apt.unpack(suite, package, &into)?;
        packages.push(PackageRecord {
            name: package.to_owned(),
            suite: suite.to_owned(),
            sha256: sha256_of(&file)?,
        });
        Ok(into)
    };
    let firmware = unpack(FIRMWARE_SUITE, "ovmf-amdsev", "ovmf-amdsev")?;
    let kernel = unpack(KERNEL_SUITE, &kernel_package, "linux")?;
    for (package, folder) in [
        ("busybox-static", "busybox"),
        ("libc6", "libc6"),
        ("hello", "hello"),
    ] {
        unpack(KERNEL_SUITE, package, folder)?;
    }
    let prepared = Prepared {
        firmware: firmware.join("usr/share/ovmf/OVMF.amdsev.fd"),
        kernel: only_entry(&kernel.join("boot"), "vmlinuz-")?,
        modules: only_entry(&modules_parent(&kernel)?, "")?,
        vsock_daemon: paths.tools().join("bin").join(VSOCK_DAEMON.0),
        packages,
    };
    ensure!(
        prepared.firmware.exists(),
        "ovmf-amdsev holds no {}",
        prepared.firmware.display()
    );
    fs::write(record_path(paths), serde_json::to_string_pretty(&prepared)?)?;
    Ok(prepared)
}

/// Debian releases whose containerd the end-to-end tests run pods with: 1.6, 1.7 and 2.
const CONTAINERD_SUITES: [&str; 3] = ["bookworm", "trixie", "forky"];

/// Folders with `containerd` and `ctr` of each of [`CONTAINERD_SUITES`], fetched where missing.
pub(crate) fn containerds(printer: &Printer, paths: &Paths) -> Result<Vec<PathBuf>> {
    let folder = |suite: &str| paths.packages().join(format!("containerd-{suite}"));
    let programs = |suite: &str| folder(suite).join("usr/bin");
    let missing: Vec<_> = CONTAINERD_SUITES
        .into_iter()
        .filter(|suite| !programs(suite).join("ctr").exists())
        .collect();
    if !missing.is_empty() {
        printer.step(&format!("fetching containerd of {}", missing.join(", ")));
        let state = paths.apt().join("containerd");
        let apt = PrivateApt::prepare(printer, &state, &missing)?;
        for suite in missing {
            apt.unpack(suite, "containerd", &folder(suite))?;
        }
    }
    Ok(CONTAINERD_SUITES.into_iter().map(programs).collect())
}

fn modules_parent(kernel: &Path) -> Result<PathBuf> {
    ["usr/lib/modules", "lib/modules"]
        .iter()
        .map(|folder| kernel.join(folder))
        .find(|folder| folder.is_dir())
        .context("the kernel package holds no modules")
}

fn only_entry(dir: &Path, prefix: &str) -> Result<PathBuf> {
    fs::read_dir(dir)
        .with_context(|| format!("cannot read {}", dir.display()))?
        .filter_map(Result::ok)
        .find(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path())
        .with_context(|| format!("{} holds no {prefix}*", dir.display()))
}

fn install_vsock_daemon(printer: &Printer, prepared: &Prepared) -> Result<()> {
    if prepared.vsock_daemon.exists() {
        return Ok(());
    }
    let (name, version) = VSOCK_DAEMON;
    printer.step(&format!(
        "building {name} {version}, over which simulated guests talk"
    ));
    let root = prepared
        .vsock_daemon
        .ancestors()
        .nth(2)
        .context("the tools folder has no parent")?;
    cargo_install(VSOCK_DAEMON, root, ToolBuild::Released)
}

/// How a tool of crates.io is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ToolBuild {
    /// As its authors release it: what it does is part of what is measured.
    Released,
    /// Without optimisation: building it takes longer than anything that it does here.
    Quick,
}

/// Installs a tool from crates.io below `root`, apart from this workspace's build settings.
pub(crate) fn cargo_install(
    (name, version): (&str, &str),
    root: &Path,
    build: ToolBuild,
) -> Result<()> {
    fs::create_dir_all(root)?;
    let mut cargo = Command::new("cargo");
    cargo
        .current_dir("/")
        .env_remove("CARGO_TARGET_DIR")
        .args(["install", "--quiet", "--locked", "--version", version])
        .args(["--root", text(root)?, name]);
    if build == ToolBuild::Quick {
        for (setting, value) in [
            ("OPT_LEVEL", "0"),
            ("LTO", "off"),
            ("CODEGEN_UNITS", "256"),
            ("DEBUG", "0"),
        ] {
            cargo.env(format!("CARGO_PROFILE_RELEASE_{setting}"), value);
        }
    }
    apt::run(&mut cargo, &format!("install {name}"))
}

fn record_path(paths: &Paths) -> PathBuf {
    paths.assets().join("setup.json")
}

/// What an earlier run prepared, when all of it is still there.
pub(crate) fn recorded(paths: &Paths) -> Option<Prepared> {
    let text = fs::read_to_string(record_path(paths)).ok()?;
    let prepared: Prepared = serde_json::from_str(&text).ok()?;
    let complete = [&prepared.firmware, &prepared.kernel, &prepared.modules];
    complete
        .iter()
        .all(|path| path.exists())
        .then_some(prepared)
}

/// The sha256 of a file in hex.
pub(crate) fn sha256_of(path: &Path) -> Result<String> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(hex::encode(Sha256::digest(&bytes)))
}

/// Looks a program up in `PATH` and in the folders of system programs.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|candidate| candidate.is_file())
}

/// The versions of the test tools that are installed where the machine has none.
const NEXTEST: (&str, &str) = ("cargo-nextest", "0.9.143");
const DENY: (&str, &str) = ("cargo-deny", "0.20.2");

/// Where the test runner and the dependency checker are.
#[derive(Debug)]
pub(crate) struct TestTools {
    nextest: PathBuf,
    deny: PathBuf,
}

impl TestTools {
    pub(crate) fn nextest(&self, paths: &Paths) -> Command {
        let mut command = Command::new(&self.nextest);
        command.arg("nextest").current_dir(&paths.root);
        command
    }

    pub(crate) fn deny(&self, paths: &Paths) -> Command {
        let mut command = Command::new(&self.deny);
        command.current_dir(&paths.root);
        command
    }
}

/// Installs the test tools that the machine does not have.
pub(crate) fn test_tools(printer: &Printer, paths: &Paths) -> Result<TestTools> {
    Ok(TestTools {
        nextest: tool(printer, paths, NEXTEST)?,
        deny: tool(printer, paths, DENY)?,
    })
}

/// Finds a cargo tool, or installs it.
pub(crate) fn tool(
    printer: &Printer,
    paths: &Paths,
    (name, version): (&'static str, &'static str),
) -> Result<PathBuf> {
    let own = paths.tools().join("bin").join(name);
    if own.exists() {
        return Ok(own);
    }
    if let Some(found) = find_program(name) {
        return Ok(found);
    }
    printer.step(&format!("building {name} {version}"));
    cargo_install((name, version), &paths.tools(), ToolBuild::Quick)?;
    Ok(own)
}
