//! What the end-to-end tests share: a lab, a pod that must fail, the checks on it.

#![forbid(unsafe_code)]

pub mod requests;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use redoubt_lab::{
    Lab, LabDescription, Leftovers, PodOutcome, PodRequest, RunningPod, Scenario, ScenarioOptions,
};
use sha2::{Digest, Sha256};

/// A pod that must fail says so within this time.
pub const FAILURE_LIMIT: Duration = Duration::from_secs(30);
/// A pod that works ends within this time, even on emulated processors.
pub const POD_LIMIT: Duration = Duration::from_secs(120);
/// The key that the sample image is encrypted for.
pub const KEY_ID: &str = "kbs:///default/key/sample";

const KEY_PATH: &str = "default/key/sample";

/// What `cargo xtask test` prepared for these tests.
pub fn description() -> Result<LabDescription> {
    let description = std::env::var("REDOUBT_LAB")
        .context("REDOUBT_LAB is not set: run these tests with `cargo xtask test`")?;
    Ok(serde_json::from_str(&description)?)
}

/// A lab with the sample image in its registry and the key at its broker.
#[derive(Debug)]
pub struct Fixture {
    /// The lab.
    pub lab: Lab,
    /// The encrypted sample image by digest.
    pub image: String,
    /// The key's file at the broker.
    pub key_file: PathBuf,
    before: Leftovers,
}

impl Fixture {
    /// Starts a lab from what `cargo xtask test` prepared.
    pub fn start() -> Result<Self> {
        Self::start_from(description()?)
    }

    /// Starts a lab from a description.
    pub fn start_from(description: LabDescription) -> Result<Self> {
        let lab = Lab::start(description.binaries, description.guest, &description.parts)?;
        let key: Vec<u8> = (0..32_u8)
            .map(|byte| byte.wrapping_mul(7).wrapping_add(3))
            .collect();
        let key_file = lab.broker.put_resource(KEY_PATH, &key)?;
        let image = lab.push_encrypted("sample", KEY_ID, &key_file)?;
        let before = Leftovers::now();
        Ok(Self {
            lab,
            image,
            key_file,
            before,
        })
    }

    /// The options of a pod that works.
    pub fn working(&self) -> ScenarioOptions {
        ScenarioOptions::working(&self.image)
    }

    /// Prepares a scenario and runs the image's own program to its end.
    pub fn run(&self, options: &ScenarioOptions) -> Result<PodOutcome> {
        self.run_request(options, &PodRequest::default())
    }

    /// Prepares a scenario and runs a request to its end.
    pub fn run_request(
        &self,
        options: &ScenarioOptions,
        request: &PodRequest,
    ) -> Result<PodOutcome> {
        let scenario = self.prepare(options)?;
        let outcome = self.start_pod(&scenario, request)?.finish(POD_LIMIT);
        outcome.with_context(|| self.logs())
    }

    /// Prepares a scenario under a name of its own.
    pub fn prepare(&self, options: &ScenarioOptions) -> Result<Scenario> {
        Scenario::prepare(&self.lab, &self.lab.pod_name(), options)
    }

    /// Starts a pod.
    pub fn start_pod(&self, scenario: &Scenario, request: &PodRequest) -> Result<RunningPod> {
        RunningPod::start(&self.lab, scenario, request)
    }

    /// Runs a pod that must fail with `code` in one readable line and leave nothing behind.
    pub fn expect_failure(&self, options: &ScenarioOptions, code: &str) -> Result<PodOutcome> {
        self.expect_failure_with(options, code, |_| Ok(()))
    }

    /// Like [`Self::expect_failure`], after changing what was prepared.
    pub fn expect_failure_with(
        &self,
        options: &ScenarioOptions,
        code: &str,
        tamper: impl FnOnce(&Scenario) -> Result<()>,
    ) -> Result<PodOutcome> {
        let scenario = self.prepare(options)?;
        tamper(&scenario)?;
        let outcome = self
            .start_pod(&scenario, &PodRequest::default())?
            .finish(POD_LIMIT)
            .with_context(|| self.logs())?;
        check_failure(&outcome, code).with_context(|| self.logs())?;
        self.expect_nothing_left()?;
        Ok(outcome)
    }

    /// Runs `ctr task …`.
    pub fn task(&self, arguments: &[&str]) -> Result<Said> {
        self.task_with_input(arguments, &[])
    }

    /// Runs `ctr task …` with something on its standard input.
    pub fn task_with_input(&self, arguments: &[&str], input: &[u8]) -> Result<Said> {
        let mut command = self.lab.containerd.ctr();
        command.arg("task");
        // Options come before the container's id.
        if let Some(("exec", rest)) = arguments.split_first().map(|(first, rest)| (*first, rest)) {
            command
                .args(["exec", "--fifo-dir"])
                .arg(self.lab.containerd.fifo_dir())
                .args(rest);
        } else {
            command.args(arguments);
        }
        Said::of(command, input)
    }

    /// Runs a pod on a pseudo terminal and gives what it showed.
    pub fn run_on_terminal(&self, scenario: &Scenario, request: &PodRequest) -> Result<String> {
        redoubt_lab::run_on_terminal(&self.lab, scenario, request, POD_LIMIT)
    }

    /// Fails when a pod left anything on the machine.
    pub fn expect_nothing_left(&self) -> Result<()> {
        let left = Leftovers::settled_since(&self.before, Duration::from_secs(5));
        ensure!(
            left.is_empty(),
            "left behind: {}\n{}",
            left.join(", "),
            self.logs()
        );
        Ok(())
    }

    /// What the servers of the lab logged last.
    pub fn logs(&self) -> String {
        format!(
            "containerd and shim:\n{}\nbroker:\n{}",
            self.lab.containerd.last_lines(60),
            self.lab.broker.last_lines(15)
        )
    }
}

/// One line with a stable code, within the time limit, and a status that is not zero.
fn check_failure(outcome: &PodOutcome, code: &str) -> Result<()> {
    let said: Vec<&str> = outcome
        .stderr
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    ensure!(outcome.status != 0, "the pod ran: {}", outcome.stdout);
    ensure!(
        said.len() == 1,
        "not one line but {}: {}",
        said.len(),
        outcome.stderr
    );
    ensure!(
        outcome.stderr.contains(&format!("[{code}]")),
        "expected {code}, got: {}",
        outcome.stderr
    );
    ensure!(
        outcome.elapsed < FAILURE_LIMIT,
        "it took {:.1} s",
        outcome.elapsed.as_secs_f64()
    );
    Ok(())
}

/// Writes a program that starts QEMU after changing one of its arguments, as a hostile host would.
pub fn tampering_qemu(dir: &Path, qemu: &Path, shell_edit: &str) -> Result<PathBuf> {
    use std::os::unix::fs::PermissionsExt;

    let path = dir.join("qemu-tampered");
    let script = format!(
        "#!/bin/bash\nargs=(\"$@\")\nfor i in \"${{!args[@]}}\"; do\n{shell_edit}\ndone\nexec {} \"${{args[@]}}\"\n",
        qemu.display()
    );
    std::fs::write(&path, script)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

/// What a program said.
#[derive(Clone, Debug)]
pub struct Said {
    /// Whether its status is zero.
    pub success: bool,
    /// Its status, unless a signal ended it.
    pub status: Option<i32>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Said {
    fn of(mut command: Command, input: &[u8]) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start ctr")?;
        let mut stdin = child.stdin.take().context("ctr has no stdin")?;
        let input = input.to_vec();
        let writer = std::thread::spawn(move || {
            // A program that does not read its input is not a failure of the test.
            let _ = stdin.write_all(&input);
        });
        let output = child.wait_with_output()?;
        let _ = writer.join();
        Ok(Self {
            success: output.status.success(),
            status: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }
}

/// The sha256 of some bytes in hex.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Sends SIGKILL to the process of `program` that has `argument` on its command line.
pub fn kill_process_of(program: &str, argument: &str) -> Result<()> {
    for entry in std::fs::read_dir("/proc")?.filter_map(Result::ok) {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else {
            continue;
        };
        let Ok(line) = std::fs::read(entry.path().join("cmdline")) else {
            continue;
        };
        let words: Vec<String> = line
            .split(|byte| *byte == 0)
            .map(|word| String::from_utf8_lossy(word).into())
            .collect();
        let runs = words.first().is_some_and(|word| word.ends_with(program));
        if runs
            && words
                .iter()
                .any(|word| word.split(',').any(|part| part == argument))
        {
            kill(Pid::from_raw(pid), Signal::SIGKILL)?;
            return Ok(());
        }
    }
    bail!("no {program} with {argument} runs")
}
