//! `sev-snp-measure` of `PyPI`, which others compute launch digests with: installed for the tests
//! and benchmarks that compare `redoubt measure` with it.

mod cases;
mod compare;
mod rng;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

pub(crate) use compare::run as compare;

use crate::apt;
use crate::paths::{Paths, text};
use crate::printer::Printer;
use crate::setup::find_program;

/// The release that is compared with.
pub(crate) const VERSION: &str = "0.0.13";

/// Debian's interpreter, and what it makes environments with.
const PYTHON: &str = "/usr/bin/python3";
const PYTHON_PACKAGE: &str = "python3-venv";
const DRIVER: &str = include_str!("driver.py");

/// The installed calculator.
pub(crate) struct SevSnpMeasure {
    folder: PathBuf,
}

/// A command line for one of the programs.
#[derive(Debug, Serialize)]
struct Request<'a> {
    program: &'static str,
    arguments: &'a [String],
}

/// How a command line ended.
#[derive(Debug, Deserialize)]
struct Answer {
    code: i32,
    output: String,
}

impl SevSnpMeasure {
    /// Finds the calculator, or installs it with an environment of its own.
    pub(crate) fn install(printer: &Printer, paths: &Paths) -> Result<Self> {
        let folder = paths.tools().join(format!("sev-snp-measure-{VERSION}"));
        let installed = Self { folder };
        if installed.is_complete() {
            return Ok(installed);
        }
        printer.step(&format!("installing sev-snp-measure {VERSION} of PyPI"));
        installed.make_environment(printer)?;
        let mut pip = Command::new(installed.python());
        pip.args(["-m", "pip", "install", "--quiet", "--no-input"]);
        pip.arg(format!("sev-snp-measure=={VERSION}"));
        apt::run(&mut pip, "install sev-snp-measure")?;
        ensure!(
            installed.is_complete(),
            "sev-snp-measure {VERSION} does not start after its installation"
        );
        Ok(installed)
    }

    /// Makes a Python environment by the machine's own interpreter, else by Debian's.
    fn make_environment(&self, printer: &Printer) -> Result<()> {
        let make = |python: &Path| {
            let mut command = Command::new(python);
            command.args(["-m", "venv", "--clear", text(&self.folder)?]);
            apt::run(&mut command, "make a Python environment")
        };
        if find_program("python3").is_some_and(|python| make(&python).is_ok()) {
            return Ok(());
        }
        let packages = apt::missing(&[PYTHON_PACKAGE]);
        if !packages.is_empty() {
            printer.step(&format!("installing {PYTHON_PACKAGE}"));
            apt::install_from_system(&packages)?;
        }
        make(Path::new(PYTHON))
    }

    /// The program as its users start it.
    pub(crate) fn program(&self) -> PathBuf {
        self.folder.join("bin/sev-snp-measure")
    }

    fn python(&self) -> PathBuf {
        self.folder.join("bin/python3")
    }

    /// True if the right release starts.
    fn is_complete(&self) -> bool {
        let output = Command::new(self.program()).arg("--version").output();
        output.is_ok_and(|output| {
            output.status.success() && String::from_utf8_lossy(&output.stdout).contains(VERSION)
        })
    }

    /// Runs many command lines in one process; files for it go into `folder`.
    fn answers(&self, requests: &[Request<'_>], folder: &Path) -> Result<Vec<Answer>> {
        let mut lines = String::new();
        for request in requests {
            lines += &serde_json::to_string(request)?;
            lines.push('\n');
        }
        let questions = folder.join("requests.jsonl");
        fs::write(&questions, lines)?;
        let output = Command::new(self.python())
            .args(["-I", "-c", DRIVER])
            .stdin(File::open(&questions)?)
            .stderr(Stdio::inherit())
            .output()
            .context("cannot start Python")?;
        ensure!(output.status.success(), "sev-snp-measure broke off");
        let answers = String::from_utf8(output.stdout)?
            .lines()
            .map(serde_json::from_str)
            .collect::<Result<Vec<Answer>, _>>()?;
        ensure!(
            answers.len() == requests.len(),
            "{} answers to {} requests",
            answers.len(),
            requests.len()
        );
        Ok(answers)
    }
}
