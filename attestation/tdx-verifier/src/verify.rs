//! The verification itself.

use dcap_qvl::policy::{PckCertFlag, QuoteClaims};
use dcap_qvl::{QuotePolicy, verify::QuoteVerifier};
use redoubt_evidence::SIMULATED_NAME_PREFIX;
use redoubt_evidence::tdx::{TdxEvidence, TdxQuote};
use redoubt_verifier::{ClaimList, ClaimName, Requirements, Verdict};
use time::OffsetDateTime;
use x509_cert::Certificate;

use crate::collateral::TdxCollateral;
use crate::error::TdxVerifierError;
use crate::expect::TdxExpectations;
use crate::fields::RULES;
use crate::status::TcbStatus;
use crate::{documents, fields, log};

/// The longest cause of a refusal that a claim holds, in characters.
const MAX_REASON_CHARS: usize = 300;

/// What to trust, and at what time.
#[derive(Clone, Debug)]
pub struct Trust<'a> {
    /// TCB information, identities and lists; without any nothing is verified.
    pub collateral: Option<&'a TdxCollateral>,
    /// The time at which everything must be valid.
    pub at: OffsetDateTime,
    /// Roots besides Intel's.
    roots: Vec<Root>,
}

/// A root given by hand.
#[derive(Clone, Debug)]
struct Root {
    der: Vec<u8>,
    /// Whether its name says that it is of a simulated PKI.
    simulated: bool,
}

impl<'a> Trust<'a> {
    /// Collateral under Intel's root, which is built in.
    pub fn new(collateral: Option<&'a TdxCollateral>, at: OffsetDateTime) -> Self {
        Self {
            collateral,
            at,
            roots: Vec::new(),
        }
    }

    /// The same under one more root, in DER or PEM: that of a simulated PKI.
    pub fn with_root(mut self, root: &[u8]) -> Result<Self, TdxVerifierError> {
        let der = if root.starts_with(b"-----BEGIN") {
            let (_label, der) =
                der::pem::decode_vec(root).map_err(|error| TdxVerifierError::Root(error.into()))?;
            der
        } else {
            root.to_vec()
        };
        let cert: Certificate = der::Decode::from_der(&der).map_err(TdxVerifierError::Root)?;
        let subject = cert.tbs_certificate().subject().to_string();
        self.roots.push(Root {
            der,
            simulated: subject.contains(SIMULATED_NAME_PREFIX),
        });
        Ok(self)
    }
}

/// Verifies a quote and its event log; every outcome is a verdict.
pub fn verify(evidence: &TdxEvidence, trust: &Trust<'_>, expected: &TdxExpectations) -> Verdict {
    let mut claims = ClaimList::default();
    let quote = &evidence.quote;
    let appraisal = trust.collateral.map(|collateral| {
        documents::check(quote, collateral, trust, &mut claims);
        let appraisal = authenticate(quote, collateral, trust);
        check_signature(&appraisal, &mut claims);
        appraisal
    });
    if appraisal.is_none() {
        for name in [
            ClaimName::CollateralValidity,
            ClaimName::Revocation,
            ClaimName::Fmspc,
            ClaimName::QuoteSignature,
        ] {
            claims.unchecked(name, "no collateral given");
        }
    }
    let outcome = appraisal.as_ref().map(|appraisal| &appraisal.outcome);
    check_platform(outcome, expected, &mut claims);
    fields::check(quote, expected, &mut claims);
    log::check(quote, evidence.event_log.as_deref(), &mut claims);
    let authentic = matches!(
        outcome,
        Some(Outcome::Authentic(_) | Outcome::Unsupported(_))
    );
    let root = appraisal.and_then(|appraisal| appraisal.root);
    let simulated = authentic && root.is_some_and(|root| root.simulated);
    Verdict::of(claims.into_claims(), Requirements::TDX, simulated)
}

/// What the verification library says of a quote.
enum Outcome {
    /// Authentic, with what Intel says of its platform.
    Authentic(Box<QuoteClaims>),
    /// Authentic, but of a TCB that Intel does not stand up for, or with
    /// attributes that the library does not let through.
    Unsupported(Option<&'static str>),
    /// Not authentic, and why.
    Refused(String),
}

/// Causes that the library has only once every signature was found valid, and
/// what they say of the TCB; claims of their own judge attributes. A cause in
/// other words counts as not authentic: the quote is refused either way.
const LATE_CAUSES: [(&str, Option<&str>); 5] = [
    (
        "No matching TCB level found",
        Some("below every level of the TCB information"),
    ),
    ("TCB status is invalid: Revoked", Some("Revoked")),
    ("Reserved bits in TD attributes are set", None),
    ("TD migration is enabled", None),
    ("SEPT_VE_DISABLE is not enabled", None),
];

/// An outcome and the root that led to it; none is Intel's own.
struct Appraisal<'a> {
    outcome: Outcome,
    root: Option<&'a Root>,
}

/// Tries Intel's root, then the others.
fn authenticate<'a>(
    quote: &TdxQuote,
    collateral: &TdxCollateral,
    trust: &'a Trust<'_>,
) -> Appraisal<'a> {
    let roots = std::iter::once(None).chain(trust.roots.iter().map(Some));
    let mut refused = Vec::new();
    for root in roots {
        let verifier = root.map_or_else(QuoteVerifier::new_prod, |root| {
            QuoteVerifier::new(root.der.clone())
        });
        // Claims of their own judge debugging and service TDs.
        let verifier = verifier.allow_debug(true).allow_service_td(true);
        match outcome_of(&verifier, quote, collateral, trust.at) {
            Outcome::Refused(reason) => refused.push(reason),
            outcome => return Appraisal { outcome, root },
        }
    }
    // Where somebody gave a root, its reason is the one to tell.
    Appraisal {
        outcome: Outcome::Refused(refused.pop().unwrap_or_default()),
        root: trust.roots.last(),
    }
}

fn outcome_of(
    verifier: &QuoteVerifier,
    quote: &TdxQuote,
    collateral: &TdxCollateral,
    at: OffsetDateTime,
) -> Outcome {
    // A time before 1970 is before every certificate.
    let now = u64::try_from(at.unix_timestamp()).unwrap_or(0);
    let outcome = verifier.verify_with_policy(
        quote.as_bytes(),
        collateral.0.clone(),
        now,
        &QuotePolicy::claims_only(now),
    );
    let error = match outcome {
        Ok(claims) => return Outcome::Authentic(Box::new(claims)),
        Err(error) => error,
    };
    let cause = error.root_cause().to_string();
    match LATE_CAUSES.iter().find(|(known, _)| *known == cause) {
        Some((_, tcb)) => Outcome::Unsupported(*tcb),
        None => Outcome::Refused(in_words(&format!("{error:#}"))),
    }
}

fn check_signature(appraisal: &Appraisal<'_>, claims: &mut ClaimList) {
    let (seen, good) = match &appraisal.outcome {
        Outcome::Authentic(_) | Outcome::Unsupported(_) => ("valid", true),
        Outcome::Refused(reason) => (reason.as_str(), false),
    };
    claims.check(
        ClaimName::QuoteSignature,
        "signed under the root by a quoting enclave that Intel's documents know".to_owned(),
        seen.to_owned(),
        match appraisal.root {
            Some(_) => "root given by hand",
            None => "built-in Intel root",
        },
        good,
    );
}

fn in_words(error: &str) -> String {
    redoubt_errors::flatten(error)
        .chars()
        .take(MAX_REASON_CHARS)
        .collect()
}

/// What Intel says of the platform, where the quote is authentic.
fn check_platform(outcome: Option<&Outcome>, expected: &TdxExpectations, claims: &mut ClaimList) {
    let Some(Outcome::Authentic(verified)) = outcome else {
        if let Some(Outcome::Unsupported(Some(seen))) = outcome {
            let accepted = accepted_statuses(expected);
            claims.check(
                ClaimName::TcbStatus,
                accepted,
                (*seen).to_owned(),
                RULES,
                false,
            );
        } else {
            claims.unchecked(ClaimName::TcbStatus, "an authentic quote");
        }
        for name in [
            ClaimName::TcbAdvisories,
            ClaimName::TcbEvaluation,
            ClaimName::PlatformFlags,
            ClaimName::PlatformId,
        ] {
            claims.unchecked(name, "an authentic quote of a known TCB");
        }
        return;
    };
    check_tcb(verified, expected, claims);
    check_flags(verified, expected, claims);
    match verified.platform.pck.platform_instance_id {
        Some(id) => claims.check_set(ClaimName::PlatformId, &expected.platform_ids, &id),
        None if expected.platform_ids.is_empty() => {
            claims.unchecked_seen(ClaimName::PlatformId, "no value given", "none".to_owned());
        }
        None => claims.check(
            ClaimName::PlatformId,
            "one of the reference values".to_owned(),
            "none".to_owned(),
            "reference values",
            false,
        ),
    }
}

fn accepted_statuses(expected: &TdxExpectations) -> String {
    let names: Vec<&str> = expected
        .tcb
        .statuses
        .iter()
        .map(|status| status.name())
        .collect();
    names.join(" or ")
}

fn check_tcb(verified: &QuoteClaims, expected: &TdxExpectations, claims: &mut ClaimList) {
    let rules = &expected.tcb;
    let status = TcbStatus::from(verified.tcb.status);
    claims.check(
        ClaimName::TcbStatus,
        accepted_statuses(expected),
        status.to_string(),
        RULES,
        rules.statuses.contains(&status) && status != TcbStatus::Revoked,
    );
    let advisories = in_words(&match verified.tcb.advisory_ids.as_slice() {
        [] => "none".to_owned(),
        ids => ids.join(", "),
    });
    if rules.rejected_advisories.is_empty() {
        claims.unchecked_seen(ClaimName::TcbAdvisories, "none is rejected", advisories);
    } else {
        let rejected = |id: &String| {
            rules
                .rejected_advisories
                .iter()
                .any(|rejected| rejected.eq_ignore_ascii_case(id))
        };
        claims.check(
            ClaimName::TcbAdvisories,
            format!("none of {}", rules.rejected_advisories.join(", ")),
            advisories,
            RULES,
            !verified.tcb.advisory_ids.iter().any(rejected),
        );
    }
    let number = verified.tcb.eval_data_number;
    match rules.minimum_evaluation {
        Some(minimum) => claims.check(
            ClaimName::TcbEvaluation,
            format!("at least {minimum}"),
            number.to_string(),
            RULES,
            number >= minimum,
        ),
        None => claims.unchecked_seen(
            ClaimName::TcbEvaluation,
            "no minimum given",
            number.to_string(),
        ),
    }
}

fn check_flags(verified: &QuoteClaims, expected: &TdxExpectations, claims: &mut ClaimList) {
    let (pck, rules) = (&verified.platform.pck, expected.platform);
    let flags = [
        ("dynamic", pck.dynamic_platform, rules.forbid_dynamic),
        ("cached keys", pck.cached_keys, rules.forbid_cached_keys),
        ("SMT", pck.smt_enabled, rules.forbid_smt),
    ];
    let names = |chosen: &dyn Fn(PckCertFlag, bool) -> bool| {
        let names: Vec<&str> = flags
            .iter()
            .filter(|(_, flag, forbidden)| chosen(*flag, *forbidden))
            .map(|(name, ..)| *name)
            .collect();
        match names.as_slice() {
            [] => "none".to_owned(),
            names => names.join(", "),
        }
    };
    let forbidden = names(&|_, forbidden| forbidden);
    let expected = match forbidden.as_str() {
        "none" => "any".to_owned(),
        forbidden => format!("none of {forbidden}"),
    };
    let good = !flags
        .iter()
        .any(|(_, flag, forbidden)| *forbidden && *flag == PckCertFlag::True);
    let seen = names(&|flag, _| flag == PckCertFlag::True);
    claims.check(ClaimName::PlatformFlags, expected, seen, RULES, good);
}
