//! Real quotes, and what is done to them on the way.

use proptest::prelude::*;
use redoubt_evidence::tdx::{QuoteVersion, TdxEvidence, TdxQuote, show};
use redoubt_evidence::{Evidence, EvidenceError};
use serde_json::json;

const V4_DEBUG: &[u8] = include_bytes!("../testdata/tdx/tdx_quote_4.dat");
const V5: &[u8] = include_bytes!("../testdata/tdx/tdx_quote_5.dat");
const SPR: &[u8] = include_bytes!("../testdata/tdx/go-tdx_prod_quote_SPR_E4.dat");
const LIVE: &[u8] = include_bytes!("../testdata/tdx/attestation-rs-tdx_quote_live.dat");
const SAMPLE: &[u8] = include_bytes!("../testdata/tdx/dcap-qvl-tdx_quote.dat");
const SGX: &[u8] = include_bytes!("../testdata/tdx/dcap-qvl-sgx_quote.dat");
const SNP_JSON: &[u8] = include_bytes!("../testdata/trustee-e2e-snp-evidence.json");

#[test]
fn real_quotes_are_read() {
    for (bytes, version) in [
        (V4_DEBUG, QuoteVersion::V4),
        (V5, QuoteVersion::V5),
        (SPR, QuoteVersion::V4),
        (LIVE, QuoteVersion::V4),
        (SAMPLE, QuoteVersion::V4),
    ] {
        let quote = TdxQuote::parse(bytes).unwrap();
        assert_eq!(quote.version(), version);
        assert!(bytes.starts_with(quote.as_bytes()));
        let chain = quote.pck_chain().unwrap();
        assert!(chain.starts_with(b"-----BEGIN CERTIFICATE-----"));
    }
    assert!(TdxQuote::parse(V4_DEBUG).unwrap().attributes().debug());
    assert!(!TdxQuote::parse(V5).unwrap().attributes().debug());
    assert!(TdxQuote::parse(V5).unwrap().report_15().is_some());
    assert!(
        !TdxQuote::parse(SPR)
            .unwrap()
            .attributes()
            .sept_ve_disabled()
    );
}

#[test]
fn what_follows_a_quote_in_its_buffer_is_left_out() {
    let mut padded = V5.to_vec();
    padded.resize(8000, 0);
    let plain = TdxQuote::parse(V5).unwrap();
    assert_eq!(TdxQuote::parse(&padded).unwrap(), plain);
    padded[7999] = 1;
    assert_eq!(TdxQuote::parse(&padded).unwrap(), plain);
    let huge = vec![0; 64 * 1024 + 1];
    assert!(matches!(
        TdxQuote::parse(&huge),
        Err(EvidenceError::QuoteSize { .. })
    ));
}

#[test]
fn a_cut_quote_is_refused_wherever_it_ends() {
    let length = TdxQuote::parse(V5).unwrap().as_bytes().len();
    for end in 0..length {
        assert!(TdxQuote::parse(&V5[..end]).is_err(), "{end}");
    }
}

#[test]
fn other_quotes_are_told_apart() {
    assert!(matches!(
        TdxQuote::parse(SGX),
        Err(EvidenceError::QuoteVersion(3))
    ));
    let with = |offset: usize, bytes: &[u8]| {
        let mut quote = V5.to_vec();
        quote[offset..offset + bytes.len()].copy_from_slice(bytes);
        TdxQuote::parse(&quote).unwrap_err()
    };
    assert!(matches!(
        with(4, &[0, 0, 0, 0]),
        EvidenceError::QuoteTeeType(0)
    ));
    assert!(matches!(with(2, &[3, 0]), EvidenceError::QuoteKeyType(3)));
    assert!(matches!(with(48, &[1, 0]), EvidenceError::QuoteBodyType(1)));
    assert!(matches!(
        with(50, &[1, 0, 0, 0]),
        EvidenceError::QuoteBodySize { kind: 3, size: 1 }
    ));
    assert!(matches!(
        with(54 + 648, &[0xFF; 4]),
        EvidenceError::QuoteCut { .. }
    ));
    assert!(matches!(
        with(54 + 648 + 4 + 128, &[5, 0]),
        EvidenceError::QuoteCertType(5)
    ));
}

#[test]
fn evidence_is_read_in_each_of_the_protocols_wrappers() {
    let evidence = TdxEvidence {
        quote: TdxQuote::parse(V5).unwrap(),
        event_log: Some(b"log".to_vec()),
    };
    let own = evidence.to_kbs_json();
    let snp: serde_json::Value = serde_json::from_slice(SNP_JSON).unwrap();
    let parse = |value: serde_json::Value| Evidence::parse_kbs_json(value.to_string().as_bytes());
    for value in [
        own.clone(),
        json!({ "primary_evidence": own.clone(), "additional_evidence": "" }),
        json!({ "tee-evidence": { "primary_evidence": own.clone() } }),
    ] {
        assert_eq!(
            parse(value).unwrap(),
            Evidence::Tdx(Box::new(evidence.clone()))
        );
    }
    assert!(matches!(
        parse(json!({ "primary_evidence": snp })),
        Ok(Evidence::Snp(_))
    ));
    let mut without_log = own;
    without_log["cc_eventlog"] = json!(null);
    assert!(matches!(parse(without_log), Ok(Evidence::Tdx(tdx)) if tdx.event_log.is_none()));
}

#[test]
fn evidence_that_is_none_is_refused() {
    let parse = |text: &str| Evidence::parse_kbs_json(text.as_bytes()).unwrap_err();
    assert!(matches!(parse("{"), EvidenceError::Json(_)));
    assert!(matches!(parse("{}"), EvidenceError::NoReport));
    assert!(matches!(parse("7"), EvidenceError::Json(_)));
    assert!(matches!(parse(r#"{"quote":7}"#), EvidenceError::TdxJson(_)));
    assert!(matches!(
        parse(r#"{"quote":"%"}"#),
        EvidenceError::MemberEncoding {
            member: "quote",
            ..
        }
    ));
    assert!(matches!(
        parse(r#"{"quote":"AAAA"}"#),
        EvidenceError::QuoteCut { .. }
    ));
    let long = format!(r#"{{"quote":"{}"}}"#, "A".repeat(200_000));
    assert!(matches!(parse(&long), EvidenceError::MemberSize { .. }));
}

#[test]
fn every_field_is_shown_in_words() {
    insta::assert_snapshot!(show(&TdxQuote::parse(V5).unwrap()), @r"
    version                5
    quoting enclave svn    0
    certification svn      0
    tee tcb svn            05010200000000000000000000000000
    mrseam                 1cc6a17ab799e9a693fac7536be61c12ee1e0fabada82d0c999e08ccee2aa86de77b0870f558c570e7ffe55d6d47fa04
    mrsignerseam           zero
    seam attributes        0x0
    td attributes          0x10000000: debug off, profiling off, SEPT_VE_DISABLE on, migration off, service TDs off, protection keys off, Key Locker off, performance monitoring off
    xfam                   0x642e7
    mrtd                   dfba221b48a22af8511542ee796603f37382800840dcd978703909bf8e64d4c8a1e9de86e7c9638bfcba422f3886400a
    mrconfigid             zero
    mrowner                zero
    mrownerconfig          zero
    rtmr0                  9b529f3689e2e8ebb899e9abbbc3dab394d6545e8cdb28a2abb9cc2f377b83a65c01ba56b824cd3ee885df20051f5128
    rtmr1                  ca5a979317ffe8a527a3b7aadab03976d7cb6eef1041fb9bd9d69e6fafa7252cdc10e4c2a55e7ecbd2ddb5cacc867430
    rtmr2                  zero
    rtmr3                  zero
    report data            6d6ab13b046cff606ac0074be13981b07b6325dba10b5facc96febf551c0c3be2b75f92fe1f88f4bb996969ad0174b4b7a70261b7b85c844f4b33a4674fd049f
    tee tcb svn now        05010200000000000000000000000000
    mrservicetd            383c87d3bbb047b2d171eaca95312ede99f258088dc788f6ae2ccf8b6dd848fe8d47629e08b3f6cbd4a00dd47a5a033d
    pck chain              in the quote

    not verified: these are the quote's own words
    ");
}

proptest! {
    #[test]
    fn any_bytes_are_a_quote_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let _ = TdxQuote::parse(&bytes);
    }

    #[test]
    fn a_damaged_quote_is_read_or_refused(offset in 0..V5.len(), change in 1_u8..) {
        let mut bytes = V5.to_vec();
        bytes[offset] ^= change;
        if let Ok(quote) = TdxQuote::parse(&bytes) {
            let _ = show(&quote);
        }
    }
}

#[test]
fn every_field_is_read_as_trustee_reads_it() {
    let claims = include_str!("../testdata/tdx/trustee-claims-of-tdx_quote_4.json");
    let claims: serde_json::Value = serde_json::from_str(claims).unwrap();
    let quote = include_bytes!("../testdata/tdx/tdx_quote_4.dat");
    let quote = TdxQuote::parse(quote).unwrap();
    let report = quote.report();
    let body = &claims["quote"]["body"];
    for (name, bytes) in [
        ("tcb_svn", report.tee_tcb_svn.as_slice()),
        ("mr_seam", &report.mr_seam),
        ("mrsigner_seam", &report.mr_signer_seam),
        (
            "seam_attributes",
            &report.seam_attributes.get().to_le_bytes(),
        ),
        ("td_attributes", &report.td_attributes.get().to_le_bytes()),
        ("xfam", &report.xfam.get().to_le_bytes()),
        ("mr_td", &report.mr_td),
        ("mr_config_id", &report.mr_config_id),
        ("mr_owner", &report.mr_owner),
        ("mr_owner_config", &report.mr_owner_config),
        ("rtmr_0", &report.rtmrs[0]),
        ("rtmr_1", &report.rtmrs[1]),
        ("rtmr_2", &report.rtmrs[2]),
        ("rtmr_3", &report.rtmrs[3]),
        ("report_data", &report.report_data),
    ] {
        assert_eq!(body[name], hex::encode(bytes), "{name}");
    }
    assert_eq!(claims["report_data"], hex::encode(report.report_data));
    assert_eq!(claims["init_data"], hex::encode(report.mr_config_id));
    let attributes = quote.attributes();
    assert_eq!(claims["td_attributes"]["debug"], attributes.debug());
    assert_eq!(
        claims["td_attributes"]["septve_disable"],
        attributes.sept_ve_disabled()
    );
    assert_eq!(
        claims["td_attributes"]["perfmon"],
        attributes.performance_monitoring()
    );
}
