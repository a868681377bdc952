//! Bundles: what they may hold, and that a report is verified from one alone.

#![expect(clippy::unwrap_used, reason = "a test without its data has failed")]

use proptest::prelude::*;
use redoubt_evidence::{CertTable, Product, SnpEvidence, SnpReport};
use redoubt_verifier::{
    Bundle, ClaimName, Collateral, CollateralId, CollateralItem, Expectations, Fmspc, PckAuthority,
    State, TrustAnchors, VcekId, VekIssuer, VerifierError, verify,
};
use time::OffsetDateTime;
use time::macros::datetime;

const REPORT: &[u8] = include_bytes!("../testdata/attestation-rs-live-report-v5-genoa.bin");
const VCEK: &[u8] = include_bytes!("../testdata/attestation-rs-live-vcek-genoa.der");
const CHAIN: &[u8] = include_bytes!("../roots/genoa_ask_ark_asvk.pem");
const TCB_INFO: &[u8] = include_bytes!("../testdata/tdx/tcb_info_50806f000000.json");
const QE_IDENTITY: &[u8] = include_bytes!("../testdata/tdx/td_qe_identity.json");
const SIGNING_CHAIN: &str = include_str!("../testdata/tdx/tcb_signing_chain.pem");
const PCK_CRL: &[u8] = include_bytes!("../testdata/tdx/pck_crl_platform.der");
const ROOT_CRL: &[u8] = include_bytes!("../testdata/tdx/root_ca_crl.der");
const NOW: OffsetDateTime = datetime!(2026-04-01 12:00 UTC);
const FMSPC: Fmspc = Fmspc([0x50, 0x80, 0x6F, 0, 0, 0]);

fn report() -> SnpReport {
    SnpReport::parse(REPORT).unwrap()
}

fn vcek_id() -> CollateralId {
    CollateralId::Vcek(VcekId::of_report(&report(), None).unwrap())
}

fn item(id: CollateralId, body: &[u8]) -> CollateralItem {
    CollateralItem {
        id,
        body: body.to_vec(),
        issuer_chain: None,
        fetched_at: NOW,
    }
}

fn intel(id: CollateralId, body: &[u8]) -> CollateralItem {
    CollateralItem {
        issuer_chain: Some(SIGNING_CHAIN.to_owned()),
        ..item(id, body)
    }
}

fn all() -> Vec<CollateralItem> {
    vec![
        item(vcek_id(), VCEK),
        item(CollateralId::Chain(Product::Genoa, VekIssuer::Vcek), CHAIN),
        intel(CollateralId::TcbInfo(FMSPC), TCB_INFO),
        intel(CollateralId::QeIdentity, QE_IDENTITY),
        intel(CollateralId::PckCrl(PckAuthority::Platform), PCK_CRL),
        item(CollateralId::RootCaCrl, ROOT_CRL),
    ]
}

fn bundle() -> Bundle {
    let mut bundle = Bundle::default();
    for item in all() {
        bundle.insert(item).unwrap();
    }
    bundle
}

#[test]
fn a_bundle_is_read_as_it_was_written() {
    let text = bundle().to_json().unwrap();
    let read = Bundle::parse(text.as_bytes()).unwrap();
    assert_eq!(read.items().len(), 6);
    for item in all() {
        assert_eq!(read.get(&item.id), Some(&item));
    }
    assert_eq!(read.to_json().unwrap(), text);
}

#[test]
fn a_report_is_verified_from_a_bundle_alone() {
    let parts = bundle().snp(&report(), None).unwrap();
    let mut certs = CertTable::default();
    let (kind, vcek) = parts.vcek_entry().unwrap();
    certs.insert(kind, vcek).unwrap();
    let evidence = SnpEvidence {
        report: report(),
        certs,
    };
    let roots = TrustAnchors::amd().and(parts.intermediates);
    let collateral = Collateral::new(&roots, NOW).with_crls(&parts.crls);
    let verdict = verify(&evidence, &collateral, &Expectations::default());
    assert_eq!(verdict.state, State::PartiallyVerified, "{verdict}");
    assert!(verdict.passed(ClaimName::CertificateChain));
}

#[test]
fn a_bundle_for_other_reports_gives_nothing() {
    let milan = SnpReport::parse(include_bytes!("../testdata/trustee-test-report.bin")).unwrap();
    let parts = bundle().snp(&milan, Some(Product::Milan)).unwrap();
    assert!(parts.vcek.is_none() && parts.crls.is_empty());
    let parts = bundle().snp(&milan, None).unwrap();
    assert!(parts.vcek.is_none());
}

#[test]
fn documents_say_until_when_they_are_current() {
    let next = |item: &CollateralItem| item.next_update().map(|at| at.date().to_string());
    let dates: Vec<_> = all().iter().map(next).collect();
    let dates: Vec<_> = dates
        .iter()
        .map(|date| date.as_deref().unwrap_or(""))
        .collect();
    assert_eq!(
        dates,
        [
            "",
            "",
            "2026-04-15",
            "2026-04-15",
            "2026-04-15",
            "2027-02-26"
        ]
    );
}

#[test]
fn a_document_under_another_ones_id_is_refused() {
    let genoa_chip = vcek_id();
    let wrong = [
        item(
            genoa_chip,
            include_bytes!("../testdata/trustee-test-vcek.der"),
        ),
        item(
            genoa_chip,
            include_bytes!("../testdata/trustee-test-vlek.der"),
        ),
        item(genoa_chip, CHAIN),
        item(genoa_chip, b"<html>Too many requests</html>"),
        item(genoa_chip, b""),
        item(CollateralId::Chain(Product::Genoa, VekIssuer::Vcek), VCEK),
        item(CollateralId::Crl(Product::Genoa, VekIssuer::Vcek), VCEK),
        intel(CollateralId::TcbInfo(Fmspc([0; 6])), TCB_INFO),
        intel(CollateralId::TcbInfo(FMSPC), QE_IDENTITY),
        // Without the chain that says who signed.
        item(CollateralId::TcbInfo(FMSPC), TCB_INFO),
        intel(CollateralId::QeIdentity, TCB_INFO),
        intel(CollateralId::PckCrl(PckAuthority::Processor), PCK_CRL),
        intel(CollateralId::PckCrl(PckAuthority::Platform), ROOT_CRL),
        item(CollateralId::RootCaCrl, &ROOT_CRL[..ROOT_CRL.len() - 1]),
    ];
    for item in wrong {
        let mut bundle = Bundle::default();
        let outcome = bundle.insert(item.clone());
        assert!(outcome.is_err(), "{}", item.id);
        assert!(bundle.items().is_empty());
    }
    let huge = item(CollateralId::RootCaCrl, &vec![0; 1024 * 1024 + 1]);
    assert!(matches!(
        huge.check(),
        Err(VerifierError::CollateralSize { .. })
    ));
}

#[test]
fn files_that_are_no_bundle_are_refused() {
    let parse = |text: &str| Bundle::parse(text.as_bytes()).unwrap_err();
    assert!(matches!(parse(""), VerifierError::BundleJson(_)));
    assert!(matches!(parse("{}"), VerifierError::BundleJson(_)));
    assert!(matches!(
        parse(r#"{"version":2,"items":[]}"#),
        VerifierError::BundleVersion(2)
    ));
    let entry = |id: &str, at: &str, body: &str| {
        format!(r#"{{"version":1,"items":[{{"id":"{id}","fetched_at":"{at}","body":"{body}"}}]}}"#)
    };
    let (id, at) = ("tdx/root-ca-crl", "2026-04-01T12:00:00Z");
    assert!(matches!(
        parse(&entry("tdx/other", at, "AA==")),
        VerifierError::CollateralId { .. }
    ));
    assert!(matches!(
        parse(&entry(id, "yesterday", "AA==")),
        VerifierError::BundleTime { .. }
    ));
    assert!(matches!(
        parse(&entry(id, at, "%")),
        VerifierError::BundleEncoding { .. }
    ));
    assert!(matches!(
        parse(&entry(id, at, "AA==")),
        VerifierError::CollateralContent { .. }
    ));
    let mut twice: serde_json::Value = serde_json::from_str(&bundle().to_json().unwrap()).unwrap();
    let items = twice["items"].as_array_mut().unwrap();
    items.push(items[0].clone());
    assert!(matches!(
        parse(&twice.to_string()),
        VerifierError::BundleDuplicate { .. }
    ));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_damaged_bundle_is_a_bundle_or_an_error(offset in 0_usize..20_000, byte in 32_u8..127) {
        let mut text = bundle().to_json().unwrap().into_bytes();
        let offset = offset % text.len();
        text[offset] = byte;
        if let Ok(read) = Bundle::parse(&text) {
            for item in read.items() {
                prop_assert!(item.check().is_ok());
            }
        }
    }
}
