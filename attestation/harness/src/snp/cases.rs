//! Minted evidence: what AMD's real one cannot show.

use redoubt_evidence::{SnpEvidence, TcbVersion};
use redoubt_verifier::{
    Collateral, Expectations, MinimumTcb, ReferenceSet, RevocationList, TrustAnchors, Verdict,
    verify,
};
use serde_json::Value;
use time::OffsetDateTime;

use crate::broker::attempt;
use crate::case::Expected::{Accepted, Refused};
use crate::case::{Case, Observed, Row, Step};
use crate::error::HarnessError;
use crate::site::{Site, minimum_tcb};
use crate::snp::Draft;
use crate::snp::forge::{Issuer, ended};

/// The session of cases without one.
const REPORT_DATA: [u8; 64] = [0x3C; 64];

type Change = fn(&mut Draft);

/// What is changed of good evidence, and which claim fails by it.
const MINTED: [(Row, &str, Option<&str>, Change); 41] = [
    (Row::SnpSignature, "a good signature", None, |_| {}),
    (
        Row::SnpSignature,
        "a flipped bit of the family id",
        Some("signature"),
        |draft| {
            draft.tamper = |raw| raw.family_id[0] ^= 1;
        },
    ),
    (
        Row::SnpSignature,
        "a flipped bit of a reserved field",
        Some("signature"),
        |draft| {
            draft.tamper = |raw| raw.reserved_18b[20] ^= 0x80;
        },
    ),
    (
        Row::SnpSignature,
        "a flipped bit of r",
        Some("signature"),
        |draft| {
            draft.tamper = |raw| raw.signature.r[0] ^= 1;
        },
    ),
    (
        Row::SnpSignature,
        "a flipped bit of s",
        Some("signature"),
        |draft| {
            draft.tamper = |raw| raw.signature.s[47] ^= 1;
        },
    ),
    (
        Row::SnpSignature,
        "a byte above 48 in r",
        Some("signature"),
        |draft| {
            draft.tamper = |raw| raw.signature.r[48] = 1;
        },
    ),
    (
        Row::SnpSignature,
        "a byte above 48 in s",
        Some("signature"),
        |draft| {
            draft.tamper = |raw| raw.signature.s[71] = 1;
        },
    ),
    (
        Row::SnpSignature,
        "r and s of zero",
        Some("signature"),
        |draft| {
            draft.tamper = |raw| {
                raw.signature.r = [0; 72];
                raw.signature.s = [0; 72];
            };
        },
    ),
    (
        Row::SnpSignature,
        "another signature algorithm",
        Some("signature"),
        |draft| {
            draft.raw.signature_algorithm = 2.into();
        },
    ),
    (Row::SnpChain, "a VCEK of Milan", None, Draft::milan),
    (Row::SnpChain, "a VCEK of Genoa", None, |_| {}),
    (Row::SnpChain, "a VCEK of Turin", None, Draft::turin),
    (Row::SnpChain, "a VLEK", None, Draft::vlek),
    (
        Row::SnpChain,
        "a self-made root of the same name",
        Some("certificate_chain"),
        |draft| {
            draft.issuer = Issuer::Stranger;
        },
    ),
    (
        Row::SnpChain,
        "a VCEK under the root itself",
        Some("certificate_chain"),
        |draft| {
            draft.issuer = Issuer::Root;
        },
    ),
    (
        Row::SnpChain,
        "a certificate of another product",
        Some("product"),
        |draft| {
            "Milan-B0".clone_into(&mut draft.profile.product_name);
        },
    ),
    (
        Row::SnpChain,
        "a certificate of an unknown product",
        Some("product"),
        |draft| {
            "Rome".clone_into(&mut draft.profile.product_name);
        },
    ),
    (
        Row::SnpChain,
        "an expired VCEK",
        Some("certificate_validity"),
        |draft| {
            draft.profile.lifetime = ended();
        },
    ),
    (
        Row::SnpChain,
        "an expired intermediate",
        Some("certificate_validity"),
        |draft| {
            draft.issuer = Issuer::Expired;
        },
    ),
    (
        Row::SnpTcb,
        "chip id as a DER octet string",
        None,
        |draft| {
            let id = draft.raw.chip_id;
            draft.profile.hardware_id = Some([&[0x04, 64], id.as_slice()].concat());
        },
    ),
    (
        Row::SnpTcb,
        "eight bytes of chip id on Turin",
        None,
        Draft::turin,
    ),
    (
        Row::SnpTcb,
        "a certificate for another TCB",
        Some("certificate_tcb"),
        |draft| {
            draft.profile.tcb.snp += 1;
        },
    ),
    (
        Row::SnpTcb,
        "a certificate of another chip",
        Some("hardware_id"),
        |draft| {
            draft.raw.chip_id[63] ^= 1;
        },
    ),
    (
        Row::SnpTcb,
        "a ninth byte of chip id on Turin",
        Some("hardware_id"),
        |draft| {
            draft.turin();
            draft.raw.chip_id[8] = 1;
        },
    ),
    (
        Row::SnpTcb,
        "a reported TCB below the minimum",
        Some("reported_tcb"),
        |draft| {
            draft.raw.reported_tcb = Draft::older_snp();
            draft.profile.tcb.snp -= 2;
        },
    ),
    (
        Row::SnpTcb,
        "a committed TCB below the minimum",
        Some("committed_tcb"),
        |draft| {
            draft.raw.committed_tcb = Draft::older_snp();
        },
    ),
    (
        Row::SnpTcb,
        "a launch TCB below the minimum",
        Some("launch_tcb"),
        |draft| {
            draft.raw.launch_tcb = Draft::older_snp();
        },
    ),
    (Row::SnpPolicy, "a release guest", None, |_| {}),
    (
        Row::SnpPolicy,
        "a guest that demands ciphertext hiding",
        None,
        |draft| {
            set_policy(draft, 24);
        },
    ),
    (
        Row::SnpPolicy,
        "a guest under debug",
        Some("debug_policy"),
        |draft| set_policy(draft, 19),
    ),
    (
        Row::SnpPolicy,
        "a guest that may migrate",
        Some("migration_policy"),
        |draft| {
            set_policy(draft, 18);
        },
    ),
    (
        Row::SnpPolicy,
        "an unknown bit of the policy",
        Some("reserved_bits"),
        |draft| {
            set_policy(draft, 40);
        },
    ),
    (
        Row::SnpPolicy,
        "a report for VMPL 1",
        Some("vmpl"),
        |draft| draft.raw.vmpl = 1.into(),
    ),
    (
        Row::SnpPolicy,
        "other HOST_DATA than the initdata's digest",
        Some("host_data"),
        |draft| {
            draft.raw.host_data[31] ^= 1;
        },
    ),
    (
        Row::SnpPolicy,
        "REPORT_DATA of another session",
        Some("report_data"),
        |draft| {
            draft.raw.report_data[0] ^= 1;
        },
    ),
    (
        Row::SnpPolicy,
        "a VLEK for a report that names a VCEK",
        Some("signing_key"),
        |draft| {
            draft.vlek_certificate();
        },
    ),
    (
        Row::SnpPolicy,
        "a VCEK for a report that names a VLEK",
        Some("signing_key"),
        |draft| {
            draft.raw.key_info = (1_u32 << 2).into();
        },
    ),
    (
        Row::SnpPolicy,
        "a report that no key signed",
        Some("signing_key"),
        |draft| {
            draft.raw.key_info = (7_u32 << 2).into();
        },
    ),
    (Row::SnpVersion, "version 3", None, |_| {}),
    (Row::SnpVersion, "version 5", None, |draft| {
        draft.raw.version = 5.into();
    }),
    (
        Row::SnpVersion,
        "version 2",
        Some("report_version"),
        |draft| {
            draft.raw.version = 2.into();
            (draft.raw.cpuid_family, draft.raw.cpuid_model) = (0, 0);
            draft.raw.cpuid_stepping = 0;
        },
    ),
];

fn set_policy(draft: &mut Draft, bit: u32) {
    draft.raw.policy = (draft.raw.policy.get() | 1 << bit).into();
}

/// Each minted case, for the verifier and for a broker.
pub(super) fn minted() -> Vec<Case> {
    let mut cases = Vec::new();
    for (row, name, claim, change) in MINTED {
        let expected = |code| Refused(Step::Evidence, code);
        let here = claim.map_or(Accepted, expected);
        cases.push(Case::local(row, name, here, move |site| {
            let evidence = forged(site, REPORT_DATA, change)?;
            Ok(observed(&judge(site, &evidence, &[])?))
        }));
        let there = claim.map_or(Accepted, |_| expected("RDT-KBS-006"));
        cases.push(Case::broker(row, name, there, move |site, client| {
            Box::pin(attempt(site, client, move |report_data| {
                Ok(forged(site, report_data, change)?.to_kbs_json()?)
            }))
        }));
    }
    cases
}

type JsonChange = fn(&mut Value);

/// What is changed of the JSON of good evidence, and the error by it.
const ENCODED: [(&str, &str, JsonChange); 8] = [
    ("version 0", "RDT-EVD-002", |value| set_version(value, 0)),
    ("version 1", "RDT-EVD-002", |value| set_version(value, 1)),
    ("version 4", "RDT-EVD-002", |value| set_version(value, 4)),
    ("a report that was cut", "RDT-EVD-001", |value| {
        resize(value, |report| report.truncate(1183));
    }),
    ("a report with a tail", "RDT-EVD-001", |value| {
        resize(value, |report| report.extend([0; 8]));
    }),
    ("a raw report that says otherwise", "RDT-EVD-012", |value| {
        value["attestation_report"]["vmpl"] = 3.into();
    }),
    ("no report", "RDT-EVD-013", |value| {
        value["report"] = Value::Null;
        value["attestation_report"] = Value::Null;
    }),
    ("text for evidence", "RDT-EVD-010", |value| {
        *value = Value::from("evidence");
    }),
];

fn set_version(value: &mut Value, version: u32) {
    value["report"] = Value::Null;
    value["attestation_report"]["version"] = version.into();
}

fn resize(value: &mut Value, change: fn(&mut Vec<u8>)) {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    let text = value["report"].as_str().unwrap_or_default();
    let mut report = STANDARD.decode(text).unwrap_or_default();
    change(&mut report);
    value["attestation_report"] = Value::Null;
    value["report"] = STANDARD.encode(report).into();
}

/// Evidence that is no report at all.
pub(super) fn encoded() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, code, change) in ENCODED {
        let row = Row::SnpVersion;
        let changed = move |site: &Site, report_data| -> Result<Value, HarnessError> {
            let mut value = forged(site, report_data, |_| {})?.to_kbs_json()?;
            change(&mut value);
            Ok(value)
        };
        let here = Refused(Step::Evidence, code);
        cases.push(Case::local(row, name, here, move |site| {
            let value = changed(site, REPORT_DATA)?;
            Ok(match SnpEvidence::from_kbs_json(&value) {
                Ok(evidence) => observed(&judge(site, &evidence, &[])?),
                Err(error) => unreadable(&error),
            })
        }));
        let there = Refused(Step::Evidence, "RDT-KBS-006");
        cases.push(Case::broker(row, name, there, move |site, client| {
            Box::pin(attempt(site, client, move |report_data| {
                changed(site, report_data)
            }))
        }));
    }
    cases
}

/// Revocation lists, which only the verifier takes.
pub(super) fn revoked() -> Vec<Case> {
    let case = |name, expected, lists: fn(&Site, &SnpEvidence) -> Lists| {
        Case::local(Row::SnpChain, name, expected, move |site| {
            let evidence = forged(site, REPORT_DATA, |_| {})?;
            Ok(observed(&judge(site, &evidence, &lists(site, &evidence)?)?))
        })
    };
    let refused = Refused(Step::Evidence, "revocation");
    vec![
        case("a revocation list without it", Accepted, |site, _| {
            Ok(vec![site.snp.revocation_list(false)?])
        }),
        case("a revoked intermediate", refused, |site, _| {
            Ok(vec![site.snp.revocation_list(true)?])
        }),
        case("a revoked VCEK", refused, |site, evidence| {
            let vcek = evidence.certs.get(redoubt_evidence::CertKind::Vcek);
            Ok(vec![
                site.snp.revocation_list(false)?,
                site.snp.revoked_vcek(vcek.unwrap_or_default())?,
            ])
        }),
    ]
}

type Lists = Result<Vec<Vec<u8>>, HarnessError>;

fn forged(site: &Site, report_data: [u8; 64], change: Change) -> Result<SnpEvidence, HarnessError> {
    let mut draft = Draft::genoa(site.launch_digest, site.host_data, report_data);
    change(&mut draft);
    site.snp.evidence(&draft)
}

/// The verdict of somebody who expects what the site's guest is.
fn judge(site: &Site, evidence: &SnpEvidence, lists: &[Vec<u8>]) -> Result<Verdict, HarnessError> {
    let anchors = TrustAnchors::given(site.snp.root_certificate(), "this harness")?;
    let lists: Vec<RevocationList> = lists
        .iter()
        .map(|list| RevocationList::parse(list))
        .collect::<Result<_, _>>()?;
    let minimum: TcbVersion = minimum_tcb();
    let expected = Expectations {
        launch_digests: ReferenceSet::one(site.launch_digest, "site"),
        host_data: ReferenceSet::one(site.host_data, "site"),
        report_data: ReferenceSet::one(REPORT_DATA, "site"),
        minimum_tcb: MinimumTcb::all(minimum),
        ..Expectations::default()
    };
    let collateral = Collateral::new(&anchors, OffsetDateTime::now_utc()).with_crls(&lists);
    Ok(verify(evidence, &collateral, &expected))
}

/// A verdict as an outcome: only a full one is an acceptance.
pub(crate) fn observed(verdict: &Verdict) -> Observed {
    if verdict.require_verified().is_ok() {
        return Observed::Accepted;
    }
    let failed: Vec<_> = verdict.failed().collect();
    let codes = failed.iter().map(|claim| claim_name(claim.name)).collect();
    let words: Vec<String> = failed
        .iter()
        .map(|claim| format!("{}: {}", claim.name.words(), claim.seen))
        .collect();
    if failed.is_empty() {
        return Observed::Broken(format!("{} without a failed claim", verdict.state));
    }
    Observed::refused(codes, words.join("; "))
}

/// The name of a claim in verdicts.
fn claim_name(name: redoubt_verifier::ClaimName) -> String {
    let value = serde_json::to_value(name).unwrap_or_default();
    value.as_str().unwrap_or_default().to_owned()
}

/// An error as an outcome.
pub(crate) fn unreadable(error: &dyn redoubt_errors::UserError) -> Observed {
    Observed::refused(vec![error.code().0.to_owned()], error.to_string())
}
