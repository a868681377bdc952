//! Quotes, simulated and real.

use redoubt_evidence::tdx::{RawTdReport15, TdxEvidence, TdxQuote};
use redoubt_tdx_verifier::{TcbStatus, TdxCollateral, TdxExpectations, Trust, verify};
use redoubt_verifier::{Bundle, CollateralId, CollateralItem, ReferenceSet};
use time::OffsetDateTime;
use time::macros::datetime;

use crate::case::Expected::{self, Accepted, Refused};
use crate::case::{Case, Outcome, Row, Step};
use crate::error::HarnessError;
use crate::site::Site;
use crate::snp::{observed, unreadable};
use crate::tdx::documents::{Documents, Flaw};
use crate::tdx::enclave::{Fault, TdProfile};

const fn refused(code: &'static str) -> Expected {
    Refused(Step::Evidence, code)
}

/// A quote before it is judged.
struct Draft {
    profile: TdProfile,
    fault: Fault,
    documents: Documents,
    /// What is done to the bytes of the quote.
    tamper: fn(&mut Vec<u8>),
    expect: fn(&mut TdxExpectations),
}

impl Draft {
    fn good() -> Self {
        let rtmrs = [[1; 48], [2; 48], [3; 48], [0; 48]];
        let mut profile = TdProfile::new([7; 48], rtmrs, [0x3C; 64]);
        profile.report.mr_config_id = [9; 48];
        Self {
            profile,
            fault: Fault::None,
            documents: Documents::default(),
            tamper: |_| {},
            expect: |_| {},
        }
    }

    fn judge(self, site: &Site) -> Outcome {
        let expected_of = self.profile.clone();
        let mut bytes = site.tdx.quote_with(&self.profile, self.fault)?;
        (self.tamper)(&mut bytes);
        let quote = match TdxQuote::parse(&bytes) {
            Ok(quote) => quote,
            Err(error) => return Ok(unreadable(&error)),
        };
        let bundle = site.tdx.bundle_with(self.documents);
        let bundle = match bundle {
            Ok(bundle) => bundle,
            Err(HarnessError::Verifier(error)) => return Ok(unreadable(&error)),
            Err(error) => return Err(error),
        };
        let collateral = TdxCollateral::from_bundle(&bundle, &quote)?;
        let trust = Trust::new(Some(&collateral), OffsetDateTime::now_utc())
            .with_root(site.tdx.root_certificate())?;
        let mut expected = all_of(&expected_of);
        (self.expect)(&mut expected);
        let evidence = TdxEvidence {
            quote,
            event_log: None,
        };
        Ok(observed(&verify(&evidence, &trust, &expected)))
    }
}

fn all_of(profile: &TdProfile) -> TdxExpectations {
    let report = &profile.report;
    TdxExpectations {
        mrtd: ReferenceSet::one([7; 48], "site"),
        rtmrs: [[1; 48], [2; 48], [3; 48], [0; 48]].map(|rtmr| ReferenceSet::one(rtmr, "site")),
        mr_config_id: ReferenceSet::one([9; 48], "site"),
        report_data: ReferenceSet::one([0x3C; 64], "site"),
        mr_owner: ReferenceSet::one(report.mr_owner, "site"),
        ..TdxExpectations::default()
    }
}

type Change = fn(&mut Draft);

const SIMULATED: [(Row, &str, Expected, Change); 34] = [
    (Row::TdxQuote, "version 4", Accepted, |_| {}),
    (Row::TdxQuote, "version 5 of TDX 1.5", Accepted, |draft| {
        draft.profile.report_15 = Some(TDX_15);
    }),
    (
        Row::TdxQuote,
        "a buffer with zeros behind the quote",
        Accepted,
        |draft| {
            draft.tamper = |bytes| bytes.resize(8000, 0);
        },
    ),
    (
        Row::TdxQuote,
        "a TD under debug",
        refused("debug_policy"),
        |draft| {
            set_attribute(draft, 0);
        },
    ),
    (
        Row::TdxQuote,
        "a TD under profiling",
        refused("debug_policy"),
        |draft| {
            set_attribute(draft, 4);
        },
    ),
    (
        Row::TdxQuote,
        "a TD that may migrate",
        refused("migration_policy"),
        |draft| {
            set_attribute(draft, 29);
        },
    ),
    (
        Row::TdxQuote,
        "a TD without SEPT_VE_DISABLE",
        refused("sept_ve_disable"),
        |draft| {
            draft.profile.report.td_attributes = 0.into();
        },
    ),
    (
        Row::TdxQuote,
        "a TD with a service TD",
        refused("service_td"),
        |draft| {
            draft.profile.report_15 = Some(RawTdReport15 {
                mr_service_td: [1; 48],
                ..TDX_15
            });
        },
    ),
    (Row::TdxQuote, "another MRTD", refused("mrtd"), |draft| {
        draft.profile.report.mr_td[0] ^= 1;
    }),
    (Row::TdxQuote, "another RTMR1", refused("rtmr1"), |draft| {
        draft.profile.report.rtmrs[1][47] ^= 1;
    }),
    (
        Row::TdxQuote,
        "another MRCONFIGID",
        refused("mr_config_id"),
        |draft| {
            draft.profile.report.mr_config_id[0] ^= 1;
        },
    ),
    (
        Row::TdxQuote,
        "REPORT_DATA of another session",
        refused("report_data"),
        |draft| {
            draft.profile.report.report_data[0] ^= 1;
        },
    ),
    (
        Row::TdxQuote,
        "a flipped bit of the report",
        refused("quote_signature"),
        |draft| {
            draft.tamper = |bytes| flip(bytes, 48 + 328);
        },
    ),
    (
        Row::TdxQuote,
        "a flipped bit of the signature",
        refused("quote_signature"),
        |draft| {
            draft.tamper = |bytes| flip(bytes, 48 + 584 + 4);
        },
    ),
    (
        Row::TdxQuote,
        "an attestation key that the enclave does not vouch for",
        refused("quote_signature"),
        |draft| draft.fault = Fault::OtherKey,
    ),
    (
        Row::TdxQuote,
        "a PCK of another platform",
        refused("quote_signature"),
        |draft| {
            draft.fault = Fault::OtherPck;
        },
    ),
    (
        Row::TdxQuote,
        "a PCK under another root",
        refused("quote_signature"),
        |draft| {
            draft.fault = Fault::OtherRoot;
        },
    ),
    (
        Row::TdxQuote,
        "a quote that was cut",
        refused("RDT-EVD-021"),
        |draft| {
            draft.tamper = |bytes| bytes.truncate(bytes.len() / 2);
        },
    ),
    (
        Row::TdxQuote,
        "another type of certification data",
        refused("RDT-EVD-027"),
        |draft| {
            draft.tamper = |bytes| set(bytes, 48 + 584 + 4 + 128, 1);
        },
    ),
    (
        Row::TdxQuote,
        "the TEE type of SGX",
        refused("RDT-EVD-023"),
        |draft| {
            draft.tamper = |bytes| set(bytes, 4, 0);
        },
    ),
    (
        Row::TdxQuote,
        "version 3",
        refused("RDT-EVD-022"),
        |draft| {
            draft.tamper = |bytes| set(bytes, 0, 3);
        },
    ),
    (
        Row::TdxQuote,
        "another kind of attestation key",
        refused("RDT-EVD-024"),
        |draft| {
            draft.tamper = |bytes| set(bytes, 2, 3);
        },
    ),
    (
        Row::TdxCollateral,
        "current documents of an up-to-date platform",
        Accepted,
        |_| {},
    ),
    (
        Row::TdxCollateral,
        "documents past their next update",
        refused("collateral_validity"),
        |draft| {
            draft.documents.flaw = Flaw::Past;
        },
    ),
    (
        Row::TdxCollateral,
        "a platform that is out of date",
        refused("tcb_status"),
        |draft| {
            draft.documents.status = "OutOfDate";
        },
    ),
    (
        Row::TdxCollateral,
        "the same where it is accepted",
        Accepted,
        |draft| {
            draft.documents.status = "OutOfDate";
            draft.expect = |expected| expected.tcb.statuses = vec![TcbStatus::OutOfDate];
        },
    ),
    (
        Row::TdxCollateral,
        "a revoked TCB, even where it is accepted",
        refused("tcb_status"),
        |draft| {
            draft.documents.status = "Revoked";
            draft.expect = |expected| expected.tcb.statuses = vec![TcbStatus::Revoked];
        },
    ),
    (
        Row::TdxCollateral,
        "a platform below every level",
        refused("tcb_status"),
        |draft| {
            draft.documents.flaw = Flaw::Above;
        },
    ),
    (
        Row::TdxCollateral,
        "documents for another FMSPC",
        refused("RDT-VER-020"),
        |draft| {
            draft.documents.flaw = Flaw::OtherFmspc;
        },
    ),
    (
        Row::TdxCollateral,
        "the identity of another enclave",
        refused("quote_signature"),
        |draft| {
            draft.documents.flaw = Flaw::OtherEnclave;
        },
    ),
    (
        Row::TdxCollateral,
        "documents that were altered",
        refused("quote_signature"),
        |draft| draft.documents.flaw = Flaw::Altered,
    ),
    (
        Row::TdxCollateral,
        "a revoked PCK",
        refused("revocation"),
        |draft| {
            draft.documents.flaw = Flaw::RevokedPck;
        },
    ),
    (
        Row::TdxCollateral,
        "a revoked authority",
        refused("revocation"),
        |draft| {
            draft.documents.flaw = Flaw::RevokedPlatformCa;
        },
    ),
    (
        Row::TdxCollateral,
        "a revoked signer of documents",
        refused("revocation"),
        |draft| {
            draft.documents.flaw = Flaw::RevokedSigner;
        },
    ),
];

/// TDX 1.5 with the security versions of the launch and no service TD.
const TDX_15: RawTdReport15 = RawTdReport15 {
    tee_tcb_svn_2: [0; 16],
    mr_service_td: [0; 48],
};

fn set_attribute(draft: &mut Draft, bit: u32) {
    let attributes = &mut draft.profile.report.td_attributes;
    *attributes = (attributes.get() | 1 << bit).into();
}

fn flip(bytes: &mut [u8], place: usize) {
    if let Some(byte) = bytes.get_mut(place) {
        *byte ^= 1;
    }
}

fn set(bytes: &mut [u8], place: usize, value: u8) {
    if let Some(byte) = bytes.get_mut(place) {
        *byte = value;
    }
}

const REAL: &[u8] = include_bytes!("../../../evidence/testdata/tdx/dcap-qvl-tdx_quote.dat");
const REAL_OUTDATED: &[u8] =
    include_bytes!("../../../evidence/testdata/tdx/dcap-qvl-tdx_quote_outdated.dat");
const REAL_DEBUG: &[u8] = include_bytes!("../../../evidence/testdata/tdx/tdx_quote_4.dat");
const REAL_SERVICE_TD: &[u8] = include_bytes!("../../../evidence/testdata/tdx/tdx_quote_5.dat");
const REAL_SGX: &[u8] = include_bytes!("../../../evidence/testdata/tdx/dcap-qvl-sgx_quote.dat");
const SUMMER_2025: &[u8] =
    include_bytes!("../../../tdx-verifier/testdata/tdx_quote_collateral.json");
const WINTER_2026: &[u8] =
    include_bytes!("../../../tdx-verifier/testdata/tdx_quote_outdated_collateral.json");
const SIGNERS: &str = include_str!("../../../verifier/testdata/tdx/tcb_signing_chain.pem");

/// Intel's documents of March 2026 on the platform of [`REAL_DEBUG`].
fn spring_2026() -> Result<Vec<u8>, HarnessError> {
    let documents: [(&str, &[u8]); 4] = [
        (
            "tdx/tcb-info/50806f000000",
            include_bytes!("../../../verifier/testdata/tdx/tcb_info_50806f000000.json"),
        ),
        (
            "tdx/qe-identity",
            include_bytes!("../../../verifier/testdata/tdx/td_qe_identity.json"),
        ),
        (
            "tdx/pck-crl/platform",
            include_bytes!("../../../verifier/testdata/tdx/pck_crl_platform.der"),
        ),
        (
            "tdx/root-ca-crl",
            include_bytes!("../../../verifier/testdata/tdx/root_ca_crl.der"),
        ),
    ];
    let mut bundle = Bundle::default();
    for (id, body) in documents {
        let id: CollateralId = id.parse()?;
        bundle.insert(CollateralItem {
            id,
            body: body.to_vec(),
            issuer_chain: (id != CollateralId::RootCaCrl).then(|| SIGNERS.to_owned()),
            fetched_at: SPRING,
        })?;
    }
    Ok(bundle.to_json()?.into_bytes())
}

const SUMMER: OffsetDateTime = datetime!(2025-07-01 0:00 UTC);
const WINTER: OffsetDateTime = datetime!(2026-02-20 0:00 UTC);
const SPRING: OffsetDateTime = datetime!(2026-04-01 0:00 UTC);

/// Judges a real quote by what it says of itself, so that authenticity decides.
fn real(
    quote: &[u8],
    collateral: &[u8],
    at: OffsetDateTime,
    change: fn(&mut TdxExpectations),
) -> Outcome {
    let quote = match TdxQuote::parse(quote) {
        Ok(quote) => quote,
        Err(error) => return Ok(unreadable(&error)),
    };
    let collateral = TdxCollateral::of_file(collateral, &quote)?;
    let report = quote.report();
    let mut expected = TdxExpectations {
        mrtd: ReferenceSet::one(report.mr_td, "quote"),
        rtmrs: report.rtmrs.map(|rtmr| ReferenceSet::one(rtmr, "quote")),
        mr_config_id: ReferenceSet::one(report.mr_config_id, "quote"),
        report_data: ReferenceSet::one(report.report_data, "quote"),
        ..TdxExpectations::default()
    };
    change(&mut expected);
    let evidence = TdxEvidence {
        quote,
        event_log: None,
    };
    let trust = Trust::new(Some(&collateral), at);
    Ok(observed(&verify(&evidence, &trust, &expected)))
}

fn real_cases() -> Vec<Case> {
    let case =
        |row, name, expected, run: fn(&Site) -> Outcome| Case::local(row, name, expected, run);
    vec![
        case(
            Row::TdxQuote,
            "real: version 4, at its date",
            Accepted,
            |_| real(REAL, SUMMER_2025, SUMMER, |_| {}),
        ),
        case(
            Row::TdxQuote,
            "real: a TD under debug",
            refused("debug_policy"),
            |_| {
                real(REAL_DEBUG, &spring_2026()?, SPRING, |expected| {
                    expected.tcb.statuses = vec![TcbStatus::OutOfDate];
                })
            },
        ),
        case(
            Row::TdxQuote,
            "real: the same where it is allowed",
            Accepted,
            |_| {
                real(REAL_DEBUG, &spring_2026()?, SPRING, |expected| {
                    expected.tcb.statuses = vec![TcbStatus::OutOfDate];
                    expected.attributes.allow_debug = true;
                })
            },
        ),
        case(
            Row::TdxQuote,
            "real: a TD with a service TD",
            refused("service_td"),
            |_| real(REAL_SERVICE_TD, WINTER_2026, WINTER, |_| {}),
        ),
        case(
            Row::TdxQuote,
            "real: an SGX quote",
            refused("RDT-EVD-022"),
            |_| real(REAL_SGX, SUMMER_2025, SUMMER, |_| {}),
        ),
        case(
            Row::TdxCollateral,
            "real: after the next update",
            refused("collateral_validity"),
            |_| real(REAL, SUMMER_2025, WINTER, |_| {}),
        ),
        case(
            Row::TdxCollateral,
            "real: an outdated platform",
            refused("tcb_status"),
            |_| real(REAL_OUTDATED, WINTER_2026, WINTER, |_| {}),
        ),
        case(
            Row::TdxCollateral,
            "real: documents for another FMSPC",
            refused("fmspc"),
            |_| real(REAL, WINTER_2026, WINTER, |_| {}),
        ),
    ]
}

pub(crate) fn cases() -> Vec<Case> {
    let simulated = SIMULATED.into_iter().map(|(row, name, expected, change)| {
        Case::local(row, name, expected, move |site| {
            let mut draft = Draft::good();
            change(&mut draft);
            draft.judge(site)
        })
    });
    simulated.chain(real_cases()).collect()
}
