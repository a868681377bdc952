//! What `redoubt explain` found, in words.

use redoubt_digest_explain::{Match, Tried};
use redoubt_evidence::GuestPolicy;
use redoubt_launch_digest::LaunchDigest;
use serde::Serialize;

use crate::text::Text;

/// What was found about two digests.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) computed: LaunchDigest,
    pub(crate) expected: LaunchDigest,
    pub(crate) actual: LaunchDigest,
    pub(crate) expected_match: Option<Match>,
    pub(crate) actual_match: Option<Match>,
    pub(crate) tried: Tried,
    pub(crate) reported: Option<Reported>,
}

/// What a report says beside the digest, and what the inputs let expect.
#[derive(Debug)]
pub(crate) struct Reported {
    pub(crate) host_data: [u8; 32],
    pub(crate) expected_host_data: Option<[u8; 32]>,
    pub(crate) policy: GuestPolicy,
    pub(crate) expected_policy: Option<u64>,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    host_data_differs: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    debug_allowed: Option<bool>,
    digests_tried: u64,
}

impl Answer {
    pub(crate) fn to_json(&self) -> AnswerJson {
        let words = |found: &Option<Match>| {
            found
                .as_ref()
                .map(|found| found.differences.iter().map(ToString::to_string).collect())
        };
        AnswerJson {
            computed: self.computed,
            expected: self.expected,
            actual: self.actual,
            same: self.expected == self.actual,
            expected_differences: words(&self.expected_match),
            actual_differences: words(&self.actual_match),
            host_data_differs: self.reported.as_ref().and_then(Reported::host_data_differs),
            debug_allowed: self
                .reported
                .as_ref()
                .map(|reported| reported.policy.debug_allowed()),
            digests_tried: self.tried.digests,
        }
    }

    pub(crate) fn to_text(&self) -> String {
        let mut text = Text::default();
        text.line(format_args!("expected  {}", self.expected));
        text.line(format_args!("actual    {}", self.actual));
        text.line(format_args!("inputs    {}", self.computed));
        text.heading("Launch digest");
        if self.expected == self.actual {
            text.line(format_args!("  The actual digest is the expected one."));
        }
        let words = |found: &Option<Match>| match found {
            Some(found) => found.to_string(),
            None => "matches nothing that was tried".to_owned(),
        };
        let expected = words(&self.expected_match);
        text.line(format_args!("  The expected digest {expected}."));
        if self.expected != self.actual {
            let actual = words(&self.actual_match);
            text.line(format_args!("  The actual digest {actual}."));
        }
        if self.expected_match.is_none() || self.actual_match.is_none() {
            tried(&self.tried, &mut text);
        }
        if let Some(reported) = &self.reported {
            reported.write(&mut text);
        }
        text.into()
    }
}

fn tried(tried: &Tried, text: &mut Text) {
    text.heading("Tried");
    text.line(format_args!("  1 to {} vCPUs", tried.max_vcpus));
    let cpus: Vec<_> = tried.cpus.iter().map(|cpu| cpu.name.as_str()).collect();
    text.line(format_args!(
        "  CPU models {}, and all others of the same signatures",
        cpus.join(", ")
    ));
    let features: Vec<_> = tried
        .guest_features
        .iter()
        .map(|features| format!("{features:#x}"))
        .collect();
    text.line(format_args!("  guest features {}", features.join(", ")));
    text.line(format_args!(
        "  {} combinations of firmware, kernel, initrd and command line: each parameter removed; \
         each of these added or in place of another: {}{}",
        tried.combinations,
        tried.parameters.join(" "),
        if tried.cut_off {
            "; more were possible"
        } else {
            ""
        }
    ));
    let candidates = match tried.candidates.as_slice() {
        [] => "none given (--candidate FILE)".to_owned(),
        names => names.join(", "),
    };
    text.line(format_args!("  candidates: {candidates}"));
    text.line(format_args!("  {} digests in all", tried.digests));
}

impl Reported {
    fn host_data_differs(&self) -> Option<bool> {
        self.expected_host_data
            .map(|expected| expected != self.host_data)
    }

    fn write(&self, text: &mut Text) {
        text.heading("HOST_DATA");
        text.line(format_args!("  reported  {}", hex::encode(self.host_data)));
        match self.expected_host_data {
            None => text.line(format_args!("  Not compared: give --initdata.")),
            Some(expected) if expected == self.host_data => {
                text.line(format_args!("  It is that of the inputs."));
            }
            Some(expected) => {
                text.line(format_args!("  inputs    {}", hex::encode(expected)));
                text.line(format_args!(
                    "  {}",
                    different_host_data(expected, self.host_data)
                ));
            }
        }
        text.heading("Guest policy");
        text.line(format_args!("  reported  {:#x}", self.policy.0));
        if let Some(expected) = self
            .expected_policy
            .filter(|expected| *expected != self.policy.0)
        {
            text.line(format_args!("  inputs    {expected:#x}"));
        }
        if self.policy.debug_allowed() {
            text.line(format_args!(
                "  It lets the host read and change the guest's memory (debug bit)."
            ));
        }
    }
}

fn different_host_data(expected: [u8; 32], reported: [u8; 32]) -> &'static str {
    const NONE: [u8; 32] = [0; 32];
    match (expected, reported) {
        (_, NONE) => {
            "The guest was launched without initdata: see that containerd passes the annotation \
             (pod_annotations)."
        }
        (NONE, _) => "The guest was launched with initdata, the inputs have none.",
        _ => "The guest was launched with other initdata.",
    }
}
