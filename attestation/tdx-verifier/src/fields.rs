//! The quote's own fields against what was expected.

use redoubt_evidence::tdx::TdxQuote;
use redoubt_verifier::{ClaimList, ClaimName};

use crate::expect::TdxExpectations;

/// The source of expectations that this crate makes where nobody gave one.
pub(crate) const RULES: &str = "verification rules";

/// Everything that the TD report says.
pub(crate) fn check(quote: &TdxQuote, expected: &TdxExpectations, claims: &mut ClaimList) {
    check_attributes(quote, expected, claims);
    check_service_td(quote, expected, claims);
    let report = quote.report();
    claims.check_set(ClaimName::MrSeam, &expected.mr_seam, &report.mr_seam);
    claims.check_set(
        ClaimName::Xfam,
        &expected.xfam,
        &report.xfam.get().to_le_bytes(),
    );
    claims.check_set(ClaimName::Mrtd, &expected.mrtd, &report.mr_td);
    let names = [
        ClaimName::Rtmr0,
        ClaimName::Rtmr1,
        ClaimName::Rtmr2,
        ClaimName::Rtmr3,
    ];
    let registers = names.into_iter().zip(&expected.rtmrs).zip(&report.rtmrs);
    for ((name, references), rtmr) in registers {
        claims.check_set(name, references, rtmr);
    }
    claims.check_set(
        ClaimName::MrConfigId,
        &expected.mr_config_id,
        &report.mr_config_id,
    );
    claims.check_set(ClaimName::MrOwner, &expected.mr_owner, &report.mr_owner);
    claims.check_set(
        ClaimName::MrOwnerConfig,
        &expected.mr_owner_config,
        &report.mr_owner_config,
    );
    claims.check_set(
        ClaimName::ReportData,
        &expected.report_data,
        &report.report_data,
    );
}

fn check_attributes(quote: &TdxQuote, expected: &TdxExpectations, claims: &mut ClaimList) {
    let (attributes, rules) = (quote.attributes(), expected.attributes);
    let mut rule = |name, wanted: &str, seen: &str, good| {
        claims.check(name, wanted.to_owned(), seen.to_owned(), RULES, good);
    };
    let open = attributes.debug() || attributes.profiling();
    rule(
        ClaimName::DebugPolicy,
        if rules.allow_debug { "any" } else { "off" },
        match (attributes.debug(), attributes.profiling()) {
            (true, _) => "debug",
            (false, true) => "profiling",
            (false, false) => "off",
        },
        rules.allow_debug || !open,
    );
    let migratable = attributes.migratable();
    rule(
        ClaimName::MigrationPolicy,
        "not allowed",
        if migratable { "allowed" } else { "not allowed" },
        !migratable,
    );
    // Without it the host can make the guest take exceptions on memory that it removed.
    let disabled = attributes.sept_ve_disabled();
    rule(
        ClaimName::SeptVeDisable,
        "set",
        if disabled { "set" } else { "not set" },
        disabled,
    );
    let monitored = attributes.performance_monitoring() && !rules.allow_performance_monitoring;
    let good = attributes.reserved_bits() == 0 && !monitored;
    rule(
        ClaimName::TdAttributes,
        if rules.allow_performance_monitoring {
            "no reserved bit"
        } else {
            "no reserved bit, no performance monitoring"
        },
        &attributes.to_string(),
        good,
    );
}

fn check_service_td(quote: &TdxQuote, expected: &TdxExpectations, claims: &mut ClaimList) {
    let bound = quote
        .report_15()
        .is_some_and(|report| report.mr_service_td != [0; 48])
        || quote.attributes().service_td_extension();
    let allowed = expected.attributes.allow_service_td;
    claims.check(
        ClaimName::ServiceTd,
        if allowed { "any" } else { "none" }.to_owned(),
        if bound { "bound" } else { "none" }.to_owned(),
        RULES,
        allowed || !bound,
    );
}
