//! What `redoubt explain` found, in words.

pub(crate) mod report;

use std::path::PathBuf;

use redoubt_digest_explain::{KNOWN_PARAMETERS, Match, Tried};
use redoubt_launch_digest::LaunchDigest;
use serde::Serialize;

pub(crate) use self::report::Reported;
use crate::text::Text;

/// What was found about two digests.
#[derive(Debug)]
pub(crate) struct Answer {
    /// What the digests are.
    pub(crate) what: &'static str,
    pub(crate) computed: LaunchDigest,
    pub(crate) expected: LaunchDigest,
    pub(crate) actual: LaunchDigest,
    /// For the expected and the actual digest.
    pub(crate) matches: Vec<Option<Match>>,
    pub(crate) digests_tried: u64,
    /// What was tried, a line each.
    pub(crate) tried: Vec<String>,
    pub(crate) reported: Option<Reported>,
}

/// The same for programs.
#[derive(Debug, Serialize)]
pub(crate) struct AnswerJson {
    computed: LaunchDigest,
    expected: LaunchDigest,
    actual: LaunchDigest,
    same: bool,
    /// Differences between the inputs and the expected digest; absent where none explain it.
    expected_differences: Option<Vec<String>>,
    /// The same for the actual digest.
    actual_differences: Option<Vec<String>>,
    /// Whether the report names other initdata than the inputs.
    #[serde(skip_serializing_if = "Option::is_none")]
    initdata_differs: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    debug_allowed: Option<bool>,
    digests_tried: u64,
}

impl Answer {
    fn found(&self, index: usize) -> Option<&Match> {
        self.matches.get(index)?.as_ref()
    }

    pub(crate) fn to_json(&self) -> AnswerJson {
        let words = |index| {
            self.found(index)
                .map(|found| found.differences.iter().map(ToString::to_string).collect())
        };
        AnswerJson {
            computed: self.computed,
            expected: self.expected,
            actual: self.actual,
            same: self.expected == self.actual,
            expected_differences: words(0),
            actual_differences: words(1),
            initdata_differs: self.reported.as_ref().and_then(Reported::initdata_differs),
            debug_allowed: self.reported.as_ref().map(|reported| reported.debug),
            digests_tried: self.digests_tried,
        }
    }

    pub(crate) fn to_text(&self) -> String {
        let mut text = Text::default();
        text.line(format_args!("expected  {}", self.expected));
        text.line(format_args!("actual    {}", self.actual));
        text.line(format_args!("inputs    {}", self.computed));
        text.heading(self.what);
        if self.expected == self.actual {
            text.line(format_args!("  The actual digest is the expected one."));
        }
        let words = |index| match self.found(index) {
            Some(found) => found.to_string(),
            None => "matches nothing that was tried".to_owned(),
        };
        let expected = words(0);
        text.line(format_args!("  The expected digest {expected}."));
        if self.expected != self.actual {
            let actual = words(1);
            text.line(format_args!("  The actual digest {actual}."));
        }
        if self.matches.contains(&None) {
            text.heading("Tried");
            for line in &self.tried {
                text.line(format_args!("  {line}"));
            }
            text.line(format_args!("  {} digests in all", self.digests_tried));
        }
        if let Some(reported) = &self.reported {
            reported.write(&mut text);
        }
        text.into()
    }
}

/// What a search around SEV-SNP's launch digest tried.
pub(crate) fn tried_around_snp(tried: &Tried) -> Vec<String> {
    let cpus: Vec<_> = tried.cpus.iter().map(|cpu| cpu.name.as_str()).collect();
    let features: Vec<_> = tried
        .guest_features
        .iter()
        .map(|features| format!("{features:#x}"))
        .collect();
    vec![
        format!("1 to {} vCPUs", tried.max_vcpus),
        format!(
            "CPU models {}, and all others of the same signatures",
            cpus.join(", ")
        ),
        format!("guest features {}", features.join(", ")),
        format!(
            "{} combinations of firmware, kernel, initrd and command line{}",
            tried.combinations,
            if tried.cut_off {
                "; more were possible"
            } else {
                ""
            }
        ),
        command_lines(tried.parameters.iter().map(String::as_str)),
        candidates(tried.candidates.iter().map(String::as_str)),
    ]
}

/// What a search around MRTD tried.
pub(crate) fn tried_around_mrtd(files: &[PathBuf]) -> Vec<String> {
    vec![
        "pages measured one by one (QEMU 9 and later) and section by section (QEMU 8)".to_owned(),
        candidates(names(files).iter().map(String::as_str)),
    ]
}

/// What a search around RTMR2 tried.
pub(crate) fn tried_around_rtmr2(files: &[PathBuf], parameters: &[String]) -> Vec<String> {
    let parameters = parameters.iter().map(String::as_str);
    vec![
        command_lines(parameters.chain(KNOWN_PARAMETERS.iter().copied())),
        "no initrd".to_owned(),
        candidates(names(files).iter().map(String::as_str)),
    ]
}

fn names(files: &[PathBuf]) -> Vec<String> {
    files
        .iter()
        .map(|file| file.display().to_string())
        .collect()
}

fn command_lines<'a>(parameters: impl Iterator<Item = &'a str>) -> String {
    format!(
        "each parameter of the command line removed; each of these added or in place of another: {}",
        parameters.collect::<Vec<_>>().join(" ")
    )
}

/// A file that may be a kernel or an initrd was tried as both, and is named once.
fn candidates<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut files: Vec<&str> = Vec::new();
    for name in names {
        if !files.contains(&name) {
            files.push(name);
        }
    }
    match files.as_slice() {
        [] => "candidates: none given (--candidate FILE)".to_owned(),
        files => format!("candidates: {}", files.join(", ")),
    }
}
