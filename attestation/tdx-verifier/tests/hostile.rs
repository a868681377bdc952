//! Quotes and documents that somebody has changed.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use proptest::prelude::*;
use redoubt_evidence::tdx::{TdxEvidence, TdxQuote};
use redoubt_tdx_verifier::{PckInfo, TdxCollateral, TdxExpectations, Trust, verify};
use redoubt_verifier::{ClaimName, State, Verdict};
use serde_json::Value;
use time::OffsetDateTime;
use time::macros::datetime;

const QUOTE: &[u8] = include_bytes!("../../evidence/testdata/tdx/dcap-qvl-tdx_quote.dat");
const COLLATERAL: &[u8] = include_bytes!("../testdata/tdx_quote_collateral.json");
const THEN: OffsetDateTime = datetime!(2025-07-01 0:00 UTC);

/// Where the report's signature data begins in a quote of version 4, in bytes.
const SIGNATURE: usize = 48 + 584 + 4;
const QE_REPORT: usize = SIGNATURE + 64 + 64 + 6;

fn judge(quote: TdxQuote, collateral: &TdxCollateral) -> Verdict {
    let evidence = TdxEvidence {
        quote,
        event_log: None,
    };
    verify(
        &evidence,
        &Trust::new(Some(collateral), THEN),
        &TdxExpectations::default(),
    )
}

fn collateral() -> TdxCollateral {
    TdxCollateral::parse(COLLATERAL).unwrap()
}

/// The verdict on changed bytes; `None` where they are no quote any more.
fn judged(bytes: &[u8]) -> Option<Verdict> {
    Some(judge(TdxQuote::parse(bytes).ok()?, &collateral()))
}

fn flipped(place: usize) -> Vec<u8> {
    let mut bytes = QUOTE.to_vec();
    bytes[place] ^= 0x10;
    bytes
}

#[test]
fn a_change_of_any_signed_part_breaks_the_quote() {
    for (place, what) in [
        (30, "header: user data"),
        (48 + 136, "MRTD"),
        (48 + 520, "report data"),
        (SIGNATURE, "signature"),
        (SIGNATURE + 64, "attestation key"),
        (QE_REPORT, "report of the quoting enclave"),
        (QE_REPORT + 320, "report data of the quoting enclave"),
        (QE_REPORT + 384, "signature of that report"),
        (QE_REPORT + 384 + 64 + 2, "authentication data"),
    ] {
        let verdict = judged(&flipped(place)).unwrap();
        assert_eq!(verdict.state, State::NotVerified, "{what}");
        let failed = verdict
            .failed()
            .any(|claim| claim.name == ClaimName::QuoteSignature);
        assert!(failed, "{what}: {verdict}");
    }
}

#[test]
fn a_swapped_pck_chain_is_refused() {
    let other = TdxQuote::parse(include_bytes!(
        "../../evidence/testdata/tdx/dcap-qvl-tdx_quote_outdated.dat"
    ))
    .unwrap();
    let mine = TdxQuote::parse(QUOTE).unwrap();
    let (mine, other) = (mine.pck_chain().unwrap(), other.pck_chain().unwrap());
    let start = QUOTE
        .windows(mine.len())
        .position(|window| window == mine)
        .unwrap();
    // Lengths stand in front of the chain, of the certification data and of the whole.
    let mut bytes = QUOTE[..start].to_vec();
    bytes.extend_from_slice(other);
    let grown = |place: usize, bytes: &mut Vec<u8>| {
        let old = u32::from_le_bytes(bytes[place..place + 4].try_into().unwrap());
        let new = old + u32::try_from(other.len()).unwrap() - u32::try_from(mine.len()).unwrap();
        bytes[place..place + 4].copy_from_slice(&new.to_le_bytes());
    };
    for place in [start - 4, QE_REPORT - 4, SIGNATURE - 4] {
        grown(place, &mut bytes);
    }
    let verdict = judged(&bytes).unwrap();
    assert_eq!(verdict.state, State::NotVerified);
    assert!(!verdict.passed(ClaimName::QuoteSignature), "{verdict}");
}

#[test]
fn a_change_of_any_document_breaks_the_collateral() {
    let whole: Value = serde_json::from_slice(COLLATERAL).unwrap();
    let quote = TdxQuote::parse(QUOTE).unwrap();
    for member in [
        "tcb_info",
        "tcb_info_signature",
        "tcb_info_issuer_chain",
        "qe_identity",
        "qe_identity_signature",
        "qe_identity_issuer_chain",
        "pck_crl",
        "root_ca_crl",
    ] {
        let mut changed = whole.clone();
        let text = changed[member].as_str().unwrap().to_owned();
        // A quarter into a chain is in the signer's own certificate.
        let place = text.len() / 4;
        let with = if &text[place..=place] == "0" {
            "1"
        } else {
            "0"
        };
        changed[member] = format!("{}{with}{}", &text[..place], &text[place + 1..]).into();
        let collateral = TdxCollateral::parse(changed.to_string().as_bytes()).unwrap();
        let verdict = judge(quote.clone(), &collateral);
        assert_eq!(verdict.state, State::NotVerified, "{member}");
        changed[member] = "".into();
        let Ok(collateral) = TdxCollateral::parse(changed.to_string().as_bytes()) else {
            continue;
        };
        let verdict = judge(quote.clone(), &collateral);
        assert_eq!(verdict.state, State::NotVerified, "{member} left out");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn no_flipped_byte_of_the_signed_part_passes(place in 0..SIGNATURE - 4) {
        if let Some(verdict) = judged(&flipped(place)) {
            prop_assert_eq!(verdict.state, State::NotVerified);
        }
    }

    #[test]
    fn no_change_makes_the_verifier_panic(
        changes in prop::collection::vec((0..QUOTE.len(), any::<u8>()), 1..8),
        length in 0..=QUOTE.len(),
    ) {
        let mut bytes = QUOTE.to_vec();
        for (place, byte) in changes {
            bytes[place] = byte;
        }
        bytes.truncate(length.max(600));
        if let Ok(quote) = TdxQuote::parse(&bytes) {
            let _ = PckInfo::of(&quote);
            let _ = judge(quote, &collateral());
        }
    }

    #[test]
    fn no_document_makes_the_reader_panic(
        start in 0..COLLATERAL.len(),
        junk in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let quote = TdxQuote::parse(QUOTE).unwrap();
        let mut bytes = COLLATERAL.to_vec();
        bytes.splice(start..start, junk);
        if let Ok(collateral) = TdxCollateral::of_file(&bytes, &quote) {
            let _ = judge(quote, &collateral);
        }
    }
}
