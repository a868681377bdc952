//! Reports of real hardware under AMD's own roots.

use redoubt_evidence::{CertKind, CertTable, SnpEvidence, SnpReport};
use redoubt_verifier::{
    Collateral, Expectations, ReferenceSet, ReportVersions, TrustAnchors, verify,
};
use time::OffsetDateTime;
use time::macros::datetime;

use crate::case::Expected::{self, Accepted, Refused};
use crate::case::{Case, Observed, Row, Step};
use crate::error::HarnessError;
use crate::snp::cases::observed;

const MILAN: &[u8] = include_bytes!("../../../verifier/testdata/trustee-test-report.bin");
const MILAN_VCEK: &[u8] = include_bytes!("../../../verifier/testdata/trustee-test-vcek.der");
const MILAN_ASVK: &[u8] = include_bytes!("../../../verifier/testdata/go-ask_ark_milan_vlek.pem");
const VLEK_REPORT: &[u8] =
    include_bytes!("../../../verifier/testdata/trustee-test-vlek-report.bin");
const VLEK: &[u8] = include_bytes!("../../../verifier/testdata/trustee-test-vlek.der");
const GENOA: &[u8] =
    include_bytes!("../../../verifier/testdata/attestation-rs-live-report-v5-genoa.bin");
const GENOA_VCEK: &[u8] =
    include_bytes!("../../../verifier/testdata/attestation-rs-live-vcek-genoa.der");
const GENOA_JSON: &[u8] =
    include_bytes!("../../../verifier/testdata/trustee-e2e-snp-evidence.json");
const OTHER_VCEK: &[u8] =
    include_bytes!("../../../verifier/testdata/trustee-test-vcek-invalid-new.der");

/// Within the lifetime of every VCEK above.
const NOW: OffsetDateTime = datetime!(2026-06-01 12:00 UTC);
/// Within the lifetime of the VLEK, which ended in December 2025.
const VLEK_TIME: OffsetDateTime = datetime!(2025-11-01 0:00 UTC);

fn evidence(report: &[u8], kind: CertKind, cert: &[u8]) -> Result<SnpEvidence, HarnessError> {
    let mut certs = CertTable::default();
    certs.insert(kind, cert.to_vec())?;
    Ok(SnpEvidence {
        report: SnpReport::parse(report)?,
        certs,
    })
}

/// Judges by what the report says of itself, so that authenticity decides.
fn judge(
    evidence: &SnpEvidence,
    anchors: &TrustAnchors,
    at: OffsetDateTime,
    change: fn(&mut Expectations),
) -> Observed {
    let report = &evidence.report;
    let mut expected = Expectations {
        launch_digests: ReferenceSet::one(*report.launch_digest(), "report"),
        host_data: ReferenceSet::one(*report.host_data(), "report"),
        report_data: ReferenceSet::one(*report.report_data(), "report"),
        report_versions: ReportVersions::WithVersion2,
        ..Expectations::default()
    };
    change(&mut expected);
    observed(&verify(evidence, &Collateral::new(anchors, at), &expected))
}

const fn refused(code: &'static str) -> Expected {
    Refused(Step::Evidence, code)
}

/// Whose certificate and whose report go together, and by which rules.
struct Pair {
    report: &'static [u8],
    kind: CertKind,
    certificate: &'static [u8],
    at: OffsetDateTime,
    change: fn(&mut Expectations),
}

const MILAN_PAIR: Pair = Pair {
    report: MILAN,
    kind: CertKind::Vcek,
    certificate: MILAN_VCEK,
    at: NOW,
    change: |_| {},
};

const GENOA_PAIR: Pair = Pair {
    report: GENOA,
    certificate: GENOA_VCEK,
    ..MILAN_PAIR
};

const VLEK_PAIR: Pair = Pair {
    report: VLEK_REPORT,
    kind: CertKind::Vlek,
    certificate: VLEK,
    at: VLEK_TIME,
    change: |expected| expected.maximum_vmpl = 1,
};

const PAIRS: [(Row, &str, Expected, Pair); 8] = [
    (
        Row::SnpSignature,
        "real: Milan, version 2",
        Accepted,
        MILAN_PAIR,
    ),
    (
        Row::SnpSignature,
        "real: Genoa, version 5",
        Accepted,
        GENOA_PAIR,
    ),
    (
        Row::SnpChain,
        "real: a VLEK of Milan in its time",
        Accepted,
        VLEK_PAIR,
    ),
    (
        Row::SnpChain,
        "real: a VLEK after its time",
        refused("certificate_validity"),
        Pair {
            at: NOW,
            ..VLEK_PAIR
        },
    ),
    (
        Row::SnpChain,
        "real: a VCEK that AMD has not signed",
        refused("certificate_chain"),
        Pair {
            certificate: OTHER_VCEK,
            ..MILAN_PAIR
        },
    ),
    (
        Row::SnpTcb,
        "real: the VCEK of another machine",
        refused("hardware_id"),
        Pair {
            certificate: MILAN_VCEK,
            ..GENOA_PAIR
        },
    ),
    (
        Row::SnpPolicy,
        "real: a report for VMPL 1",
        refused("vmpl"),
        Pair {
            change: |_| {},
            ..VLEK_PAIR
        },
    ),
    (
        Row::SnpVersion,
        "real: version 2 where it is not allowed",
        refused("report_version"),
        Pair {
            change: |expected| expected.report_versions = ReportVersions::Current,
            ..MILAN_PAIR
        },
    ),
];

impl Pair {
    fn judge(&self, anchors: &TrustAnchors) -> Result<Observed, HarnessError> {
        let evidence = evidence(self.report, self.kind, self.certificate)?;
        Ok(judge(&evidence, anchors, self.at, self.change))
    }
}

pub(super) fn cases() -> Vec<Case> {
    let pairs = PAIRS.into_iter().map(|(row, name, expected, pair)| {
        Case::local(row, name, expected, move |_| {
            pair.judge(&TrustAnchors::amd())
        })
    });
    let json = Case::local(
        Row::SnpSignature,
        "real: Genoa, version 3, as JSON",
        Accepted,
        |_| {
            let evidence = SnpEvidence::parse_kbs_json(GENOA_JSON)?;
            Ok(judge(&evidence, &TrustAnchors::amd(), NOW, |_| {}))
        },
    );
    // Another intermediate of the same root does not do.
    let without_ask = Case::local(
        Row::SnpChain,
        "real: a VCEK without its ASK",
        refused("certificate_chain"),
        |_| MILAN_PAIR.judge(&TrustAnchors::given(MILAN_ASVK, "harness")?),
    );
    pairs.chain([json, without_ask]).collect()
}
