//! The verification itself.

use redoubt_evidence::SnpEvidence;
use time::OffsetDateTime;

use crate::anchors::TrustAnchors;
use crate::cache::ChainCache;
use crate::chain;
use crate::claims::ClaimList;
use crate::crl::RevocationList;
use crate::expect::Expectations;
use crate::name::ClaimName;
use crate::report;
use crate::signature::verify_report;
use crate::verdict::{Requirements, Verdict};

/// What to trust, and at what time.
#[derive(Clone, Copy, Debug)]
pub struct Collateral<'a> {
    /// The roots.
    pub anchors: &'a TrustAnchors,
    /// Revocation lists; with at least one, the root's own must be among them.
    pub crls: &'a [RevocationList],
    /// The time at which certificates must be valid.
    pub at: OffsetDateTime,
    /// Signatures of certificates that were verified before.
    pub cache: Option<&'a ChainCache>,
}

impl<'a> Collateral<'a> {
    /// Roots and a time, without revocation lists.
    pub fn new(anchors: &'a TrustAnchors, at: OffsetDateTime) -> Self {
        Self {
            anchors,
            crls: &[],
            at,
            cache: None,
        }
    }

    /// The same with revocation lists.
    #[must_use]
    pub fn with_crls(self, crls: &'a [RevocationList]) -> Self {
        Self { crls, ..self }
    }

    /// The same with a memory of verified certificates.
    #[must_use]
    pub fn with_cache(self, cache: &'a ChainCache) -> Self {
        Self {
            cache: Some(cache),
            ..self
        }
    }
}

/// Verifies evidence; every outcome is a verdict.
pub fn verify(
    evidence: &SnpEvidence,
    collateral: &Collateral<'_>,
    expected: &Expectations,
) -> Verdict {
    let mut claims = ClaimList::default();
    report::check_version(&evidence.report, expected, &mut claims);
    let chain = chain::check(evidence, collateral, &mut claims);
    if let Some(chain) = &chain {
        chain::check_binding(&chain.vek, evidence, &mut claims);
        let outcome = verify_report(&evidence.report, &chain.vek.public_point);
        let good = outcome.is_ok();
        let seen = outcome.err().unwrap_or_else(|| "valid".to_owned());
        let words = format!("by the {}, ECDSA P-384 with SHA-384", chain.vek.kind);
        claims.check(ClaimName::Signature, words, seen, "AMD 56860", good);
    } else {
        claims.unchecked(ClaimName::CertificateTcb, "the reported TCB");
        claims.unchecked(ClaimName::HardwareId, "the chip id");
        claims.unchecked(ClaimName::Signature, "by the VCEK or VLEK");
    }
    report::check_fields(&evidence.report, expected, &mut claims);
    let simulated = chain.is_some_and(|chain| chain.root.is_simulated());
    Verdict::of(claims.into_claims(), Requirements::SNP, simulated)
}
