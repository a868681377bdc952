//! Certificates and documents as other projects ship them.

#![expect(clippy::unwrap_used, reason = "a test without its data has failed")]

use redoubt_evidence::{CertKind, CertTable, SnpEvidence, SnpReport};
use redoubt_verifier::{
    Collateral, CollateralId, CollateralItem, Expectations, ReportVersions, State, TrustAnchors,
    verify,
};
use time::OffsetDateTime;
use time::macros::datetime;

macro_rules! data {
    ($name:literal) => {
        include_bytes!(concat!("../testdata/", $name)).as_slice()
    };
}

const NOW: OffsetDateTime = datetime!(2026-06-01 12:00 UTC);
const VLEK_TIME: OffsetDateTime = datetime!(2025-11-01 0:00 UTC);

/// Whether evidence is authentic under this chain alone.
fn is_authentic(chain: &[u8], kind: CertKind, report: &[u8], cert: &[u8]) -> bool {
    let mut certs = CertTable::default();
    certs.insert(kind, cert.to_vec()).unwrap();
    let evidence = SnpEvidence {
        report: SnpReport::parse(report).unwrap(),
        certs,
    };
    let at = if kind == CertKind::Vlek {
        VLEK_TIME
    } else {
        NOW
    };
    let anchors = TrustAnchors::given(chain, "another project").unwrap();
    let expected = Expectations {
        report_versions: ReportVersions::WithVersion2,
        maximum_vmpl: 1,
        ..Expectations::default()
    };
    let verdict = verify(&evidence, &Collateral::new(&anchors, at), &expected);
    assert!(!verdict.simulated);
    verdict.state == State::PartiallyVerified
}

#[test]
fn real_reports_are_authentic_under_the_chains_of_other_projects() {
    let milan = |chain| {
        let report = data!("trustee-test-report.bin");
        is_authentic(
            chain,
            CertKind::Vcek,
            report,
            data!("trustee-test-vcek.der"),
        )
    };
    let milan_vlek = |chain| {
        let report = data!("trustee-test-vlek-report.bin");
        is_authentic(
            chain,
            CertKind::Vlek,
            report,
            data!("trustee-test-vlek.der"),
        )
    };
    let genoa = |chain| {
        let vcek = data!("attestation-rs-live-vcek-genoa.der");
        let report = data!("attestation-rs-live-report-v5-genoa.bin");
        is_authentic(chain, CertKind::Vcek, report, vcek)
    };
    let of_milan = [
        data!("chains/go-ask_ark_milan.pem"),
        data!("chains/sev-cert_chain_milan.pem"),
    ];
    for chain in of_milan {
        assert!(milan(chain));
        assert!(!milan_vlek(chain), "the ASK signs no VLEK");
        assert!(!genoa(chain));
    }
    let of_vlek = data!("go-ask_ark_milan_vlek.pem");
    assert!(milan_vlek(of_vlek));
    assert!(!milan(of_vlek), "the ASVK signs no VCEK");
    let of_genoa = data!("chains/go-ask_ark_genoa.pem");
    assert!(genoa(of_genoa));
    assert!(!milan(of_genoa));
    assert!(!genoa(data!("chains/go-ask_ark_genoa_vlek.pem")));
}

fn item(id: &str, body: &[u8]) -> CollateralItem {
    let chain = include_str!("../testdata/tdx/tcb_signing_chain.pem");
    CollateralItem {
        id: id.parse::<CollateralId>().unwrap(),
        body: body.to_vec(),
        issuer_chain: id.starts_with("tdx").then(|| chain.to_owned()),
        fetched_at: NOW,
    }
}

#[test]
fn chains_of_every_product_are_whole() {
    for (id, chain) in [
        ("snp/chain/Milan/vcek", data!("chains/go-ask_ark_milan.pem")),
        ("snp/chain/Milan/vlek", data!("go-ask_ark_milan_vlek.pem")),
        ("snp/chain/Genoa/vcek", data!("chains/go-ask_ark_genoa.pem")),
        (
            "snp/chain/Genoa/vlek",
            data!("chains/go-ask_ark_genoa_vlek.pem"),
        ),
        (
            "snp/chain/Turin/vcek",
            data!("chains/ask_ark_turin_vcek.pem"),
        ),
        (
            "snp/chain/Turin/vlek",
            data!("chains/ask_ark_turin_vlek.pem"),
        ),
        (
            "snp/chain/Turin/vcek",
            data!("chains/sev-cert_chain_turin.pem"),
        ),
    ] {
        item(id, chain).check().unwrap();
        let half = &chain[..chain.len() / 2];
        assert!(item(id, half).check().is_err(), "half of {id}");
    }
}

#[test]
fn documents_of_another_client_are_what_they_are_named() {
    let tcb_info = data!("tdx/trustee-tcbInfo.json");
    let identity = data!("tdx/trustee-enclaveIdentity.json");
    let good = item("tdx/tcb-info/00a06d080000", tcb_info);
    good.check().unwrap();
    assert_eq!(good.next_update(), Some(datetime!(2025-11-26 13:07:17 UTC)));
    item("tdx/qe-identity", identity).check().unwrap();
    assert!(item("tdx/tcb-info/50806f000000", tcb_info).check().is_err());
    assert!(item("tdx/qe-identity", tcb_info).check().is_err());
    assert!(item("tdx/tcb-info/00a06d080000", identity).check().is_err());
}
