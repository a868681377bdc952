//! One pod: `ctr run`, its output, its trail.

use std::fs;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};

use crate::command::run;
use crate::containerd::Client;
use crate::lab::Lab;
use crate::netns::NetworkNamespace;
use crate::scenario::Scenario;

/// What to run in a pod.
#[derive(Clone, Debug, Default)]
pub struct PodRequest {
    /// The program and its arguments; empty means the image's own.
    pub command: Vec<String>,
    /// More options for `ctr run`.
    pub options: Vec<String>,
    /// Whether the workload's output goes to this program's own terminal.
    pub show_output: bool,
}

/// One line of a pod's trail.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TrailLine {
    /// The sandbox.
    pub sandbox: String,
    /// Milliseconds since the shim was asked to create the sandbox.
    pub t_ms: u64,
    /// The stage that was reached.
    pub stage: String,
    /// A few words about it.
    #[serde(default)]
    pub detail: String,
}

/// How a pod ended.
#[derive(Clone, Debug)]
pub struct PodOutcome {
    /// The exit status of `ctr run`, which is the workload's when it ran.
    pub status: i32,
    /// The workload's output.
    pub stdout: String,
    /// The workload's error output, or `ctr`'s own message.
    pub stderr: String,
    /// The time from the start of `ctr run` to its end.
    pub elapsed: Duration,
    /// The time from the start of `ctr run` to the workload's first byte.
    pub first_byte: Option<Duration>,
    /// The stages that were reached.
    pub trail: Vec<TrailLine>,
}

/// A pod that runs. Dropped before its end, it is ended.
#[derive(Debug)]
pub struct RunningPod {
    /// The container's id, which is also the sandbox's.
    pub id: String,
    /// The pod's network.
    pub network: NetworkNamespace,
    child: Child,
    start: Instant,
    stdout: Option<JoinHandle<(String, Option<Duration>)>>,
    stderr: Option<JoinHandle<String>>,
    trail: PathBuf,
    ctr: Client,
    has_ended: bool,
}

impl Drop for RunningPod {
    fn drop(&mut self) {
        if !self.has_ended {
            self.abandon();
        }
    }
}

impl RunningPod {
    /// Starts `ctr run` for a scenario.
    pub fn start(lab: &Lab, scenario: &Scenario, request: &PodRequest) -> Result<Self> {
        let network = lab.pod_network()?;
        lab.containerd
            .register_image(&lab.servers, &scenario.image)?;
        let id = lab.pod_name();
        let mut command = lab.containerd.ctr();
        ctr_run(&mut command, lab, scenario, &network, &id, request);
        let start = Instant::now();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start ctr")?;
        let out = child.stdout.take().context("ctr has no stdout")?;
        let err = child.stderr.take().context("ctr has no stderr")?;
        let show = request.show_output;
        let stdout_copy: Copy = if show {
            Box::new(std::io::stdout())
        } else {
            Box::new(std::io::sink())
        };
        let stderr_copy: Copy = if show {
            Box::new(std::io::stderr())
        } else {
            Box::new(std::io::sink())
        };
        Ok(Self {
            id,
            network,
            child,
            start,
            stdout: Some(std::thread::spawn(move || {
                read_timed(out, start, stdout_copy)
            })),
            stderr: Some(std::thread::spawn(move || {
                read_timed(err, start, stderr_copy).0
            })),
            trail: scenario.trail(),
            ctr: lab.containerd.client(),
            has_ended: false,
        })
    }

    /// Waits until the trail has reached a stage.
    pub fn wait_for_stage(&mut self, stage: &str, limit: Duration) -> Result<()> {
        let start = Instant::now();
        while !self.trail().iter().any(|line| line.stage == stage) {
            if let Some(status) = self.child.try_wait()? {
                self.has_ended = true;
                let said = self.stderr.take().map(JoinHandle::join);
                let said = said.and_then(Result::ok).unwrap_or_default();
                bail!("the pod ended with {status} before {stage}: {said}");
            }
            if start.elapsed() > limit {
                bail!("the pod did not reach {stage} within {} s", limit.as_secs());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// The trail so far.
    pub fn trail(&self) -> Vec<TrailLine> {
        let text = fs::read_to_string(&self.trail).unwrap_or_default();
        text.lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// Waits for the end of `ctr run`.
    pub fn finish(self, limit: Duration) -> Result<PodOutcome> {
        self.finish_unless(limit, &AtomicBool::new(false))
    }

    /// Waits for the end of `ctr run`, or until `interrupted` is set.
    pub fn finish_unless(
        mut self,
        limit: Duration,
        interrupted: &AtomicBool,
    ) -> Result<PodOutcome> {
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            if interrupted.load(Ordering::Relaxed) {
                bail!("interrupted");
            }
            if self.start.elapsed() > limit {
                bail!("`ctr run` did not end within {} s", limit.as_secs());
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        self.has_ended = true;
        let elapsed = self.start.elapsed();
        let joined = |_| anyhow!("a reader of ctr's output panicked");
        let (stdout, first_byte) = match self.stdout.take() {
            Some(reader) => reader.join().map_err(joined)?,
            None => (String::new(), None),
        };
        let stderr = match self.stderr.take() {
            Some(reader) => reader.join().map_err(joined)?,
            None => String::new(),
        };
        let trail = self.trail();
        Ok(PodOutcome {
            status: status.code().unwrap_or(-1),
            stdout,
            stderr,
            elapsed,
            first_byte,
            trail,
        })
    }
}

impl RunningPod {
    /// Ends `ctr` and the task that it leaves behind.
    fn abandon(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let mut task = self.ctr.command();
        let _ = run(task.args(["task", "rm", "--force", &self.id]));
        let mut container = self.ctr.command();
        let _ = run(container.args(["container", "rm", &self.id]));
    }
}

/// Where a copy of the output goes.
type Copy = Box<dyn Write + Send>;

fn ctr_run(
    command: &mut Command,
    lab: &Lab,
    scenario: &Scenario,
    network: &NetworkNamespace,
    id: &str,
    request: &PodRequest,
) {
    command.args(["run", "--rm", "--runtime", "io.containerd.kata.v2"]);
    command.args(["--snapshotter", lab.containerd.snapshotter()]);
    command
        .arg("--runtime-config-path")
        .arg(&scenario.configuration);
    command.arg("--fifo-dir").arg(lab.containerd.fifo_dir());
    command
        .arg("--with-ns")
        .arg(format!("network:{}", network.path().display()));
    for (key, value) in &scenario.annotations {
        command.arg("--annotation").arg(format!("{key}={value}"));
    }
    command.args(&request.options);
    command.arg(&scenario.image).arg(id);
    command.args(&request.command);
}

fn read_timed(mut stream: impl Read, start: Instant, mut copy: Copy) -> (String, Option<Duration>) {
    let mut bytes = Vec::new();
    let mut first = None;
    let mut chunk = [0_u8; 8192];
    while let Ok(count) = stream.read(&mut chunk) {
        if count == 0 {
            break;
        }
        first.get_or_insert_with(|| start.elapsed());
        let part = chunk.get(..count).unwrap_or_default();
        let _ = copy.write_all(part).and_then(|()| copy.flush());
        bytes.extend_from_slice(part);
    }
    (String::from_utf8_lossy(&bytes).into_owned(), first)
}

/// Runs a pod on a pseudo terminal of its own and gives what the terminal showed.
pub fn run_on_terminal(
    lab: &Lab,
    scenario: &Scenario,
    request: &PodRequest,
    limit: Duration,
) -> Result<String> {
    let network = lab.pod_network()?;
    lab.containerd
        .register_image(&lab.servers, &scenario.image)?;
    let id = lab.pod_name();
    let mut ctr = lab.containerd.ctr();
    ctr_run(&mut ctr, lab, scenario, &network, &id, request);
    let words: Vec<String> = std::iter::once(ctr.get_program())
        .chain(ctr.get_args())
        .map(|word| quote(&word.to_string_lossy()))
        .collect();
    // `script` brings the terminal; `timeout` ends a pod that hangs.
    let mut command = Command::new("timeout");
    command.arg(limit.as_secs().to_string());
    command.args([
        "script",
        "--quiet",
        "--return",
        "--command",
        &words.join(" "),
        "/dev/null",
    ]);
    Ok(String::from_utf8_lossy(&run(command.stdin(Stdio::null()))?.stdout).into_owned())
}

fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}
