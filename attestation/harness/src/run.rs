//! Running cases.

use std::time::{Duration, Instant};

use crate::broker::BrokerClient;
use crate::case::{Case, Row, Run, Target};
use crate::error::HarnessError;
use crate::report::{CaseResult, Report};
use crate::site::Site;
use crate::{broker, log, snp, tdx, wire};

/// Which cases to run.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Those of these rows; all without one.
    pub rows: Vec<Row>,
    /// Those that are put to this target; all without one.
    pub target: Option<Target>,
    /// How long the broker's sessions last. With it, one case waits for so long
    /// and answers a challenge that has ended.
    pub session_lifetime: Option<Duration>,
}

impl Selection {
    fn holds(&self, case: &Case) -> bool {
        (self.rows.is_empty() || self.rows.contains(&case.row))
            && self.target.is_none_or(|target| target == case.target())
    }
}

/// Every case there is.
fn all(selection: &Selection) -> Vec<Case> {
    let mut cases = snp::cases();
    cases.extend(tdx::cases());
    cases.extend(log::cases());
    cases.extend(wire::cases());
    cases.extend(broker::cases());
    cases.extend(selection.session_lifetime.map(broker::ended_session));
    cases
}

/// Runs the selected cases, one after the other.
pub async fn run(site: &Site, client: &BrokerClient, selection: &Selection) -> Report {
    let mut report = Report::default();
    for case in all(selection).iter().filter(|case| selection.holds(case)) {
        let start = Instant::now();
        let outcome = match &case.run {
            Run::Local(run) => run(site),
            Run::Broker(run) => run(site, client).await,
        };
        let elapsed_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        let (passed, observed) = match outcome {
            Ok(observed) => (observed.satisfies(case.expected), observed.to_string()),
            Err(error) => (false, in_words(&error)),
        };
        report.cases.push(CaseResult {
            row: case.row,
            name: case.name,
            target: case.target(),
            expected: case.expected.to_string(),
            observed,
            passed,
            elapsed_ms,
        });
    }
    report
}

fn in_words(error: &HarnessError) -> String {
    redoubt_errors::OneLine(error).to_string()
}
