//! Certificates, roots and revocation lists that somebody made to break things.

use proptest::prelude::*;
use redoubt_evidence::{CertKind, CertTable, SnpEvidence, SnpReport};
use redoubt_verifier::{Collateral, Expectations, RevocationList, State, TrustAnchors, verify};
use time::macros::datetime;

const REPORT: &[u8] = include_bytes!("../testdata/attestation-rs-live-report-v5-genoa.bin");
const VCEK: &[u8] = include_bytes!("../testdata/attestation-rs-live-vcek-genoa.der");
const ROOTS: &str = include_str!("../roots/genoa_ask_ark_asvk.pem");

fn state(report: &SnpReport, kind: CertKind, cert: Vec<u8>) -> State {
    let mut certs = CertTable::default();
    if certs.insert(kind, cert).is_err() {
        return State::NotVerified;
    }
    let anchors = TrustAnchors::amd();
    let collateral = Collateral::new(&anchors, datetime!(2026-06-01 12:00 UTC));
    verify(
        &SnpEvidence {
            report: *report,
            certs,
        },
        &collateral,
        &Expectations::default(),
    )
    .state
}

proptest! {
    #[test]
    fn a_changed_certificate_is_never_accepted(
        changes in proptest::collection::vec((0..VCEK.len(), 1_u8..), 1..4)
    ) {
        let mut cert = VCEK.to_vec();
        for (offset, change) in changes {
            cert[offset] ^= change;
        }
        prop_assume!(cert != VCEK);
        let report = SnpReport::parse(REPORT).unwrap();
        prop_assert_eq!(state(&report, CertKind::Vcek, cert), State::NotVerified);
    }

    #[test]
    fn a_cut_or_extended_certificate_is_never_accepted(length in 0..VCEK.len() + 100) {
        prop_assume!(length != VCEK.len());
        let mut cert = VCEK.to_vec();
        cert.resize(length, 0);
        let report = SnpReport::parse(REPORT).unwrap();
        prop_assert_eq!(state(&report, CertKind::Vcek, cert), State::NotVerified);
    }

    #[test]
    fn any_bytes_as_roots_or_lists_are_an_error(
        bytes in proptest::collection::vec(any::<u8>(), 0..400)
    ) {
        prop_assert!(TrustAnchors::given(&bytes, "test").is_err());
        prop_assert!(RevocationList::parse(&bytes).is_err());
    }

    #[test]
    fn damaged_pem_gives_roots_or_an_error(offset in 0..ROOTS.len(), byte in 32_u8..127) {
        let mut text = ROOTS.as_bytes().to_vec();
        text[offset] = byte;
        if let Ok(anchors) = TrustAnchors::given(&text, "test") {
            // Whatever is still readable has signed itself.
            prop_assert_eq!(anchors.root_names(), ["ARK-Genoa"]);
        }
    }

    #[test]
    fn any_report_is_judged_without_a_panic(
        version in prop_oneof![Just(2_u32), Just(3), Just(5)],
        rest in proptest::collection::vec(any::<u8>(), 1180),
        kind in prop_oneof![Just(CertKind::Vcek), Just(CertKind::Vlek)],
    ) {
        let bytes = [version.to_le_bytes().as_slice(), &rest].concat();
        let report = SnpReport::parse(&bytes).unwrap();
        prop_assert_eq!(state(&report, kind, VCEK.to_vec()), State::NotVerified);
    }
}
