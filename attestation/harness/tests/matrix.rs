//! Every case comes out as it must, each row has good ones and bad ones, and
//! what is broken is noticed.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Duration;

use redoubt_collateral::{ClientOptions, CollateralClient, Services};
use redoubt_evidence::tdx::{TdxEvidence, TdxQuote};
use redoubt_harness::{
    BrokerClient, LocalBroker, LocalServices, Mood, Report, Row, Selection, Site, Target,
    TdProfile, run,
};
use redoubt_tdx_verifier::{PckInfo, TdxCollateral, TdxExpectations, Trust, verify};
use redoubt_verifier::{
    Bundle, Collateral, CollateralId, Expectations, State, TrustAnchors, VcekId, VekIssuer,
};
use time::OffsetDateTime;

const LOOPBACK: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

async fn run_row(row: Row) -> Report {
    let site = Site::generate().unwrap();
    let broker = LocalBroker::start(&site).unwrap();
    let selection = Selection {
        rows: vec![row],
        ..Selection::default()
    };
    let report = run(&site, &broker.client().unwrap(), &selection).await;
    broker.stop().await.unwrap();
    report
}

/// Every case of a row, of which some must be accepted and others refused.
async fn whole(row: Row) {
    let report = run_row(row).await;
    assert!(report.failed().next().is_none(), "{report}");
    let accepted = |case: &&redoubt_harness::CaseResult| case.expected == "accepted";
    let good = report.cases.iter().filter(accepted).count();
    assert!(good > 0 && good < report.cases.len(), "{report}");
    let names: HashSet<_> = report
        .cases
        .iter()
        .map(|case| format!("{:?} {}", case.target, case.name))
        .collect();
    assert_eq!(names.len(), report.cases.len(), "two cases have one name");
}

macro_rules! rows {
    ($($name:ident: $row:ident),* $(,)?) => {$(
        #[tokio::test]
        async fn $name() {
            whole(Row::$row).await;
        }
    )*};
}

rows! {
    snp_signatures: SnpSignature,
    snp_chains: SnpChain,
    snp_tcb_and_chip: SnpTcb,
    snp_policies: SnpPolicy,
    snp_versions: SnpVersion,
    tdx_quotes: TdxQuote,
    tdx_collateral: TdxCollateral,
    event_logs: EventLog,
    bindings: Binding,
    encrypted_resources: Jwe,
    tokens: Token,
    initdata: Initdata,
    releases: Release,
}

#[tokio::test]
async fn a_broker_of_another_site_fails_the_good_cases() {
    let (site, other) = (Site::generate().unwrap(), Site::generate().unwrap());
    let broker = LocalBroker::start(&other).unwrap();
    let selection = Selection {
        rows: Vec::new(),
        target: Some(Target::Broker),
        ..Selection::default()
    };
    let report = run(&site, &broker.client().unwrap(), &selection).await;
    let (good, bad): (Vec<_>, Vec<_>) = report
        .cases
        .iter()
        .partition(|case| case.expected == "accepted");
    assert!(good.iter().all(|case| !case.passed), "{report}");
    // It refuses these as it should, if not all of them for the right reason.
    assert!(
        bad.iter().filter(|case| case.passed).count() > 40,
        "{report}"
    );
}

#[tokio::test]
async fn a_broker_that_lets_everything_pass_fails_the_bad_cases() {
    let site = Site::generate().unwrap();
    let broker = LocalBroker::start(&site).unwrap();
    let policy = broker.dir().join("kbs/policy.rego");
    std::fs::write(
        policy,
        "package policy\nimport rego.v1\ndefault allow := true\n",
    )
    .unwrap();
    let selection = Selection {
        rows: vec![Row::Release],
        ..Selection::default()
    };
    let report = run(&site, &broker.client().unwrap(), &selection).await;
    let failed: Vec<_> = report.failed().map(|case| case.name).collect();
    assert_eq!(failed, ["an unknown launch digest"], "{report}");
}

#[tokio::test]
async fn a_session_that_has_ended_takes_no_evidence() {
    const LIFETIME_S: u32 = 10;
    let site = Site::generate().unwrap();
    let broker = LocalBroker::start_with(&site, |config| config.session.lifetime_s = LIFETIME_S);
    let broker = broker.unwrap();
    let selection = Selection {
        rows: vec![Row::Binding],
        target: Some(Target::Broker),
        session_lifetime: Some(Duration::from_secs(LIFETIME_S.into())),
    };
    let report = run(&site, &broker.client().unwrap(), &selection).await;
    let last = report.cases.last().unwrap();
    assert_eq!(last.name, "a session that has ended");
    assert!(report.failed().next().is_none(), "{report}");
}

#[tokio::test]
async fn no_broker_is_not_a_refusal() {
    let site = Site::generate().unwrap();
    let client = BrokerClient::new("http://127.0.0.1:1", None).unwrap();
    let selection = Selection {
        rows: vec![Row::Binding],
        target: Some(Target::Broker),
        ..Selection::default()
    };
    let report = run(&site, &client, &selection).await;
    assert_eq!(report.passed(), 0, "{report}");
}

#[tokio::test]
async fn a_stored_site_is_the_same_site() {
    let dir = tempfile::tempdir().unwrap();
    let made = Site::create(dir.path()).unwrap();
    assert!(Site::create(dir.path()).is_err());
    let broker = LocalBroker::start(&made).unwrap();
    let read = Site::load(dir.path()).unwrap();
    let selection = Selection {
        rows: vec![Row::SnpChain],
        target: Some(Target::Broker),
        ..Selection::default()
    };
    let report = run(&read, &broker.client().unwrap(), &selection).await;
    assert!(report.failed().next().is_none(), "{report}");
    assert!(Site::load(&dir.path().join("none")).is_err());
}

/// What a client fetches of services in this mood.
async fn fetched(site: &Site, mood: Mood, ids: &[CollateralId]) -> (Bundle, usize) {
    let services = LocalServices::start(site, SocketAddr::from(LOOPBACK), mood).unwrap();
    let options = ClientOptions {
        services: Services {
            amd_kds: services.url(),
            intel_pcs: services.url(),
            intel_root: services.url(),
            ..Services::default()
        },
        first_pause: Duration::from_millis(5),
        ..ClientOptions::default()
    };
    let client = CollateralClient::new(options, None).unwrap();
    let mut bundle = Bundle::default();
    for id in ids {
        let item = client.get(*id, OffsetDateTime::now_utc()).await.unwrap();
        bundle.insert(item).unwrap();
    }
    (bundle, services.asked().len())
}

#[tokio::test]
async fn collateral_of_the_local_services_is_all_that_a_verification_needs() {
    let site = Site::generate().unwrap();
    let evidence = site.snp.good(site.launch_digest, [1; 32], [2; 64]).unwrap();
    let vcek = VcekId::of_report(&evidence.report, None).unwrap();
    let bytes = site
        .tdx
        .quote(&TdProfile::new([7; 48], [[0; 48]; 4], [2; 64]))
        .unwrap();
    let quote = TdxQuote::parse(&bytes).unwrap();
    let mut ids = vec![
        CollateralId::Vcek(vcek),
        CollateralId::Chain(vcek.product, VekIssuer::Vcek),
        CollateralId::Crl(vcek.product, VekIssuer::Vcek),
    ];
    ids.extend(PckInfo::of(&quote).unwrap().documents());
    for (mood, requests) in [
        (Mood::Willing, 7),
        (Mood::Busy { retry_after_s: 0 }, 14),
        (Mood::Failing, 14),
    ] {
        let (bundle, asked) = fetched(&site, mood, &ids).await;
        assert_eq!(asked, requests, "{mood:?}");

        let parts = bundle.snp(&evidence.report, None).unwrap();
        let anchors = TrustAnchors::given(site.snp.root_certificate(), "site").unwrap();
        let anchors = anchors.and(parts.intermediates.clone());
        let now = OffsetDateTime::now_utc();
        let collateral = Collateral::new(&anchors, now).with_crls(&parts.crls);
        let verdict = redoubt_verifier::verify(&evidence, &collateral, &Expectations::default());
        assert_eq!(verdict.state, State::PartiallyVerified, "{verdict}");
        assert!(verdict.simulated);

        let collateral = TdxCollateral::from_bundle(&bundle, &quote).unwrap();
        let trust = Trust::new(Some(&collateral), now)
            .with_root(site.tdx.root_certificate())
            .unwrap();
        let evidence = TdxEvidence {
            quote: quote.clone(),
            event_log: None,
        };
        let verdict = verify(&evidence, &trust, &TdxExpectations::default());
        assert_eq!(verdict.state, State::PartiallyVerified, "{verdict}");
        assert!(verdict.simulated);
    }
}
