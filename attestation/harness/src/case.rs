//! Cases: what is tried, and what must come of it.

use std::fmt;
use std::pin::Pin;

use serde::Serialize;

use crate::broker::BrokerClient;
use crate::error::HarnessError;
use crate::site::Site;

/// The part of attestation that a case is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Row {
    /// The signature on an SEV-SNP report.
    SnpSignature,
    /// Certificates of an SEV-SNP report.
    SnpChain,
    /// TCB and chip of certificate and report.
    SnpTcb,
    /// Guest policy, VMPL and the data of host and guest.
    SnpPolicy,
    /// Layout and version of a report.
    SnpVersion,
    /// A TDX quote.
    TdxQuote,
    /// Intel's documents about a platform.
    TdxCollateral,
    /// Event logs.
    EventLog,
    /// The binding of evidence to a session.
    Binding,
    /// Resources encrypted to the guest's key.
    Jwe,
    /// Attestation tokens.
    Token,
    /// Initdata.
    Initdata,
    /// What is released to whom.
    Release,
}

impl Row {
    /// Every row.
    pub const ALL: [Self; 13] = [
        Self::SnpSignature,
        Self::SnpChain,
        Self::SnpTcb,
        Self::SnpPolicy,
        Self::SnpVersion,
        Self::TdxQuote,
        Self::TdxCollateral,
        Self::EventLog,
        Self::Binding,
        Self::Jwe,
        Self::Token,
        Self::Initdata,
        Self::Release,
    ];

    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::SnpSignature => "snp-signature",
            Self::SnpChain => "snp-chain",
            Self::SnpTcb => "snp-tcb",
            Self::SnpPolicy => "snp-policy",
            Self::SnpVersion => "snp-version",
            Self::TdxQuote => "tdx-quote",
            Self::TdxCollateral => "tdx-collateral",
            Self::EventLog => "event-log",
            Self::Binding => "binding",
            Self::Jwe => "jwe",
            Self::Token => "token",
            Self::Initdata => "initdata",
            Self::Release => "release",
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Whom a case is put to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// Redoubt's own verifiers and readers, in this process.
    Verifier,
    /// A key broker, over HTTP.
    Broker,
}

/// Where a broker refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Evidence is read and judged; at a broker, `POST /attest`.
    Evidence,
    /// A resource is asked for.
    Resource,
}

/// What must come of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// It is accepted.
    Accepted,
    /// It is refused at this step. The code is that of Redoubt: of an error, of
    /// a broker's refusal, or the name of the claim that fails; of another
    /// broker only the step counts.
    Refused(Step, &'static str),
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accepted => f.write_str("accepted"),
            Self::Refused(Step::Evidence, code) => write!(f, "refused with {code}"),
            Self::Refused(Step::Resource, code) => {
                write!(f, "no resource is released, with {code}")
            }
        }
    }
}

/// What came of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observed {
    /// It was accepted.
    Accepted,
    /// It was refused.
    Refused {
        /// Where.
        step: Step,
        /// Codes of errors or names of failed claims; none where a broker of
        /// another make tells none.
        codes: Vec<String>,
        /// In words.
        detail: String,
    },
    /// A broker failed, or answered something that is neither.
    Broken(String),
}

impl Observed {
    /// A refusal of evidence.
    pub(crate) fn refused(codes: Vec<String>, detail: impl Into<String>) -> Self {
        Self::Refused {
            step: Step::Evidence,
            codes,
            detail: detail.into(),
        }
    }

    /// Whether this is what must be.
    pub fn satisfies(&self, expected: Expected) -> bool {
        match (expected, self) {
            (Expected::Accepted, Self::Accepted) => true,
            (Expected::Refused(at, code), Self::Refused { step, codes, .. }) => {
                at == *step && (codes.is_empty() || codes.iter().any(|seen| seen == code))
            }
            _ => false,
        }
    }
}

impl fmt::Display for Observed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accepted => f.write_str("accepted"),
            Self::Refused {
                step,
                codes,
                detail,
            } => {
                let step = match step {
                    Step::Evidence => "refused",
                    Step::Resource => "no resource",
                };
                write!(f, "{step} [{}] {detail}", codes.join(", "))
            }
            Self::Broken(detail) => write!(f, "neither: {detail}"),
        }
    }
}

pub(crate) type Outcome = Result<Observed, HarnessError>;
type BrokerFuture<'a> = Pin<Box<dyn Future<Output = Outcome> + Send + 'a>>;
type LocalRun = Box<dyn Fn(&Site) -> Outcome + Send + Sync>;
type BrokerRun = Box<dyn for<'a> Fn(&'a Site, &'a BrokerClient) -> BrokerFuture<'a> + Send + Sync>;

pub(crate) enum Run {
    Local(LocalRun),
    Broker(BrokerRun),
}

/// One case.
pub struct Case {
    /// What it is about.
    pub row: Row,
    /// What is special about it.
    pub name: &'static str,
    /// What must come of it.
    pub expected: Expected,
    pub(crate) run: Run,
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.row, self.name)
    }
}

impl Case {
    /// Whom it is put to.
    pub fn target(&self) -> Target {
        match self.run {
            Run::Local(_) => Target::Verifier,
            Run::Broker(_) => Target::Broker,
        }
    }

    pub(crate) fn local(
        row: Row,
        name: &'static str,
        expected: Expected,
        run: impl Fn(&Site) -> Outcome + Send + Sync + 'static,
    ) -> Self {
        Self {
            row,
            name,
            expected,
            run: Run::Local(Box::new(run)),
        }
    }

    pub(crate) fn broker(
        row: Row,
        name: &'static str,
        expected: Expected,
        run: impl for<'a> Fn(&'a Site, &'a BrokerClient) -> BrokerFuture<'a> + Send + Sync + 'static,
    ) -> Self {
        Self {
            row,
            name,
            expected,
            run: Run::Broker(Box::new(run)),
        }
    }
}
