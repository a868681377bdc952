use redoubt_evidence::{SnpEvidence, TcbVersion};
use redoubt_initdata::Initdata;
use redoubt_verifier::{
    ChainCache, Claim, ClaimName, Collateral, Expectations, MinimumTcb as VerifierMinimum,
    PolicyRules, ReferenceSet, SnpClaims, TrustAnchors, Verdict, verify,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::KbsServerError;
use crate::config::{MinimumTcb, SnpSettings};
use crate::files::read_bytes;
use crate::refusal::{Refusal, Refused, chain_text};
use crate::storage::ReferenceValues;

const MAX_ANCHOR_BYTES: u64 = 1024 * 1024;

/// Certificate signatures that are remembered: two for each chip.
const CACHED_SIGNATURES: usize = 8192;

/// Claims without which evidence proves nothing to this session.
const INDISPENSABLE: [ClaimName; 8] = [
    ClaimName::SigningKey,
    ClaimName::CertificateChain,
    ClaimName::CertificateValidity,
    ClaimName::Product,
    ClaimName::CertificateTcb,
    ClaimName::Signature,
    ClaimName::Vmpl,
    ClaimName::ReportData,
];

/// What the broker found out about a guest, in short.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Findings {
    /// The kind of TEE: `snp` or `simulated-snp`.
    pub tee: String,
    /// Whether the chain of trust ends in a simulated root that was given by hand.
    pub simulated: bool,
    /// The launch digest, in hexadecimal.
    pub launch_digest: String,
    /// `HOST_DATA`, in hexadecimal.
    pub host_data: String,
    /// Whether the launch digest is among the reference values.
    pub launch_digest_matched: bool,
    /// Whether `HOST_DATA` is the digest of the init-data that came along, and
    /// what the matching reference value asks for.
    pub host_data_matched: bool,
    /// The reference value that matched.
    pub reference: Option<String>,
    /// What does not hold, in words.
    pub shortcomings: Vec<String>,
}

/// The outcome of an appraisal: evidence that is authentic and fresh.
#[derive(Clone, Debug)]
pub(crate) struct Appraisal {
    pub(crate) findings: Findings,
    pub(crate) submods: Value,
}

/// Decides what evidence is worth.
#[derive(Debug)]
pub(crate) struct Appraiser {
    anchors: TrustAnchors,
    policy: PolicyRules,
    minimum_tcb: VerifierMinimum,
    chains: ChainCache,
}

impl Appraiser {
    pub(crate) fn new(settings: &SnpSettings) -> Result<Self, KbsServerError> {
        let mut anchors = if settings.amd_roots {
            TrustAnchors::amd()
        } else {
            TrustAnchors::default()
        };
        for path in &settings.trust_anchors {
            let bytes = read_bytes(path, MAX_ANCHOR_BYTES)?;
            let source = format!("configured root {}", path.display());
            let given = TrustAnchors::given(&bytes, &source).map_err(|error| {
                KbsServerError::TrustAnchor {
                    path: path.clone(),
                    reason: chain_text(&error),
                }
            })?;
            anchors = anchors.and(given);
        }
        let policy = PolicyRules {
            allow_debug: settings.allow_debug,
            allow_migration_agent: settings.allow_migration,
            allow_smt: settings.allow_smt,
            ..PolicyRules::default()
        };
        Ok(Self {
            anchors,
            policy,
            minimum_tcb: minimum(settings.minimum_tcb),
            chains: ChainCache::new(CACHED_SIGNATURES),
        })
    }

    /// The names of the trusted roots, for the log.
    pub(crate) fn root_names(&self) -> Vec<String> {
        self.anchors.root_names()
    }

    /// Verifies evidence for a session with this `REPORT_DATA`.
    ///
    /// Everything but the launch digest, and `HOST_DATA` without init-data, must
    /// hold; those two become findings, which the release policy judges.
    pub(crate) fn appraise(
        &self,
        evidence: &SnpEvidence,
        report_data: [u8; 64],
        initdata: Option<&Initdata>,
        references: &ReferenceValues,
        at: OffsetDateTime,
    ) -> Result<Appraisal, Refused> {
        let expected = self.expectations(evidence, report_data, initdata, references);
        let collateral = Collateral::new(&self.anchors, at).with_cache(&self.chains);
        let verdict = verify(evidence, &collateral, &expected);
        require_authentic(&verdict)?;
        let findings = findings(evidence, &verdict, initdata, references);
        let claims = SnpClaims::of(evidence, &verdict)
            .to_json()
            .map_err(|error| Refusal::Internal.because(error.to_string()))?;
        let submods = submods(&findings, &claims);
        Ok(Appraisal { findings, submods })
    }

    fn expectations(
        &self,
        evidence: &SnpEvidence,
        report_data: [u8; 64],
        initdata: Option<&Initdata>,
        references: &ReferenceValues,
    ) -> Expectations {
        let host_data = initdata.map_or_else(ReferenceSet::default, |initdata| {
            ReferenceSet::one(initdata.host_data(), "digest of the init-data sent")
        });
        Expectations {
            launch_digests: references.expected(evidence.report.launch_digest()),
            host_data,
            report_data: ReferenceSet::one(report_data, "nonce and key of the session"),
            policy: self.policy,
            minimum_tcb: self.minimum_tcb,
            ..Expectations::default()
        }
    }
}

fn minimum(tcb: MinimumTcb) -> VerifierMinimum {
    if tcb == MinimumTcb::default() {
        return VerifierMinimum::default();
    }
    VerifierMinimum::all(TcbVersion {
        fmc: (tcb.fmc > 0).then_some(tcb.fmc),
        bootloader: tcb.bootloader,
        tee: tcb.tee,
        snp: tcb.snp,
        microcode: tcb.microcode,
    })
}

/// Refuses evidence in which anything but the launch digest fails.
fn require_authentic(verdict: &Verdict) -> Result<(), Refused> {
    let failed: Vec<String> = verdict
        .failed()
        .filter(|claim| claim.name != ClaimName::LaunchDigest)
        .map(in_words)
        .collect();
    if !failed.is_empty() {
        return Err(Refusal::EvidenceRefused.because(failed.join("; ")));
    }
    let missing: Vec<&str> = INDISPENSABLE
        .into_iter()
        .filter(|name| !verdict.passed(*name))
        .map(ClaimName::words)
        .collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(Refusal::EvidenceRefused.because(format!("not shown: {}", missing.join(", "))))
    }
}

fn in_words(claim: &Claim) -> String {
    format!(
        "{}: expected {}, seen {}",
        claim.name.words(),
        claim.expected,
        claim.seen
    )
}

fn findings(
    evidence: &SnpEvidence,
    verdict: &Verdict,
    initdata: Option<&Initdata>,
    references: &ReferenceValues,
) -> Findings {
    let report = &evidence.report;
    let of_this_launch = || references.of_digest(report.launch_digest());
    let whole_match = of_this_launch().find(|value| {
        value
            .host_data
            .is_none_or(|wanted| wanted == *report.host_data())
    });
    let digest_match = of_this_launch().next();
    let initdata_matched =
        initdata.is_some_and(|initdata| initdata.host_data() == *report.host_data());

    let launch_digest = hex::encode(report.launch_digest());
    let host_data = hex::encode(report.host_data());
    let mut shortcomings = Vec::new();
    if digest_match.is_none() {
        shortcomings.push(format!(
            "launch digest {launch_digest} is not among the {} reference values",
            references.len()
        ));
    } else if whole_match.is_none() {
        shortcomings.push(format!(
            "HOST_DATA {host_data} is not what the reference value for this launch digest asks for"
        ));
    }
    if initdata.is_none() {
        shortcomings.push("no init-data came along, so HOST_DATA proves nothing".to_owned());
    }
    Findings {
        tee: if verdict.simulated {
            "simulated-snp"
        } else {
            "snp"
        }
        .to_owned(),
        simulated: verdict.simulated,
        launch_digest,
        host_data,
        launch_digest_matched: digest_match.is_some(),
        host_data_matched: initdata_matched && whole_match.is_some(),
        reference: whole_match
            .or(digest_match)
            .map(|value| value.source.clone()),
        shortcomings,
    }
}

/// The claims as an EAT attestation result (AR4SI tiers: 2 to 31 affirming, 32
/// to 95 warning, 96 and more contraindicated), for policies made for Trustee.
fn submods(findings: &Findings, claims: &Value) -> Value {
    let executables = if findings.launch_digest_matched {
        3
    } else {
        33
    };
    let configuration = if findings.host_data_matched { 2 } else { 36 };
    let affirming = findings.launch_digest_matched && findings.host_data_matched;
    json!({
        "cpu0": {
            "ear.status": if affirming { "affirming" } else { "warning" },
            "ear.trustworthiness-vector": {
                "configuration": configuration,
                "executables": executables,
                "hardware": if findings.simulated { 97 } else { 2 },
            },
            "ear.appraisal-policy-id": "redoubt",
            "ear.veraison.annotated-evidence": {
                "snp": claims,
                "init_data": findings.host_data,
            },
        }
    })
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;
    use crate::reference::SnpReferenceValue;

    const RECORDED: &str = include_str!("../testdata/trustee-e2e-snp-evidence.json");

    fn appraiser() -> Appraiser {
        Appraiser::new(&SnpSettings::default()).unwrap()
    }

    fn known(launch_digest: [u8; 48]) -> ReferenceValues {
        ReferenceValues::new(vec![SnpReferenceValue {
            launch_digest,
            host_data: None,
            source: "known.json#0".to_owned(),
        }])
    }

    fn recorded() -> (SnpEvidence, [u8; 64], [u8; 48]) {
        let evidence = SnpEvidence::parse_kbs_json(RECORDED.as_bytes()).unwrap();
        let report = &evidence.report;
        let (report_data, launch_digest) = (*report.report_data(), *report.launch_digest());
        (evidence, report_data, launch_digest)
    }

    #[test]
    fn evidence_of_real_hardware_is_accepted_under_amds_roots() {
        let appraiser = appraiser();
        let (evidence, report_data, launch_digest) = recorded();
        let at = datetime!(2026-11-01 0:00 UTC);
        let none = ReferenceValues::default();
        let first = appraiser
            .appraise(&evidence, report_data, None, &none, at)
            .unwrap();
        assert_eq!(first.findings.tee, "snp");
        assert!(!first.findings.launch_digest_matched && !first.findings.host_data_matched);
        assert_eq!(first.submods["cpu0"]["ear.status"], "warning");
        let second = appraiser
            .appraise(&evidence, report_data, None, &known(launch_digest), at)
            .unwrap();
        assert!(second.findings.launch_digest_matched);
        assert!(
            !second.findings.host_data_matched,
            "no init-data came along"
        );
        assert_eq!(second.findings.reference.as_deref(), Some("known.json#0"));
    }

    #[test]
    fn same_evidence_is_refused_for_another_session_and_after_its_certificate_ended() {
        let appraiser = appraiser();
        let none = ReferenceValues::default();
        let (evidence, report_data, _) = recorded();
        let at = datetime!(2026-11-01 0:00 UTC);
        let other = appraiser
            .appraise(&evidence, [1; 64], None, &none, at)
            .unwrap_err();
        assert_eq!(other.refusal, Refusal::EvidenceRefused);
        let late = datetime!(2060-01-01 0:00 UTC);
        let late = appraiser
            .appraise(&evidence, report_data, None, &none, late)
            .unwrap_err();
        assert_eq!(late.refusal, Refusal::EvidenceRefused);
    }
}
