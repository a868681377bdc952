//! Debian packages through an apt state of the project's own.
//!
//! The firmware and the guest kernel come from suites that the machine does
//! not subscribe to. A private list directory, cache and source list keep the
//! system's own sources as they are; the archive is the one that the system
//! already uses.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::paths::text;
use crate::printer::Printer;

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// What apt says of an index past its date.
const EXPIRED: &str = "is expired";

/// An apt state below one directory.
#[derive(Debug)]
pub(crate) struct PrivateApt {
    dir: PathBuf,
    release: String,
    /// Whether indexes past their date are taken: a mirror may lag behind.
    expired_indexes: bool,
}

impl PrivateApt {
    /// Makes the state for the given suites and reads their indexes.
    ///
    /// Packages that are installed, not just unpacked, need a state of their
    /// own with the machine's release and nothing newer: apt fills every
    /// dependency with the newest version that any listed suite has.
    ///
    /// A mirror that has stopped following a testing suite serves indexes past their date.
    /// They are signed all the same; they are taken with a remark, because what comes from
    /// them is measured and recorded by its hash.
    pub(crate) fn prepare(printer: &Printer, dir: &Path, suites: &[&str]) -> Result<Self> {
        fs::create_dir_all(dir.join("lists/partial"))?;
        fs::create_dir_all(dir.join("cache/archives/partial"))?;
        let archive = system_archive()?;
        let sources: Vec<String> = suites
            .iter()
            .map(|suite| format!("deb [signed-by={KEYRING}] {archive} {suite} main\n"))
            .collect();
        fs::write(dir.join("sources.list"), sources.concat())?;
        let mut apt = Self {
            dir: dir.to_owned(),
            release: suites.first().copied().unwrap_or_default().to_owned(),
            expired_indexes: false,
        };
        let Err(error) = apt.update() else {
            return Ok(apt);
        };
        if !error.to_string().contains(EXPIRED) {
            return Err(error);
        }
        printer.note(&format!(
            "the mirror's indexes of {} are past their date: signed, but not the newest",
            suites.join(" and ")
        ));
        apt.expired_indexes = true;
        apt.update()?;
        Ok(apt)
    }

    fn update(&self) -> Result<()> {
        run(
            self.command("apt-get").arg("update").arg("-qq"),
            "read the package indexes",
        )
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let dir = self.dir.display();
        for option in [
            format!("Dir::State::Lists={dir}/lists"),
            format!("Dir::Etc::SourceList={dir}/sources.list"),
            "Dir::Etc::SourceParts=-".to_owned(),
            format!("Dir::Cache={dir}/cache"),
            "Acquire::Languages=none".to_owned(),
            "APT::Sandbox::User=root".to_owned(),
            "Acquire::Retries=3".to_owned(),
            format!("APT::Default-Release={}", self.release),
        ] {
            command.arg("-o").arg(option);
        }
        if self.expired_indexes {
            command.args(["-o", "Acquire::Check-Valid-Until=false"]);
        }
        // What apt says is read, above all that an index is expired.
        command.env("LC_ALL", "C.UTF-8");
        command.env("DEBIAN_FRONTEND", "noninteractive");
        command
    }

    /// Installs packages on this machine, those of `suite` where a name is not pinned.
    pub(crate) fn install(&self, suite: &str, packages: &[&str]) -> Result<()> {
        let mut command = self.command("apt-get");
        command.args([
            "install",
            "-y",
            "-qq",
            "--no-install-recommends",
            "-t",
            suite,
        ]);
        run(
            command.args(packages),
            &format!("install {}", packages.join(" ")),
        )
    }

    /// The package that a metapackage of `suite` stands for, by the pattern of its name.
    pub(crate) fn dependency(&self, suite: &str, package: &str, prefix: &str) -> Result<String> {
        let mut command = self.command("apt-cache");
        command.args(["depends", "--important", &format!("{package}/{suite}")]);
        let output = command.output().context("cannot run apt-cache")?;
        ensure!(
            output.status.success(),
            "apt-cache knows no {package} in {suite}"
        );
        let text = String::from_utf8_lossy(&output.stdout);
        text.lines()
            .filter_map(|line| line.trim().strip_prefix("Depends: "))
            .find(|name| name.starts_with(prefix))
            .map(str::to_owned)
            .with_context(|| format!("{package} of {suite} depends on no {prefix}*"))
    }

    /// Downloads a package of a suite and unpacks it below `into`; returns the package file.
    pub(crate) fn unpack(&self, suite: &str, package: &str, into: &Path) -> Result<PathBuf> {
        let downloads = self.dir.join("downloads");
        let _ = fs::remove_dir_all(&downloads);
        fs::create_dir_all(&downloads)?;
        let mut command = self.command("apt-get");
        command
            .current_dir(&downloads)
            .args(["download", "-qq", &format!("{package}/{suite}")]);
        run(&mut command, &format!("download {package}"))?;
        let file = single_file(&downloads)?;
        let _ = fs::remove_dir_all(into);
        fs::create_dir_all(into)?;
        run(
            Command::new("dpkg-deb").args(["-x", text(&file)?, text(into)?]),
            &format!("unpack {package}"),
        )?;
        let kept = into.with_extension("deb");
        fs::rename(&file, &kept)?;
        Ok(kept)
    }
}

/// Installs packages from the machine's own sources.
pub(crate) fn install_from_system(packages: &[&str]) -> Result<()> {
    run(
        Command::new("apt-get")
            .args(["update", "-qq"])
            .env("DEBIAN_FRONTEND", "noninteractive"),
        "read the package indexes",
    )?;
    run(
        Command::new("apt-get")
            .args(["install", "-y", "-qq", "--no-install-recommends"])
            .args(packages)
            .env("DEBIAN_FRONTEND", "noninteractive"),
        &format!("install {}", packages.join(" ")),
    )
}

/// Those of `packages` that are not installed.
pub(crate) fn missing<'a>(packages: &[&'a str]) -> Vec<&'a str> {
    packages
        .iter()
        .copied()
        .filter(|package| !is_installed(package))
        .collect()
}

fn is_installed(package: &str) -> bool {
    Command::new("dpkg-query")
        .args(["-W", "-f", "${db:Status-Status}", package])
        .output()
        .is_ok_and(|output| output.status.success() && output.stdout == b"installed")
}

/// Suites by which the archive is recognised in the machine's own sources.
const DEBIAN_SUITES: [&str; 6] = ["bookworm", "trixie", "forky", "sid", "stable", "testing"];

/// The Debian archive that this machine is set up to use.
fn system_archive() -> Result<String> {
    let output = Command::new("apt-get")
        .args([
            "indextargets",
            "--format",
            "$(REPO_URI) $(RELEASE)",
            "Created-By: Packages",
        ])
        .output()
        .context("cannot run apt-get")?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(_, release)| DEBIAN_SUITES.contains(release))
        .map(|(archive, _)| archive.to_owned())
        .context("apt has no Debian source: add one to /etc/apt/sources.list")
}

fn single_file(dir: &Path) -> Result<PathBuf> {
    let mut files = fs::read_dir(dir)?
        .filter_map(Result::ok)
        .map(|entry| entry.path());
    files
        .next()
        .with_context(|| format!("nothing was downloaded into {}", dir.display()))
}

/// Runs a command quietly; its output is shown only when it fails.
pub(crate) fn run(command: &mut Command, what: &str) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(std::process::Stdio::null())
        .output()
        .with_context(|| format!("cannot {what}: {program} does not start"))?;
    if output.status.success() {
        return Ok(());
    }
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let tail: Vec<&str> = text.lines().rev().take(20).collect();
    let tail: Vec<&str> = tail.into_iter().rev().collect();
    bail!(
        "cannot {what}: {program} ended with {}\n{}",
        output.status,
        tail.join("\n")
    );
}
