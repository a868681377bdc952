//! The key broker's evidence document.

#![expect(clippy::unwrap_used, reason = "a test without its data has failed")]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use redoubt_evidence::{
    CertKind, CertTable, EvidenceError, Guid, MAX_EVIDENCE_JSON_BYTES, RawReport, SnpEvidence,
    SnpReport,
};
use serde_json::{Value, json};

const TRUSTEE: &[u8] = include_bytes!("../testdata/trustee-e2e-snp-evidence.json");
const GENOA_V5: &[u8] = include_bytes!("../testdata/attestation-rs-live-report-v5-genoa.bin");
const MILAN_V2: &[u8] = include_bytes!("../testdata/trustee-test-report.bin");

fn evidence(report: &[u8]) -> SnpEvidence {
    let mut certs = CertTable::default();
    certs.insert(CertKind::Vcek, vec![0x30, 1, 2]).unwrap();
    SnpEvidence {
        report: SnpReport::parse(report).unwrap(),
        certs,
    }
}

fn parse(value: &Value) -> Result<SnpEvidence, EvidenceError> {
    SnpEvidence::parse_kbs_json(&serde_json::to_vec(value).unwrap())
}

#[test]
fn trustees_document_is_read_and_written_as_trustee_writes_it() {
    let evidence = SnpEvidence::parse_kbs_json(TRUSTEE).unwrap();
    assert_eq!(evidence.report.version().number(), 3);
    assert!(evidence.certs.get(CertKind::Vcek).is_some());
    let mut own = evidence.to_kbs_json().unwrap();
    let report = own.as_object_mut().unwrap().remove("report").unwrap();
    let theirs: Value = serde_json::from_slice(TRUSTEE).unwrap();
    assert_eq!(own, theirs);
    // The raw report beside it is the one the fields spell out.
    let raw = STANDARD.decode(report.as_str().unwrap()).unwrap();
    assert_eq!(raw, evidence.report.as_bytes());
}

#[test]
fn real_reports_survive_with_and_without_the_raw_bytes() {
    for report in [GENOA_V5, MILAN_V2] {
        let evidence = evidence(report);
        let mut value = evidence.to_kbs_json().unwrap();
        assert_eq!(parse(&value).unwrap(), evidence);
        assert_eq!(SnpEvidence::from_kbs_json(&value).unwrap(), evidence);
        value.as_object_mut().unwrap().remove("report");
        assert_eq!(parse(&value).unwrap(), evidence, "spelt out only");
        let raw_only = json!({ "report": STANDARD.encode(report), "cert_chain": null });
        assert_eq!(
            parse(&raw_only).unwrap().report,
            evidence.report,
            "raw only"
        );
    }
}

#[test]
fn reserved_bytes_travel_in_the_raw_report() {
    let mut raw = *SnpReport::parse(GENOA_V5).unwrap().raw();
    raw.reserved_208[3] = 0x77;
    let report = SnpReport::from_raw(raw).unwrap();
    let evidence = SnpEvidence {
        report,
        certs: CertTable::default(),
    };
    assert_eq!(parse(&evidence.to_kbs_json().unwrap()).unwrap(), evidence);
}

#[test]
fn two_different_reports_in_one_document_are_refused() {
    let mut value = evidence(GENOA_V5).to_kbs_json().unwrap();
    value["attestation_report"]["measurement"][0] = json!(1);
    assert!(matches!(parse(&value), Err(EvidenceError::ReportsDiffer)));
    let mut value = evidence(GENOA_V5).to_kbs_json().unwrap();
    value["report"] = json!(STANDARD.encode(MILAN_V2));
    assert!(matches!(parse(&value), Err(EvidenceError::ReportsDiffer)));
}

#[test]
fn documents_that_are_no_evidence_are_refused() {
    let good = evidence(GENOA_V5).to_kbs_json().unwrap();
    let with = |path: &str, new: Value| {
        let mut value = good.clone();
        value.as_object_mut().unwrap().remove("report");
        *value.pointer_mut(path).unwrap() = new;
        parse(&value)
    };
    let short: Vec<u8> = vec![0; 47];
    let long: Vec<u8> = vec![0; 49];
    for (path, new) in [
        ("/attestation_report/measurement", json!(short)),
        ("/attestation_report/measurement", json!(long)),
        ("/attestation_report/measurement/0", json!(256)),
        ("/attestation_report/measurement/0", json!(-1)),
        ("/attestation_report/policy", json!("196608")),
        ("/attestation_report/policy", json!(1.5)),
        ("/attestation_report/vmpl", json!(4_294_967_296_u64)),
        ("/attestation_report/signature/r", json!([])),
        ("/attestation_report/reported_tcb/snp", Value::Null),
        ("/attestation_report", json!("base64")),
        ("/cert_chain", json!({})),
        ("/cert_chain/0/cert_type", json!("VCEK2")),
        ("/cert_chain/0/data", json!("AAAA")),
    ] {
        assert!(
            matches!(with(path, new), Err(EvidenceError::Json(_))),
            "{path}"
        );
    }
    assert!(matches!(
        with("/attestation_report/version", json!(6)),
        Err(EvidenceError::ReportVersion(6))
    ));
    assert!(matches!(
        with("/cert_chain/0/data", json!([])),
        Err(EvidenceError::CertificateSize { actual: 0, .. })
    ));
    assert!(matches!(
        with("/attestation_report", Value::Null),
        Err(EvidenceError::NoReport)
    ));
    for text in ["", "null", "[]", "{", "\"x\"", "{}{}"] {
        assert!(
            SnpEvidence::parse_kbs_json(text.as_bytes()).is_err(),
            "{text}"
        );
    }
    assert!(matches!(parse(&json!({})), Err(EvidenceError::NoReport)));
}

#[test]
fn a_raw_report_that_is_none_is_refused() {
    let report = |text: String| parse(&json!({ "report": text }));
    assert!(matches!(
        report("!".to_owned()),
        Err(EvidenceError::ReportEncoding(_))
    ));
    assert!(matches!(
        report(String::new()),
        Err(EvidenceError::ReportSize { actual: 0 })
    ));
    assert!(matches!(
        report(STANDARD.encode(&GENOA_V5[1..])),
        Err(EvidenceError::ReportSize { actual: 1183 })
    ));
    assert!(matches!(
        report("A".repeat(100_000)),
        Err(EvidenceError::ReportSize { .. })
    ));
}

#[test]
fn the_documents_size_is_bounded() {
    let giant = vec![b' '; MAX_EVIDENCE_JSON_BYTES + 1];
    assert!(matches!(
        SnpEvidence::parse_kbs_json(&giant),
        Err(EvidenceError::JsonSize { .. })
    ));
    let deep = "[".repeat(100_000);
    assert!(matches!(
        SnpEvidence::parse_kbs_json(deep.as_bytes()),
        Err(EvidenceError::Json(_))
    ));
}

#[test]
fn one_kind_of_certificate_twice_is_refused() {
    let mut value = evidence(GENOA_V5).to_kbs_json().unwrap();
    let cert = value["cert_chain"][0].clone();
    value["cert_chain"].as_array_mut().unwrap().push(cert);
    assert!(matches!(
        parse(&value),
        Err(EvidenceError::DuplicateCertificate(CertKind::Vcek))
    ));
}

#[test]
fn entries_without_a_name_are_skipped_in_both_directions() {
    let mut own = evidence(GENOA_V5);
    own.certs
        .insert(CertKind::Other(Guid([5; 16])), vec![1])
        .unwrap();
    let mut value = own.to_kbs_json().unwrap();
    assert_eq!(value["cert_chain"].as_array().unwrap().len(), 1);
    let other =
        json!({ "cert_type": { "OTHER": "05050505-0505-0505-0505-050505050505" }, "data": [1] });
    value["cert_chain"].as_array_mut().unwrap().push(other);
    assert_eq!(parse(&value).unwrap().certs.entries().len(), 1);
}

proptest! {
    #[test]
    fn any_report_survives(
        version in prop_oneof![Just(2_u32), Just(3), Just(5)],
        rest in proptest::collection::vec(any::<u8>(), 1180)
    ) {
        let bytes = [version.to_le_bytes().as_slice(), &rest].concat();
        let report = SnpReport::parse(&bytes).unwrap();
        let evidence = SnpEvidence { report, certs: CertTable::default() };
        prop_assert_eq!(parse(&evidence.to_kbs_json().unwrap()).unwrap(), evidence);
    }

    #[test]
    fn any_text_is_evidence_or_an_error(text in ".{0,200}") {
        let _ = SnpEvidence::parse_kbs_json(text.as_bytes());
    }

    #[test]
    fn a_cut_document_is_refused(length in 0..TRUSTEE.len() - 2) {
        prop_assert!(SnpEvidence::parse_kbs_json(&TRUSTEE[..length]).is_err());
    }
}

#[test]
fn an_all_zero_report_of_each_version_survives_without_the_raw_bytes() {
    for version in [2_u32, 3, 5] {
        let mut raw = RawReport::zeroed();
        raw.version = version.into();
        let report = SnpReport::from_raw(raw).unwrap();
        let mut value = SnpEvidence {
            report,
            certs: CertTable::default(),
        }
        .to_kbs_json()
        .unwrap();
        value.as_object_mut().unwrap().remove("report");
        assert_eq!(parse(&value).unwrap().report, report);
    }
}
