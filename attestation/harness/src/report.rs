//! The outcome of a run, for people and machines.

use std::fmt;
use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use crate::case::{Row, Target};

/// What came of one case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CaseResult {
    /// What it was about.
    pub row: Row,
    /// What was special about it.
    pub name: &'static str,
    /// Whom it was put to.
    pub target: Target,
    /// What had to come of it.
    pub expected: String,
    /// What came of it.
    pub observed: String,
    /// Whether these agree.
    pub passed: bool,
    /// How long it took, in milliseconds.
    pub elapsed_ms: u64,
}

/// What came of all cases.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// One by one.
    pub cases: Vec<CaseResult>,
}

impl Report {
    /// How many came out as they must.
    pub fn passed(&self) -> usize {
        self.cases.iter().filter(|case| case.passed).count()
    }

    /// Those that did not.
    pub fn failed(&self) -> impl Iterator<Item = &CaseResult> {
        self.cases.iter().filter(|case| !case.passed)
    }

    /// JSON with the numbers of each outcome.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "passed": self.passed(),
            "failed": self.failed().count(),
            "cases": self.cases,
        })
    }

    /// XML as `JUnit` writes it: a test suite for each row.
    pub fn to_junit(&self) -> String {
        let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
        for row in Row::ALL {
            let cases: Vec<&CaseResult> =
                self.cases.iter().filter(|case| case.row == row).collect();
            if cases.is_empty() {
                continue;
            }
            let failures = cases.iter().filter(|case| !case.passed).count();
            // Writing to a `String` cannot fail.
            let _ = writeln!(
                xml,
                "  <testsuite name=\"{row}\" tests=\"{}\" failures=\"{failures}\">",
                cases.len()
            );
            for case in cases {
                write_case(&mut xml, case);
            }
            xml.push_str("  </testsuite>\n");
        }
        xml.push_str("</testsuites>\n");
        xml
    }
}

fn write_case(xml: &mut String, case: &CaseResult) {
    let seconds = Duration::from_millis(case.elapsed_ms).as_secs_f64();
    let open = format!(
        "    <testcase classname=\"redoubt-harness.{}\" name=\"{}\" time=\"{seconds:.3}\"",
        case.row,
        escaped(case.name)
    );
    // Writing to a `String` cannot fail.
    let _ = if case.passed {
        writeln!(xml, "{open}/>")
    } else {
        writeln!(
            xml,
            "{open}>\n      <failure message=\"expected: {}\">{}</failure>\n    </testcase>",
            escaped(&case.expected),
            escaped(&case.observed)
        )
    };
}

/// Text for XML; characters that XML cannot hold are left out.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            other if other.is_control() => out.push(' '),
            other => out.push(other),
        }
    }
    out
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for row in Row::ALL {
            let cases: Vec<&CaseResult> =
                self.cases.iter().filter(|case| case.row == row).collect();
            if cases.is_empty() {
                continue;
            }
            let good = cases.iter().filter(|case| case.passed).count();
            writeln!(f, "{row:<15} {good} of {} as expected", cases.len())?;
        }
        for case in self.failed() {
            writeln!(f, "\n{}/{}", case.row, case.name)?;
            writeln!(f, "  expected: {}", case.expected)?;
            let observed = redoubt_errors::flatten(&case.observed);
            writeln!(f, "  observed: {observed}")?;
        }
        writeln!(f, "\n{} of {} cases", self.passed(), self.cases.len())
    }
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;

    fn report() -> Report {
        let case = |name, passed, observed: &str| CaseResult {
            row: Row::SnpPolicy,
            name,
            target: Target::Broker,
            expected: "refused with RDT-KBS-006".to_owned(),
            observed: observed.to_owned(),
            passed,
            elapsed_ms: 1500,
        };
        Report {
            cases: vec![
                case("debug", true, "refused [RDT-KBS-006]"),
                case("migration", false, "accepted <&\"\u{1}>"),
            ],
        }
    }

    #[test]
    fn a_failure_is_told_with_what_was_expected() {
        assert_snapshot!(report(), @r#"
        snp-policy      1 of 2 as expected

        snp-policy/migration
          expected: refused with RDT-KBS-006
          observed: accepted <&" >

        1 of 2 cases
        "#);
    }

    #[test]
    fn junit_holds_every_case_and_no_stray_markup() {
        assert_snapshot!(report().to_junit(), @r#"
        <?xml version="1.0" encoding="UTF-8"?>
        <testsuites>
          <testsuite name="snp-policy" tests="2" failures="1">
            <testcase classname="redoubt-harness.snp-policy" name="debug" time="1.500"/>
            <testcase classname="redoubt-harness.snp-policy" name="migration" time="1.500">
              <failure message="expected: refused with RDT-KBS-006">accepted &lt;&amp;&quot; &gt;</failure>
            </testcase>
          </testsuite>
        </testsuites>
        "#);
    }

    #[test]
    fn json_counts_outcomes() {
        let json = report().to_json();
        assert_eq!(json["passed"], 1);
        assert_eq!(json["failed"], 1);
        assert_eq!(json["cases"][1]["row"], "snp-policy");
    }
}
