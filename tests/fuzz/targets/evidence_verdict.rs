//! Verifies evidence: JSON as the broker receives it, or a certificate that
//! comes with a report of real hardware.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use redoubt_evidence::{CertKind, CertTable, SnpEvidence, SnpReport};
use redoubt_verifier::{Collateral, Expectations, TrustAnchors, verify};
use time::OffsetDateTime;

static ANCHORS: LazyLock<TrustAnchors> = LazyLock::new(TrustAnchors::amd);
static REPORT: LazyLock<SnpReport> = LazyLock::new(|| {
    let bytes = include_bytes!("../../../attestation/verifier/testdata/trustee-test-report.bin");
    SnpReport::parse(bytes).expect("a report of real hardware")
});

fn judge(evidence: &SnpEvidence) {
    let at = OffsetDateTime::from_unix_timestamp(1_760_000_000).expect("a time");
    let verdict = verify(
        evidence,
        &Collateral::new(&ANCHORS, at),
        &Expectations::default(),
    );
    let _ = format!("{verdict:?}");
}

fuzz_target!(|data: &[u8]| {
    if data.starts_with(b"{") {
        if let Ok(evidence) = SnpEvidence::parse_kbs_json(data) {
            judge(&evidence);
        }
        return;
    }
    for kind in [CertKind::Vcek, CertKind::Vlek, CertKind::Ask] {
        let mut certs = CertTable::default();
        if certs.insert(kind, data.to_vec()).is_ok() {
            judge(&SnpEvidence {
                report: REPORT.clone(),
                certs,
            });
        }
    }
});
