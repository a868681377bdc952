//! The report's own fields against what was expected.

use redoubt_evidence::{SnpReport, TcbVersion};

use crate::bits::{check_platform, check_policy};
use crate::claims::ClaimList;
use crate::expect::{Expectations, ReportVersions};
use crate::name::ClaimName;

/// The source of expectations that this crate makes where nobody gave one.
pub(crate) const RULES: &str = "verification rules";

/// Which report layouts are accepted.
pub(crate) fn check_version(report: &SnpReport, expected: &Expectations, claims: &mut ClaimList) {
    let (words, accepted): (&str, &[u32]) = match expected.report_versions {
        ReportVersions::Current => ("3 or 5", &[3, 5]),
        ReportVersions::WithVersion2 => ("2, 3 or 5", &[2, 3, 5]),
    };
    let number = report.version().number();
    let good = accepted.contains(&number);
    claims.check(
        ClaimName::ReportVersion,
        words.to_owned(),
        number.to_string(),
        RULES,
        good,
    );
}

/// Everything that the report says about guest and platform.
pub(crate) fn check_fields(report: &SnpReport, expected: &Expectations, claims: &mut ClaimList) {
    check_minimum(
        ClaimName::ReportedTcb,
        expected.minimum_tcb.reported,
        report.reported_tcb(),
        claims,
    );
    check_minimum(
        ClaimName::CommittedTcb,
        expected.minimum_tcb.committed,
        report.committed_tcb(),
        claims,
    );
    check_minimum(
        ClaimName::LaunchTcb,
        expected.minimum_tcb.launch,
        report.launch_tcb(),
        claims,
    );
    check_vmpl(report, expected, claims);
    check_policy(report, expected, claims);
    check_alias(report, expected, claims);
    check_platform(report, expected, claims);
    claims.check_set(
        ClaimName::LaunchDigest,
        &expected.launch_digests,
        report.launch_digest(),
    );
    claims.check_set(ClaimName::HostData, &expected.host_data, report.host_data());
    claims.check_set(
        ClaimName::ReportData,
        &expected.report_data,
        report.report_data(),
    );
    claims.check_set(ClaimName::ChipId, &expected.chip_ids, report.chip_id());
    claims.check_set(
        ClaimName::IdKeyDigest,
        &expected.id_key_digests,
        report.id_key_digest(),
    );
    check_author_key(report, expected, claims);
    check_guest_svn(report, expected, claims);
}

fn check_minimum(
    name: ClaimName,
    minimum: Option<TcbVersion>,
    seen: TcbVersion,
    claims: &mut ClaimList,
) {
    match minimum {
        None => claims.unchecked_seen(name, "no minimum given", seen.to_string()),
        Some(minimum) => {
            let good = seen.at_least(&minimum);
            let expected = format!("at least {minimum}");
            claims.check(name, expected, seen.to_string(), "minimum TCB", good);
        }
    }
}

fn check_vmpl(report: &SnpReport, expected: &Expectations, claims: &mut ClaimList) {
    let words = match expected.maximum_vmpl {
        0 => "0".to_owned(),
        maximum => format!("at most {maximum}"),
    };
    let good = report.vmpl() <= expected.maximum_vmpl;
    claims.check(
        ClaimName::Vmpl,
        words,
        report.vmpl().to_string(),
        RULES,
        good,
    );
}

fn check_alias(report: &SnpReport, expected: &Expectations, claims: &mut ClaimList) {
    let complete = report.platform_info().alias_check_complete();
    let seen = if complete { "complete" } else { "not complete" }.to_owned();
    let required = expected.platform.require_alias_check;
    if required || complete {
        let words = if required { "complete" } else { "any" };
        claims.check(
            ClaimName::AliasCheck,
            words.to_owned(),
            seen,
            RULES,
            complete,
        );
    } else {
        claims.unchecked_seen(ClaimName::AliasCheck, "not required", seen);
    }
}

fn check_guest_svn(report: &SnpReport, expected: &Expectations, claims: &mut ClaimList) {
    if let Some(minimum) = expected.minimum_guest_svn {
        let seen = report.guest_svn();
        claims.check(
            ClaimName::GuestSvn,
            format!("at least {minimum}"),
            seen.to_string(),
            RULES,
            seen >= minimum,
        );
    }
}

/// An author key digest counts only where the launch used an author key.
fn check_author_key(report: &SnpReport, expected: &Expectations, claims: &mut ClaimList) {
    let name = ClaimName::AuthorKeyDigest;
    if expected.author_key_digests.is_empty() || report.key_info().author_key_enabled() {
        claims.check_set(
            name,
            &expected.author_key_digests,
            report.author_key_digest(),
        );
    } else {
        let words = expected.author_key_digests.in_words();
        claims.check(
            name,
            words,
            "no author key".to_owned(),
            "reference values",
            false,
        );
    }
}
