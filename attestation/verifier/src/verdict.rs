//! The outcome of a verification, as data.

use std::fmt;

use serde::Serialize;

use crate::error::VerifierError;
use crate::name::ClaimName;

/// The three outcomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Authentic, and everything that says what runs in the guest, with which
    /// configuration and for whom, is as expected (see [`Requirements`]).
    Verified,
    /// Authentic and nothing contradicts, but one of those had no expectation.
    PartiallyVerified,
    /// Not authentic, or something is not as expected.
    NotVerified,
}

impl State {
    /// The exit code of a command that ends with this state.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Verified => 0,
            Self::PartiallyVerified => 10,
            Self::NotVerified => 20,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Verified => "verified",
            Self::PartiallyVerified => "partially verified",
            Self::NotVerified => "not verified",
        })
    }
}

/// Whether one claim holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// As expected.
    Passed,
    /// Not as expected.
    Failed,
    /// Nobody said what to expect, or an earlier failure left nothing to check.
    NotChecked,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::NotChecked => "not checked",
        })
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Claim {
    /// What it is about.
    pub name: ClaimName,
    /// What was expected.
    pub expected: String,
    /// What the evidence says.
    pub seen: String,
    /// Where the expectation came from.
    pub source: String,
    /// Whether it holds.
    pub status: Status,
}

impl Claim {
    /// Expectation and observation in words, without repeating what is equal.
    fn in_words(&self) -> String {
        let Self {
            expected,
            seen,
            source,
            ..
        } = self;
        match self.status {
            Status::Passed if expected == seen => format!("{seen} [{source}]"),
            Status::Passed => format!("{seen}, expected {expected} [{source}]"),
            Status::Failed => format!("{seen}, but expected {expected} [{source}]"),
            Status::NotChecked => format!("{seen} ({expected})"),
        }
    }
}

/// The outcome: state, claims, and what is not proven.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// The state that follows from the claims.
    pub state: State,
    /// Whether the chain ends in a simulated root, given by hand.
    pub simulated: bool,
    /// Every claim, in the order of checking.
    pub claims: Vec<Claim>,
    /// What this verdict does not prove, in words.
    pub not_proven: Vec<String>,
}

impl Verdict {
    /// Draws the conclusion from the claims.
    pub fn of(claims: Vec<Claim>, requirements: Requirements, simulated: bool) -> Self {
        let state = state_of(&claims, requirements);
        let not_proven = not_proven(&claims, state, simulated);
        Self {
            state,
            simulated,
            claims,
            not_proven,
        }
    }

    /// The claim of this name, if it was looked at.
    pub fn claim(&self, name: ClaimName) -> Option<&Claim> {
        self.claims.iter().find(|claim| claim.name == name)
    }

    /// Whether the claim of this name was checked and holds.
    pub fn passed(&self, name: ClaimName) -> bool {
        self.claim(name)
            .is_some_and(|claim| claim.status == Status::Passed)
    }

    /// The claims that do not hold.
    pub fn failed(&self) -> impl Iterator<Item = &Claim> {
        self.claims
            .iter()
            .filter(|claim| claim.status == Status::Failed)
    }

    /// An error that names the first failed (else the first unchecked, needed)
    /// claim, unless the state is [`State::Verified`].
    pub fn require_verified(&self) -> Result<(), VerifierError> {
        self.require(State::Verified)
    }

    /// An error unless the evidence is authentic and nothing contradicts.
    pub fn require_not_contradicted(&self) -> Result<(), VerifierError> {
        self.require(State::PartiallyVerified)
    }

    fn require(&self, least: State) -> Result<(), VerifierError> {
        if self.state == State::Verified || self.state == least {
            return Ok(());
        }
        let needed = [Requirements::SNP.content, Requirements::TDX.content].concat();
        let missing =
            |claim: &&Claim| needed.contains(&claim.name) && claim.status == Status::NotChecked;
        let culprit = self
            .failed()
            .next()
            .or_else(|| self.claims.iter().find(missing));
        let (claim, expected, seen) = culprit.map_or_else(
            || (ClaimName::Signature, String::new(), String::new()),
            |claim| (claim.name, claim.expected.clone(), claim.seen.clone()),
        );
        Err(VerifierError::NotVerified {
            state: self.state,
            claim,
            expected,
            seen,
        })
    }
}

/// Which claims the state hangs on. A claim that fails always counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Requirements {
    /// Claims without which nothing else counts.
    pub authentic: &'static [ClaimName],
    /// Claims that must have passed for [`State::Verified`].
    pub content: &'static [ClaimName],
}

impl Requirements {
    /// What SEV-SNP evidence must show.
    pub const SNP: Self = Self {
        authentic: &[
            ClaimName::SigningKey,
            ClaimName::CertificateChain,
            ClaimName::CertificateValidity,
            ClaimName::Product,
            ClaimName::CertificateTcb,
            ClaimName::Signature,
        ],
        content: &[
            ClaimName::LaunchDigest,
            ClaimName::HostData,
            ClaimName::ReportData,
        ],
    };

    /// What TDX evidence must show.
    pub const TDX: Self = Self {
        authentic: &[
            ClaimName::CollateralValidity,
            ClaimName::QuoteSignature,
            ClaimName::TcbStatus,
        ],
        content: &[
            ClaimName::Mrtd,
            ClaimName::Rtmr0,
            ClaimName::Rtmr1,
            ClaimName::Rtmr2,
            ClaimName::MrConfigId,
            ClaimName::ReportData,
        ],
    };
}

fn state_of(claims: &[Claim], requirements: Requirements) -> State {
    let passed = |name: &ClaimName| {
        claims
            .iter()
            .any(|claim| claim.name == *name && claim.status == Status::Passed)
    };
    let failed = claims.iter().any(|claim| claim.status == Status::Failed);
    if failed || !requirements.authentic.iter().all(passed) {
        State::NotVerified
    } else if requirements.content.iter().all(passed) {
        State::Verified
    } else {
        State::PartiallyVerified
    }
}

fn not_proven(claims: &[Claim], state: State, simulated: bool) -> Vec<String> {
    let mut open: Vec<String> = Vec::new();
    if state == State::NotVerified {
        open.push("anything: the evidence is not verified".to_owned());
    }
    if simulated {
        open.push("that hardware protects the guest: the TEE is simulated".to_owned());
    }
    for claim in claims
        .iter()
        .filter(|claim| claim.status == Status::NotChecked)
    {
        if let Some(text) = claim.name.left_open()
            && !open.iter().any(|known| known == text)
        {
            open.push(text.to_owned());
        }
    }
    open.push("that the workload, its image and its policy are free of faults".to_owned());
    open.push("that the guest is available: a host can always stop it".to_owned());
    open
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let simulated = if self.simulated {
            " (simulated TEE)"
        } else {
            ""
        };
        writeln!(f, "{}{simulated}", self.state)?;
        for claim in &self.claims {
            let status = claim.status.to_string();
            writeln!(
                f,
                "  {status:<11}  {:<20}  {}",
                claim.name.words(),
                claim.in_words()
            )?;
        }
        writeln!(f, "not proven:")?;
        for text in &self.not_proven {
            writeln!(f, "  - {text}")?;
        }
        Ok(())
    }
}
