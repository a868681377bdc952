//! A hostile or broken software secure processor, and machines without any.

#![expect(clippy::unwrap_used, reason = "a test without its data has failed")]

use std::path::PathBuf;
use std::time::Duration;

use redoubt_attester::{
    Attester, AttesterError, AttesterKind, ConfigfsAttester, DeviceAttester, SimulatedAttester,
    SnpAttester, TeeKind, UnixAddress, attester_for,
};
use redoubt_errors::UserError;
use redoubt_evidence::EvidenceError;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;

const REPORT: &[u8] = include_bytes!("../testdata/report-v5-genoa.bin");

/// Asks a peer that reads one request and then sends `answer`.
async fn ask(answer: Vec<u8>, hang: bool) -> Result<[u8; 64], AttesterError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("psp.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let peer = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 100];
        stream.read_exact(&mut request).await.unwrap();
        assert_eq!(request[..4], 96_u32.to_le_bytes());
        // The client may hang up before it has read everything.
        let _ = stream.write_all(&answer).await;
        if hang {
            std::future::pending::<()>().await;
        }
    });
    let attester =
        SimulatedAttester::new(UnixAddress(path)).with_timeout(Duration::from_millis(500));
    let mut report_data = [0; 64];
    report_data[..17].copy_from_slice(b"hello-attestation");
    let result = attester.evidence(&report_data).await;
    peer.abort();
    result.map(|evidence| *evidence.report.report_data())
}

/// A framed response with a status, an announced report size and a body.
fn frame(status: u32, report_bytes: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(32 + body.len()).unwrap();
    let mut bytes = length.to_le_bytes().to_vec();
    bytes.extend(status.to_le_bytes());
    bytes.extend(report_bytes.to_le_bytes());
    bytes.extend([0; 24]);
    bytes.extend(body);
    bytes
}

#[tokio::test]
async fn a_good_answer_is_taken() {
    let report_data = ask(frame(0, 1184, REPORT), false).await.unwrap();
    assert!(report_data.starts_with(b"hello-attestation"));
}

#[tokio::test]
async fn an_answer_for_other_data_is_refused() {
    let mut report = REPORT.to_vec();
    report[0x50] ^= 1;
    let error = ask(frame(0, 1184, &report), false).await.unwrap_err();
    assert!(matches!(error, AttesterError::ReportDataDiffers));
    assert_eq!(error.code().0, "RDT-ATT-008");
}

#[tokio::test]
async fn malformed_answers_are_refused() {
    let evidence_error = |error| match error {
        AttesterError::Evidence(error) => Some(error),
        _ => None,
    };
    let refused = ask(frame(0x16, 0, &[]), false).await.unwrap_err();
    assert!(matches!(
        evidence_error(refused),
        Some(EvidenceError::ResponseStatus(0x16))
    ));
    let size = ask(frame(0, 1183, &REPORT[..1183]), false)
        .await
        .unwrap_err();
    assert!(matches!(
        evidence_error(size),
        Some(EvidenceError::ResponseReportSize(1183))
    ));
    let cut = ask(frame(0, 1184, &REPORT[..1000]), false)
        .await
        .unwrap_err();
    assert!(matches!(
        evidence_error(cut),
        Some(EvidenceError::ResponseSize { actual: 1032 })
    ));
    let table = [REPORT, &[1; 24]].concat();
    let table = ask(frame(0, 1184, &table), false).await.unwrap_err();
    assert!(evidence_error(table).is_some());
    let empty = ask(vec![0; 4], false).await.unwrap_err();
    assert!(matches!(
        evidence_error(empty),
        Some(EvidenceError::ResponseSize { actual: 0 })
    ));
}

#[tokio::test]
async fn a_giant_answer_is_refused_before_it_is_read() {
    let error = ask(u32::MAX.to_le_bytes().to_vec(), true)
        .await
        .unwrap_err();
    assert!(matches!(error, AttesterError::MessageTooLong(u32::MAX)));
}

#[tokio::test]
async fn an_answer_that_stops_is_an_error() {
    let mut half = frame(0, 1184, REPORT);
    half.truncate(600);
    assert!(matches!(
        ask(half, false).await,
        Err(AttesterError::Exchange(_))
    ));
    assert!(matches!(
        ask(Vec::new(), false).await,
        Err(AttesterError::Exchange(_))
    ));
}

#[tokio::test]
async fn a_peer_that_never_answers_times_out() {
    assert!(matches!(
        ask(Vec::new(), true).await,
        Err(AttesterError::Timeout { .. })
    ));
}

#[tokio::test]
async fn a_machine_without_any_interface_says_what_is_missing() {
    let nowhere = PathBuf::from("/nonexistent");
    let attester = SnpAttester::new(
        ConfigfsAttester::at(nowhere.join("tsm")),
        DeviceAttester::at(nowhere.join("sev-guest")),
    );
    let error = attester.host_data().await.unwrap_err();
    assert!(matches!(error, AttesterError::NoDevice));
    assert!(error.hint().unwrap().contains("CONFIG_SEV_GUEST"));
}

#[tokio::test]
async fn a_device_that_is_no_sev_guest_is_an_error_of_the_driver() {
    let error = DeviceAttester::at("/dev/null")
        .evidence(&[0; 64])
        .await
        .unwrap_err();
    assert!(matches!(error, AttesterError::Driver { .. }), "{error:?}");
    let error = DeviceAttester::at("/nonexistent")
        .evidence(&[0; 64])
        .await
        .unwrap_err();
    assert!(matches!(error, AttesterError::Open { .. }));
}

#[test]
fn each_kind_has_its_attester() {
    assert_eq!(attester_for(AttesterKind::Snp).tee(), TeeKind::Snp);
    assert_eq!(
        attester_for(AttesterKind::SimulatedSnp).tee(),
        TeeKind::SimulatedSnp
    );
    assert_eq!(TeeKind::SimulatedSnp.protocol_name(), "snp");
    assert!(TeeKind::SimulatedSnp.is_simulated());
}
