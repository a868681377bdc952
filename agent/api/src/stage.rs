//! The trail of a pod's start: stages and their line on the guest's console.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What starts a stage line on the console.
pub const STAGE_PREFIX: &str = "redoubt-stage: ";

/// What starts the line that the agent prints before it powers the guest off.
pub const FATAL_PREFIX: &str = "redoubt-fatal: ";

/// The longest console line that is looked at, in bytes.
pub const MAX_LINE_BYTES: usize = 1024;

/// One step on the way from a request to a running workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// The shim made the launch plan and knows the launch digest.
    LaunchPlanned,
    /// The virtual machine monitor runs.
    QemuStarted,
    /// The firmware accepted kernel, initrd and command line.
    KernelVerified,
    /// The agent runs as PID 1.
    AgentUp,
    /// Initdata matches `HOST_DATA` of the guest's own report.
    InitdataVerified,
    /// The key broker accepted the evidence.
    EvidenceAccepted,
    /// The key broker released a key.
    KeyReleased,
    /// All layers of an image are verified, decrypted and unpacked.
    LayersVerified,
    /// The container's process runs.
    ContainerStarted,
    /// The container's process ended.
    Exited,
}

impl Stage {
    /// All stages, in the order in which they are reached.
    pub const ALL: [Self; 10] = [
        Self::LaunchPlanned,
        Self::QemuStarted,
        Self::KernelVerified,
        Self::AgentUp,
        Self::InitdataVerified,
        Self::EvidenceAccepted,
        Self::KeyReleased,
        Self::LayersVerified,
        Self::ContainerStarted,
        Self::Exited,
    ];

    /// The stage's name in trails.
    pub const fn name(self) -> &'static str {
        match self {
            Self::LaunchPlanned => "launch-planned",
            Self::QemuStarted => "qemu-started",
            Self::KernelVerified => "kernel-verified",
            Self::AgentUp => "agent-up",
            Self::InitdataVerified => "initdata-verified",
            Self::EvidenceAccepted => "evidence-accepted",
            Self::KeyReleased => "key-released",
            Self::LayersVerified => "layers-verified",
            Self::ContainerStarted => "container-started",
            Self::Exited => "exited",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A stage with a short detail, as it travels over the console.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageLine {
    /// The stage that was reached.
    pub stage: Stage,
    /// A few words for a person; never a secret.
    #[serde(default)]
    pub detail: String,
}

impl StageLine {
    /// A line for `stage`; a detail that would not fit is cut.
    pub fn new(stage: Stage, detail: &str) -> Self {
        Self {
            stage,
            detail: plain(detail, MAX_DETAIL_CHARS),
        }
    }

    /// Reads one console line; `None` for anything that is not a stage line of
    /// at most [`MAX_LINE_BYTES`] with a known stage.
    pub fn parse(line: &[u8]) -> Option<Self> {
        let mut read: Self = marked(line, STAGE_PREFIX)?;
        read.detail = plain(&read.detail, MAX_DETAIL_CHARS);
        Some(read)
    }
}

impl fmt::Display for StageLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(STAGE_PREFIX)?;
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

/// Why the guest powered itself off, as it travels over the console.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FatalLine {
    /// The stable code of the error.
    pub code: String,
    /// The error in one line.
    pub message: String,
}

impl FatalLine {
    /// A line for an error; what would not fit is cut.
    pub fn new(code: &str, message: &str) -> Self {
        Self {
            code: plain(code, MAX_CODE_CHARS),
            message: plain(message, MAX_MESSAGE_CHARS),
        }
    }

    /// Reads one console line; `None` for anything that is not a fatal line of
    /// at most [`MAX_LINE_BYTES`].
    pub fn parse(line: &[u8]) -> Option<Self> {
        let read: Self = marked(line, FATAL_PREFIX)?;
        Some(Self::new(&read.code, &read.message))
    }
}

impl fmt::Display for FatalLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(FATAL_PREFIX)?;
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

const MAX_DETAIL_CHARS: usize = 200;
const MAX_CODE_CHARS: usize = 32;
const MAX_MESSAGE_CHARS: usize = 800;

/// The JSON after `prefix`; console drivers may put a carriage return, a
/// kernel time stamp or another writer's text before the prefix.
fn marked<T: for<'de> Deserialize<'de>>(line: &[u8], prefix: &str) -> Option<T> {
    if line.len() > MAX_LINE_BYTES {
        return None;
    }
    let text = std::str::from_utf8(line).ok()?;
    let (_, json) = text.split_once(prefix)?;
    serde_json::from_str(json.trim_end()).ok()
}

/// Cuts text to at most `max_bytes` printable ASCII characters; everything else
/// becomes a space (controls) or a question mark, so that escaping cannot make
/// the line grow over its bound except for quotes and backslashes, which become
/// an apostrophe and a slash.
fn plain(text: &str, max_bytes: usize) -> String {
    text.chars()
        .take(max_bytes)
        .map(|c| match c {
            '"' => '\'',
            '\\' => '/',
            c if c.is_control() => ' ',
            c if c.is_ascii() => c,
            _ => '?',
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stage_survives_the_console() {
        for stage in Stage::ALL {
            let line = StageLine::new(stage, "digest sha256:abc");
            assert_eq!(StageLine::parse(line.to_string().as_bytes()), Some(line));
            assert_eq!(serde_json::to_value(stage).unwrap(), stage.name());
        }
    }

    #[test]
    fn a_stage_line_looks_as_agreed() {
        assert_eq!(
            StageLine::new(Stage::AgentUp, "simulated TEE").to_string(),
            r#"redoubt-stage: {"stage":"agent-up","detail":"simulated TEE"}"#
        );
    }

    #[test]
    fn a_line_survives_noise_around_it() {
        let line = b"[    1.5] redoubt-stage: {\"stage\":\"agent-up\",\"detail\":\"\"}\r\n";
        assert_eq!(
            StageLine::parse(line),
            Some(StageLine::new(Stage::AgentUp, ""))
        );
    }

    #[test]
    fn hostile_lines_are_no_stage() {
        for line in [
            &b"redoubt-stage: {\"stage\":\"all-good\",\"detail\":\"\"}"[..],
            b"redoubt-stage: {\"stage\":\"agent-up\",\"detail\":1}",
            b"redoubt-stage: {\"stage\":\"agent-up\",\"detail\":\"\",\"more\":1}",
            b"redoubt-stage: ",
            b"redoubt-stage",
            b"\xff\xfe",
            b"",
        ] {
            assert_eq!(StageLine::parse(line), None);
        }
        let long = format!(
            "redoubt-stage: {{\"stage\":\"agent-up\",\"detail\":\"{}\"}}",
            "x".repeat(2000)
        );
        assert_eq!(StageLine::parse(long.as_bytes()), None);
    }

    #[test]
    fn any_detail_and_message_fit_the_bound_and_stay_on_one_line() {
        let nasty = "\"\\\n\u{1b}[2J\u{1f600}".repeat(1000);
        let stage = StageLine::new(Stage::KeyReleased, &nasty);
        let fatal = FatalLine::new("RDT-AGT-001", &nasty);
        for line in [stage.to_string(), fatal.to_string()] {
            assert!(line.len() <= MAX_LINE_BYTES, "{}", line.len());
            assert!(!line.chars().any(char::is_control));
        }
        assert_eq!(StageLine::parse(stage.to_string().as_bytes()), Some(stage));
        assert_eq!(FatalLine::parse(fatal.to_string().as_bytes()), Some(fatal));
    }
}
