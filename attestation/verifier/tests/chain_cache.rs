//! A memory of verified certificates changes no verdict.

#![expect(clippy::unwrap_used, reason = "a test without its data has failed")]

use redoubt_evidence::{CertKind, CertTable, SnpEvidence};
use redoubt_verifier::{
    ChainCache, ClaimName, Collateral, Expectations, TrustAnchors, Verdict, verify,
};
use time::OffsetDateTime;
use time::macros::datetime;

const GENOA_JSON: &[u8] = include_bytes!("../testdata/trustee-e2e-snp-evidence.json");
const NOW: OffsetDateTime = datetime!(2026-06-01 12:00 UTC);

fn verdict(evidence: &SnpEvidence, cache: &ChainCache, at: OffsetDateTime) -> Verdict {
    let anchors = TrustAnchors::amd();
    let collateral = Collateral::new(&anchors, at).with_cache(cache);
    verify(evidence, &collateral, &Expectations::default())
}

/// The evidence with the last byte of its VCEK, which is of the signature, changed.
fn with_forged_vcek(evidence: &SnpEvidence) -> SnpEvidence {
    let mut der = evidence.certs.get(CertKind::Vcek).unwrap().to_vec();
    *der.last_mut().unwrap() ^= 1;
    let mut certs = CertTable::default();
    certs.insert(CertKind::Vcek, der).unwrap();
    SnpEvidence {
        report: evidence.report,
        certs,
    }
}

#[test]
fn verdicts_with_and_without_the_cache_are_the_same() {
    let evidence = SnpEvidence::parse_kbs_json(GENOA_JSON).unwrap();
    let cache = ChainCache::new(16);
    let anchors = TrustAnchors::amd();
    let plain = verify(
        &evidence,
        &Collateral::new(&anchors, NOW),
        &Expectations::default(),
    );
    for _ in 0..3 {
        assert_eq!(verdict(&evidence, &cache, NOW), plain);
    }
    assert!(format!("{cache:?}").contains("pairs: 2"), "{cache:?}");
}

#[test]
fn forged_certificate_is_refused_beside_the_remembered_one() {
    let evidence = SnpEvidence::parse_kbs_json(GENOA_JSON).unwrap();
    let cache = ChainCache::new(16);
    assert!(verdict(&evidence, &cache, NOW).passed(ClaimName::CertificateChain));
    let forged = with_forged_vcek(&evidence);
    for _ in 0..2 {
        let verdict = verdict(&forged, &cache, NOW);
        assert!(!verdict.passed(ClaimName::CertificateChain), "{verdict}");
    }
    assert!(verdict(&evidence, &cache, NOW).passed(ClaimName::CertificateChain));
}

#[test]
fn remembered_certificate_still_ends() {
    let evidence = SnpEvidence::parse_kbs_json(GENOA_JSON).unwrap();
    let cache = ChainCache::new(16);
    assert!(verdict(&evidence, &cache, NOW).passed(ClaimName::CertificateValidity));
    let late = verdict(&evidence, &cache, datetime!(2060-01-01 0:00 UTC));
    assert!(!late.passed(ClaimName::CertificateValidity), "{late}");
}

#[test]
fn full_cache_starts_anew() {
    let evidence = SnpEvidence::parse_kbs_json(GENOA_JSON).unwrap();
    let cache = ChainCache::new(1);
    for _ in 0..3 {
        assert!(verdict(&evidence, &cache, NOW).passed(ClaimName::CertificateChain));
        assert!(format!("{cache:?}").contains("pairs: 1"), "{cache:?}");
    }
}
