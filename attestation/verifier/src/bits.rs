//! The bits of guest policy and platform information against the rules.

use redoubt_evidence::SnpReport;

use crate::claims::ClaimList;
use crate::expect::Expectations;
use crate::name::ClaimName;
use crate::report::RULES;

/// A bit of the guest policy or of the platform, and what is asked of it.
struct BitRule {
    name: ClaimName,
    /// What is asked for; nothing if any value will do.
    wanted: Option<bool>,
    seen: bool,
    /// The words for a bit that is set, and for one that is not.
    words: (&'static str, &'static str),
}

impl BitRule {
    fn in_words(&self, bit: bool) -> &'static str {
        if bit { self.words.0 } else { self.words.1 }
    }

    fn check(&self, claims: &mut ClaimList) {
        let seen = self.in_words(self.seen).to_owned();
        match self.wanted {
            Some(wanted) => {
                let expected = self.in_words(wanted).to_owned();
                claims.check(self.name, expected, seen, RULES, self.seen == wanted);
            }
            None => claims.check(self.name, "any".to_owned(), seen, RULES, true),
        }
    }
}

const ALLOWED: (&str, &str) = ("allowed", "not allowed");
const REQUIRED: (&str, &str) = ("required", "not required");
const ON: (&str, &str) = ("on", "off");

pub(crate) fn check_policy(report: &SnpReport, expected: &Expectations, claims: &mut ClaimList) {
    let (rules, policy) = (expected.policy, report.policy());
    // What is forbidden must be clear; what is required must be set; else any value will do.
    let forbid = |name, allowed: bool, seen| BitRule {
        name,
        wanted: (!allowed).then_some(false),
        seen,
        words: ALLOWED,
    };
    let require = |name, required: bool, seen| BitRule {
        name,
        wanted: required.then_some(true),
        seen,
        words: REQUIRED,
    };
    let bits = [
        forbid(
            ClaimName::DebugPolicy,
            rules.allow_debug,
            policy.debug_allowed(),
        ),
        forbid(
            ClaimName::MigrationPolicy,
            rules.allow_migration_agent,
            policy.migration_agent_allowed(),
        ),
        forbid(ClaimName::SmtPolicy, rules.allow_smt, policy.smt_allowed()),
        require(
            ClaimName::SingleSocketPolicy,
            rules.require_single_socket,
            policy.single_socket_required(),
        ),
        forbid(ClaimName::CxlPolicy, rules.allow_cxl, policy.cxl_allowed()),
        require(
            ClaimName::Aes256XtsPolicy,
            rules.require_aes_256_xts,
            policy.aes_256_xts_required(),
        ),
        require(
            ClaimName::RaplPolicy,
            rules.require_rapl_disabled,
            policy.rapl_must_be_disabled(),
        ),
        require(
            ClaimName::CiphertextHidingPolicy,
            rules.require_ciphertext_hiding,
            policy.ciphertext_hiding_required(),
        ),
        require(
            ClaimName::PageSwapPolicy,
            rules.require_page_swap_disabled,
            policy.page_swap_disabled(),
        ),
    ];
    for bit in &bits {
        bit.check(claims);
    }
    if let Some((major, minor)) = rules.minimum_abi {
        let seen = (policy.abi_major(), policy.abi_minor());
        claims.check(
            ClaimName::AbiPolicy,
            format!("at least {major}.{minor}"),
            format!("{}.{}", seen.0, seen.1),
            RULES,
            seen >= (major, minor),
        );
    }
    check_reserved(report, claims);
}

/// A bit without a meaning may be a permission of a later firmware.
fn check_reserved(report: &SnpReport, claims: &mut ClaimList) {
    let (policy, key_info) = (report.policy(), report.key_info());
    let good = policy.reserved_one() && policy.unknown_bits() == 0 && key_info.unknown_bits() == 0;
    let seen = if good {
        "as specified".to_owned()
    } else {
        format!("policy {policy}, key information {key_info}")
    };
    claims.check(
        ClaimName::ReservedBits,
        "as specified".to_owned(),
        seen,
        "AMD 56860",
        good,
    );
}

pub(crate) fn check_platform(report: &SnpReport, expected: &Expectations, claims: &mut ClaimList) {
    let (rules, info) = (expected.platform, report.platform_info());
    let rule = |name, wanted: Option<bool>, seen| BitRule {
        name,
        wanted,
        seen,
        words: ON,
    };
    let on = |required: bool| required.then_some(true);
    let off = |required: bool| required.then_some(false);
    let bits = [
        rule(
            ClaimName::PlatformSmt,
            off(rules.require_smt_disabled),
            info.smt_enabled(),
        ),
        rule(
            ClaimName::PlatformTsme,
            on(rules.require_tsme),
            info.tsme_enabled(),
        ),
        rule(
            ClaimName::PlatformEcc,
            on(rules.require_ecc),
            info.ecc_enabled(),
        ),
        rule(
            ClaimName::PlatformRapl,
            off(rules.require_rapl_disabled),
            !info.rapl_disabled(),
        ),
        rule(
            ClaimName::PlatformCiphertextHiding,
            on(rules.require_ciphertext_hiding),
            info.ciphertext_hiding_enabled(),
        ),
    ];
    for bit in &bits {
        bit.check(claims);
    }
}
