//! Requests and responses of the secure processor.

#![expect(clippy::unwrap_used, reason = "a test without its data has failed")]

use proptest::prelude::*;
use redoubt_evidence::psp::{
    KeySelector, MAX_RESPONSE_BYTES, Refusal, ReportRequest, ReportResponse, VSOCK_PORT,
    parse_report_message,
};
use redoubt_evidence::{CertKind, CertTable, EvidenceError, SnpEvidence, SnpReport};

const GENOA_V5: &[u8] = include_bytes!("../testdata/attestation-rs-live-report-v5-genoa.bin");

fn evidence() -> SnpEvidence {
    let mut certs = CertTable::default();
    certs.insert(CertKind::Ark, vec![1; 100]).unwrap();
    certs.insert(CertKind::Vcek, vec![2; 50]).unwrap();
    SnpEvidence {
        report: SnpReport::parse(GENOA_V5).unwrap(),
        certs,
    }
}

#[test]
fn a_request_has_the_layout_of_the_specification() {
    let request = ReportRequest {
        report_data: [7; 64],
        vmpl: 2,
        key: KeySelector::Vlek,
    };
    let bytes = request.to_bytes();
    assert_eq!(bytes[..64], [7; 64]);
    assert_eq!(bytes[64..68], [2, 0, 0, 0]);
    assert_eq!(bytes[68..72], [2, 0, 0, 0]);
    assert_eq!(bytes[72..], [0; 24]);
    assert_eq!(ReportRequest::parse(&bytes).unwrap(), request);
    assert_eq!(VSOCK_PORT, 1030);
}

#[test]
fn malformed_requests_are_refused() {
    let good = ReportRequest::new([0; 64]).to_bytes();
    for length in [0, 95] {
        assert!(matches!(
            ReportRequest::parse(&good[..length]),
            Err(EvidenceError::RequestSize { actual }) if actual == length
        ));
    }
    assert!(ReportRequest::parse(&[good.as_slice(), &[0]].concat()).is_err());
    for offset in 72..96 {
        let mut bytes = good;
        bytes[offset] = 1;
        assert!(matches!(
            ReportRequest::parse(&bytes),
            Err(EvidenceError::RequestReserved)
        ));
    }
    let mut bytes = good;
    bytes[68] = 3;
    assert!(matches!(
        ReportRequest::parse(&bytes),
        Err(EvidenceError::RequestKey(3))
    ));
}

#[test]
fn a_response_carries_report_and_certificates() {
    let bytes = ReportResponse::Report(Box::new(evidence()))
        .to_bytes()
        .unwrap();
    assert_eq!(bytes[..8], [0, 0, 0, 0, 0xA0, 0x04, 0, 0]);
    assert_eq!(bytes[8..32], [0; 24]);
    assert_eq!(bytes[32..32 + 1184], *GENOA_V5);
    assert_eq!(ReportResponse::parse(&bytes).unwrap(), evidence());
    let (report, table) = parse_report_message(&bytes).unwrap();
    assert_eq!(report, evidence().report);
    assert_eq!(CertTable::parse(table).unwrap(), evidence().certs);
}

#[test]
fn a_refusal_carries_its_status() {
    for (refusal, status) in [
        (Refusal::InvalidParameters, 0x16),
        (Refusal::InvalidKey, 0x27),
    ] {
        let bytes = ReportResponse::Refused(refusal).to_bytes().unwrap();
        assert!(matches!(
            ReportResponse::parse(&bytes),
            Err(EvidenceError::ResponseStatus(seen)) if seen == status
        ));
    }
}

#[test]
fn malformed_responses_are_refused() {
    let good = ReportResponse::Report(Box::new(evidence()))
        .to_bytes()
        .unwrap();
    for length in [0, 31, 32, 1215] {
        assert!(matches!(
            ReportResponse::parse(&good[..length]),
            Err(EvidenceError::ResponseSize { actual }) if actual == length
        ));
    }
    let mut wrong_size = good.clone();
    wrong_size[4] = 0xA1;
    assert!(matches!(
        ReportResponse::parse(&wrong_size),
        Err(EvidenceError::ResponseReportSize(0x4A1))
    ));
    let giant = vec![0; MAX_RESPONSE_BYTES + 1];
    assert!(matches!(
        ReportResponse::parse(&giant),
        Err(EvidenceError::ResponseSize { .. })
    ));
    // A table cut in its middle.
    assert!(ReportResponse::parse(&good[..good.len() - 1]).is_err());
}

proptest! {
    #[test]
    fn any_bytes_are_a_message_or_an_error(
        bytes in proptest::collection::vec(any::<u8>(), 0..1400)
    ) {
        let _ = ReportResponse::parse(&bytes);
        if let Ok(request) = ReportRequest::parse(&bytes) {
            prop_assert_eq!(request.to_bytes().to_vec(), bytes);
        }
    }
}
