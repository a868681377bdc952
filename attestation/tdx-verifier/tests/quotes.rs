//! Real quotes under Intel's own collateral of their time, and what is wrong with each other one.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::io::Read as _;

use insta::assert_snapshot;
use redoubt_errors::{OneLine, UserError as _};
use redoubt_event_log::EventLog;
use redoubt_evidence::tdx::{TdxEvidence, TdxQuote};
use redoubt_tdx_verifier::{
    PckInfo, TcbStatus, TdxCollateral, TdxExpectations, TdxVerifierError, Trust, verify,
};
use redoubt_verifier::{
    Bundle, ClaimName, CollateralId, CollateralItem, PckAuthority, ReferenceSet, ReferenceValues,
    State, Verdict,
};
use time::OffsetDateTime;
use time::macros::datetime;

macro_rules! quote {
    ($name:literal) => {
        TdxQuote::parse(include_bytes!(concat!(
            "../../evidence/testdata/tdx/",
            $name
        )))
        .unwrap()
    };
}

const JULY_2025: OffsetDateTime = datetime!(2025-07-01 0:00 UTC);
const FEBRUARY_2026: OffsetDateTime = datetime!(2026-02-20 0:00 UTC);
const APRIL_2026: OffsetDateTime = datetime!(2026-04-01 12:00 UTC);
const SIGNERS: &str = include_str!("../../verifier/testdata/tdx/tcb_signing_chain.pem");

fn item(id: &str, body: &[u8]) -> CollateralItem {
    let id: CollateralId = id.parse().unwrap();
    CollateralItem {
        id,
        body: body.to_vec(),
        issuer_chain: (id != CollateralId::RootCaCrl).then(|| SIGNERS.to_owned()),
        fetched_at: APRIL_2026,
    }
}

fn bundle(items: impl IntoIterator<Item = CollateralItem>) -> Bundle {
    let mut bundle = Bundle::default();
    for item in items {
        bundle.insert(item).unwrap();
    }
    bundle
}

/// Intel's documents on two platforms as of March 2026.
fn spring_2026() -> Bundle {
    bundle([
        item(
            "tdx/tcb-info/50806f000000",
            include_bytes!("../../verifier/testdata/tdx/tcb_info_50806f000000.json"),
        ),
        item(
            "tdx/tcb-info/90c06f000000",
            include_bytes!("../../verifier/testdata/tdx/tcb_info_90c06f000000.json"),
        ),
        item(
            "tdx/qe-identity",
            include_bytes!("../../verifier/testdata/tdx/td_qe_identity.json"),
        ),
        item(
            "tdx/pck-crl/platform",
            include_bytes!("../../verifier/testdata/tdx/pck_crl_platform.der"),
        ),
        item(
            "tdx/root-ca-crl",
            include_bytes!("../../verifier/testdata/tdx/root_ca_crl.der"),
        ),
    ])
}

fn summer_2025() -> TdxCollateral {
    TdxCollateral::parse(include_bytes!("../testdata/tdx_quote_collateral.json")).unwrap()
}

fn winter_2026() -> TdxCollateral {
    TdxCollateral::parse(include_bytes!(
        "../testdata/tdx_quote_outdated_collateral.json"
    ))
    .unwrap()
}

fn judge(
    quote: TdxQuote,
    collateral: &TdxCollateral,
    at: OffsetDateTime,
    expected: &TdxExpectations,
) -> Verdict {
    let evidence = TdxEvidence {
        quote,
        event_log: None,
    };
    verify(&evidence, &Trust::new(Some(collateral), at), expected)
}

fn failed(verdict: &Verdict) -> Vec<ClaimName> {
    verdict.failed().map(|claim| claim.name).collect()
}

fn seen(verdict: &Verdict, name: ClaimName) -> &str {
    &verdict.claim(name).unwrap().seen
}

/// Puts something else into the expectations.
type Change = fn(&mut TdxExpectations, ReferenceSet<48>);

/// Everything that a quote says, as its owner would expect it.
fn all_of(quote: &TdxQuote) -> TdxExpectations {
    let report = quote.report();
    TdxExpectations {
        mrtd: ReferenceSet::one(report.mr_td, "test"),
        rtmrs: report.rtmrs.map(|rtmr| ReferenceSet::one(rtmr, "test")),
        mr_config_id: ReferenceSet::one(report.mr_config_id, "test"),
        mr_owner: ReferenceSet::one(report.mr_owner, "test"),
        mr_owner_config: ReferenceSet::one(report.mr_owner_config, "test"),
        mr_seam: ReferenceSet::one(report.mr_seam, "test"),
        xfam: ReferenceSet::one(report.xfam.get().to_le_bytes(), "test"),
        report_data: ReferenceSet::one(report.report_data, "test"),
        ..TdxExpectations::default()
    }
}

#[test]
fn a_quote_is_authentic_under_the_collateral_of_its_time() {
    let quote = quote!("dcap-qvl-tdx_quote.dat");
    let verdict = judge(
        quote.clone(),
        &summer_2025(),
        JULY_2025,
        &TdxExpectations::default(),
    );
    assert_eq!(verdict.state, State::PartiallyVerified, "{verdict}");
    assert!(!verdict.simulated);
    for name in [
        ClaimName::CollateralValidity,
        ClaimName::Revocation,
        ClaimName::Fmspc,
        ClaimName::QuoteSignature,
        ClaimName::TcbStatus,
    ] {
        assert!(verdict.passed(name), "{name:?}: {verdict}");
    }
    let verdict = judge(quote.clone(), &summer_2025(), JULY_2025, &all_of(&quote));
    assert_eq!(verdict.state, State::Verified, "{verdict}");
}

#[test]
fn the_same_quote_is_refused_before_and_after_its_collateral() {
    let quote = quote!("dcap-qvl-tdx_quote.dat");
    for at in [
        datetime!(2025-06-01 0:00 UTC),
        datetime!(2025-07-19 10:16:04 UTC),
        datetime!(2035-01-01 0:00 UTC),
        OffsetDateTime::UNIX_EPOCH - time::Duration::DAY,
    ] {
        let verdict = judge(quote.clone(), &summer_2025(), at, &all_of(&quote));
        assert_eq!(verdict.state, State::NotVerified);
        let failed = failed(&verdict);
        assert!(failed.contains(&ClaimName::CollateralValidity), "{verdict}");
        assert!(failed.contains(&ClaimName::QuoteSignature), "{verdict}");
    }
}

#[test]
fn a_platform_below_every_level_is_authentic_and_refused() {
    let none = TdxExpectations {
        attributes: redoubt_tdx_verifier::AttributeRules {
            allow_service_td: true,
            ..Default::default()
        },
        ..TdxExpectations::default()
    };
    let spring = |quote: &TdxQuote| TdxCollateral::from_bundle(&spring_2026(), quote).unwrap();
    let outdated = quote!("dcap-qvl-tdx_quote_outdated.dat");
    let five = quote!("tdx_quote_5.dat");
    for (quote, collateral, at) in [
        (outdated.clone(), winter_2026(), FEBRUARY_2026),
        (outdated.clone(), spring(&outdated), APRIL_2026),
        (five.clone(), winter_2026(), FEBRUARY_2026),
        (five.clone(), spring(&five), APRIL_2026),
    ] {
        let verdict = judge(quote, &collateral, at, &none);
        assert_eq!(verdict.state, State::NotVerified);
        assert_eq!(failed(&verdict), [ClaimName::TcbStatus], "{verdict}");
        assert!(verdict.passed(ClaimName::QuoteSignature));
        assert_eq!(
            seen(&verdict, ClaimName::TcbStatus),
            "below every level of the TCB information"
        );
    }
}

#[test]
fn a_td_with_a_service_td_is_refused_unless_it_is_allowed() {
    let quote = quote!("tdx_quote_5.dat");
    let verdict = judge(
        quote,
        &winter_2026(),
        FEBRUARY_2026,
        &TdxExpectations::default(),
    );
    assert_eq!(
        failed(&verdict),
        [ClaimName::TcbStatus, ClaimName::ServiceTd]
    );
}

#[test]
fn a_td_under_debug_is_refused_unless_it_is_allowed() {
    let quote = quote!("tdx_quote_4.dat");
    let collateral = TdxCollateral::from_bundle(&spring_2026(), &quote).unwrap();
    let mut expected = TdxExpectations::default();
    expected.tcb.statuses = vec![TcbStatus::UpToDate, TcbStatus::OutOfDate];
    let verdict = judge(quote.clone(), &collateral, APRIL_2026, &expected);
    assert_eq!(failed(&verdict), [ClaimName::DebugPolicy], "{verdict}");
    expected.attributes.allow_debug = true;
    let verdict = judge(quote.clone(), &collateral, APRIL_2026, &expected);
    assert_eq!(verdict.state, State::PartiallyVerified, "{verdict}");
    // Only what was named is accepted of statuses.
    expected.tcb.statuses = vec![TcbStatus::UpToDate, TcbStatus::SWHardeningNeeded];
    let verdict = judge(quote.clone(), &collateral, APRIL_2026, &expected);
    assert_eq!(failed(&verdict), [ClaimName::TcbStatus]);
    // And no rejected advisory may apply, nor may the documents be too old.
    expected.tcb.statuses = vec![TcbStatus::OutOfDate];
    expected.tcb.rejected_advisories = vec!["intel-sa-00837".to_owned()];
    expected.tcb.minimum_evaluation = Some(19);
    let verdict = judge(quote, &collateral, APRIL_2026, &expected);
    assert_eq!(
        failed(&verdict),
        [ClaimName::TcbAdvisories, ClaimName::TcbEvaluation],
        "{verdict}"
    );
}

#[test]
fn a_td_whose_host_can_inject_exceptions_is_refused() {
    let quote = quote!("go-tdx_prod_quote_SPR_E4.dat");
    let collateral = TdxCollateral::from_bundle(&spring_2026(), &quote).unwrap();
    let verdict = judge(quote.clone(), &collateral, APRIL_2026, &all_of(&quote));
    assert!(verdict.passed(ClaimName::QuoteSignature), "{verdict}");
    assert_eq!(
        failed(&verdict),
        [ClaimName::TcbStatus, ClaimName::SeptVeDisable]
    );
}

#[test]
fn collateral_of_another_platform_is_refused() {
    let quote = quote!("dcap-qvl-tdx_quote.dat");
    let verdict = judge(
        quote.clone(),
        &winter_2026(),
        FEBRUARY_2026,
        &all_of(&quote),
    );
    assert_eq!(
        failed(&verdict),
        [ClaimName::Fmspc, ClaimName::QuoteSignature]
    );
    assert_eq!(seen(&verdict, ClaimName::QuoteSignature), "Fmspc mismatch");
    let error = TdxCollateral::from_bundle(&spring_2026(), &quote).unwrap_err();
    assert_snapshot!(OneLine(&error), @"[RDT-VER-103] the collateral bundle has no tdx/tcb-info/b0c06f000000 (hint: `redoubt collateral export --quote FILE` gets all that a quote needs)");
}

#[test]
fn a_live_quote_is_bound_to_its_log() {
    let quote = quote!("attestation-rs-tdx_quote_live.dat");
    let mut log = Vec::new();
    let packed: &[u8] =
        include_bytes!("../../event-log/testdata/attestation-rs-tdx_ccel_live2.dat.gz");
    flate2::read::GzDecoder::new(packed)
        .read_to_end(&mut log)
        .unwrap();
    let judge = |log: Vec<u8>| {
        let evidence = TdxEvidence {
            quote: quote.clone(),
            event_log: Some(log),
        };
        verify(
            &evidence,
            &Trust::new(None, APRIL_2026),
            &TdxExpectations::default(),
        )
    };
    let verdict = judge(log.clone());
    assert!(verdict.passed(ClaimName::EventLog), "{verdict}");
    // Without collateral nothing is verified, but nothing contradicts either.
    assert_eq!(verdict.state, State::NotVerified);
    assert_eq!(failed(&verdict), []);
    // One bit of the last measured digest.
    let parsed = EventLog::parse(&log).unwrap();
    let digest = parsed.events().last().unwrap().digests[0].bytes;
    let place = log
        .windows(digest.len())
        .rposition(|window| window == digest)
        .unwrap();
    let mut altered = log.clone();
    altered[place] ^= 1;
    assert!(failed(&judge(altered)).contains(&ClaimName::EventLog));
    log.truncate(log.len() / 300);
    assert!(failed(&judge(log)).contains(&ClaimName::EventLog));
    assert!(failed(&judge(Vec::new())).contains(&ClaimName::EventLog));
}

#[test]
fn each_wrong_expectation_is_told_by_name() {
    let quote = quote!("dcap-qvl-tdx_quote.dat");
    let wrong = || ReferenceSet::one([0xEE; 48], "test");
    let changes: [(ClaimName, Change); 12] = [
        (ClaimName::Mrtd, |expected, wrong| expected.mrtd = wrong),
        (ClaimName::Rtmr0, |expected, wrong| {
            expected.rtmrs[0] = wrong;
        }),
        (ClaimName::Rtmr1, |expected, wrong| {
            expected.rtmrs[1] = wrong;
        }),
        (ClaimName::Rtmr2, |expected, wrong| {
            expected.rtmrs[2] = wrong;
        }),
        (ClaimName::Rtmr3, |expected, wrong| {
            expected.rtmrs[3] = wrong;
        }),
        (ClaimName::MrConfigId, |expected, wrong| {
            expected.mr_config_id = wrong;
        }),
        (ClaimName::MrOwner, |expected, wrong| {
            expected.mr_owner = wrong;
        }),
        (ClaimName::MrOwnerConfig, |expected, wrong| {
            expected.mr_owner_config = wrong;
        }),
        (ClaimName::MrSeam, |expected, wrong| {
            expected.mr_seam = wrong;
        }),
        (ClaimName::Xfam, |expected, _| {
            expected.xfam = ReferenceSet::one([1; 8], "test");
        }),
        (ClaimName::ReportData, |expected, _| {
            expected.report_data = ReferenceSet::one([1; 64], "test");
        }),
        (ClaimName::PlatformId, |expected, _| {
            expected.platform_ids = ReferenceSet::one([1; 16], "test");
        }),
    ];
    for (name, change) in changes {
        let mut expected = all_of(&quote);
        change(&mut expected, wrong());
        let verdict = judge(quote.clone(), &summer_2025(), JULY_2025, &expected);
        assert_eq!(verdict.state, State::NotVerified, "{name:?}");
        assert_eq!(failed(&verdict), [name]);
    }
}

#[test]
fn platform_flags_are_judged_where_a_rule_asks() {
    let quote = quote!("dcap-qvl-tdx_quote.dat");
    for (dynamic, cached, smt) in [
        (true, false, false),
        (false, true, false),
        (false, false, true),
    ] {
        let mut expected = all_of(&quote);
        expected.platform.forbid_dynamic = dynamic;
        expected.platform.forbid_cached_keys = cached;
        expected.platform.forbid_smt = smt;
        let verdict = judge(quote.clone(), &summer_2025(), JULY_2025, &expected);
        assert_eq!(failed(&verdict), [ClaimName::PlatformFlags], "{verdict}");
    }
}

#[test]
fn reference_values_of_a_launch_are_expected_together() {
    let quote = quote!("dcap-qvl-tdx_quote.dat");
    let report = quote.report();
    let value = |mrtd: &[u8], rtmr1: &[u8]| {
        format!(
            r#"{{"tee":"tdx","mrtd":"{}","rtmr1":"{}"}}"#,
            hex::encode(mrtd),
            hex::encode(rtmr1)
        )
    };
    let document = |values: &[String]| {
        let text = format!(r#"{{"version":1,"values":[{}]}}"#, values.join(","));
        ReferenceValues::parse(text.as_bytes(), "release.json").unwrap()
    };
    let mine = value(&report.mr_td, &report.rtmrs[1]);
    let other = value(&[9; 48], &[9; 48]);
    let judge_by = |values: &[String]| {
        let mut expected = TdxExpectations::default();
        expected.apply(&document(values), &quote);
        judge(quote.clone(), &summer_2025(), JULY_2025, &expected)
    };
    let verdict = judge_by(&[other.clone(), mine]);
    assert_eq!(verdict.state, State::PartiallyVerified, "{verdict}");
    assert!(verdict.passed(ClaimName::Mrtd) && verdict.passed(ClaimName::Rtmr1));
    assert_eq!(
        verdict.claim(ClaimName::Mrtd).unwrap().source,
        "release.json#1"
    );
    assert_eq!(failed(&judge_by(&[other])), [ClaimName::Mrtd]);
    let wrong = value(&report.mr_td, &[9; 48]);
    assert_eq!(failed(&judge_by(&[wrong])), [ClaimName::Rtmr1]);
}

#[test]
fn a_quote_says_which_documents_it_needs() {
    let info = PckInfo::of(&quote!("tdx_quote_5.dat")).unwrap();
    assert_eq!(info.authority, PckAuthority::Platform);
    let ids = info.documents().map(|id| id.to_string());
    assert_eq!(
        ids,
        [
            "tdx/tcb-info/90c06f000000",
            "tdx/qe-identity",
            "tdx/pck-crl/platform",
            "tdx/root-ca-crl"
        ]
    );
}

#[test]
fn collateral_of_either_form_is_read_and_anything_else_refused() {
    let quote = quote!("tdx_quote_4.dat");
    let text = spring_2026().to_json().unwrap();
    TdxCollateral::of_file(text.as_bytes(), &quote).unwrap();
    TdxCollateral::of_file(
        include_bytes!("../testdata/tdx_quote_collateral.json"),
        &quote,
    )
    .unwrap();
    for (bytes, code) in [
        (b"".as_slice(), "RDT-VER-102"),
        (b"{}", "RDT-VER-102"),
        (b"[1]", "RDT-VER-102"),
        (b"\xff\xfe", "RDT-VER-102"),
    ] {
        let error = TdxCollateral::of_file(bytes, &quote).unwrap_err();
        assert_eq!(error.code().0, code, "{bytes:?}: {error}");
    }
    let long = vec![b' '; redoubt_tdx_verifier::MAX_COLLATERAL_BYTES + 1];
    let error = TdxCollateral::of_file(&long, &quote).unwrap_err();
    assert!(matches!(error, TdxVerifierError::CollateralSize { .. }));
}

#[test]
fn a_root_given_by_hand_stands_beside_intels() {
    let quote = quote!("dcap-qvl-tdx_quote.dat");
    let collateral = summer_2025();
    let evidence = TdxEvidence {
        quote: quote.clone(),
        event_log: None,
    };
    // A certificate of the same PKI that is not its root.
    let end = "-----END CERTIFICATE-----\n";
    let signer = &SIGNERS[..SIGNERS.find(end).unwrap() + end.len()];
    let trust = Trust::new(Some(&collateral), JULY_2025)
        .with_root(signer.as_bytes())
        .unwrap();
    // It stands beside the built-in one, which is enough here.
    let verdict = verify(&evidence, &trust, &all_of(&quote));
    assert_eq!(verdict.state, State::Verified, "{verdict}");
    assert!(!verdict.simulated);
    let mut altered = quote.as_bytes().to_vec();
    altered[600] ^= 1;
    let evidence = TdxEvidence {
        quote: TdxQuote::parse(&altered).unwrap(),
        event_log: None,
    };
    let verdict = verify(&evidence, &trust, &all_of(&quote));
    assert_eq!(verdict.state, State::NotVerified);
    assert!(failed(&verdict).contains(&ClaimName::QuoteSignature));
    for root in [b"".as_slice(), b"-----BEGIN", &[0x30, 0x03, 1, 2, 3]] {
        let error = Trust::new(None, JULY_2025).with_root(root).unwrap_err();
        assert_eq!(error.code().0, "RDT-VER-106");
    }
}
