//! From the report's signing key to a trusted root.

use redoubt_evidence::{CertKind, SigningKey, SnpEvidence};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::anchors::Root;
use crate::cert::Cert;
use crate::claims::ClaimList;
use crate::error::VerifierError;
use crate::name::ClaimName;
use crate::vek::{Vek, VekKind};
use crate::verify::Collateral;

/// The source of expectations that the format itself makes.
const SPECIFICATION: &str = "AMD 56860";

/// A VCEK or VLEK and the way from it to a root.
pub(crate) struct Chain<'a> {
    pub(crate) vek: Vek,
    intermediate: Cert,
    pub(crate) root: &'a Root,
}

/// Finds the certificate that the report's selector names, builds its chain,
/// and records the claims about it. Returns the VEK if it is to be believed.
pub(crate) fn check<'a>(
    evidence: &SnpEvidence,
    collateral: &Collateral<'a>,
    claims: &mut ClaimList,
) -> Option<Chain<'a>> {
    let chain = match select_vek(evidence, claims) {
        Some(vek) => build(vek, evidence, collateral, claims),
        None => None,
    };
    let Some(chain) = chain else {
        claims.unchecked(ClaimName::CertificateValidity, "valid at the given time");
        claims.unchecked(ClaimName::Revocation, "not revoked");
        claims.unchecked(
            ClaimName::Product,
            "the same in report, certificate and root",
        );
        return None;
    };
    check_validity(&chain, collateral.at, claims);
    check_revocation(&chain, collateral, claims);
    check_product(&chain, evidence, claims);
    Some(chain)
}

/// The certificate that goes with the report's signing-key selector.
fn select_vek(evidence: &SnpEvidence, claims: &mut ClaimList) -> Option<Vek> {
    let selector = evidence.report.key_info().signing_key();
    let expected = match selector {
        SigningKey::Vcek | SigningKey::Vlek => format!("a {selector} certificate"),
        SigningKey::None | SigningKey::Reserved(_) => "a report signed by a VCEK or VLEK".into(),
    };
    let (bytes, seen) = match selector {
        SigningKey::Vcek => (evidence.certs.get(CertKind::Vcek), "no VCEK certificate"),
        SigningKey::Vlek => (evidence.certs.get(CertKind::Vlek), "no VLEK certificate"),
        SigningKey::None | SigningKey::Reserved(_) => (None, "an unsigned report"),
    };
    let found = bytes.map(Vek::parse).transpose();
    let (vek, seen) = match found {
        Ok(Some(vek)) => (Some(vek), String::new()),
        Ok(None) => (None, seen.to_owned()),
        Err(error) => (None, error.to_string()),
    };
    let seen = vek
        .as_ref()
        .map_or(seen, |vek| format!("a {} certificate", vek.kind));
    let right = vek
        .as_ref()
        .is_some_and(|vek| vek.kind.signing_key() == selector);
    claims.check(ClaimName::SigningKey, expected, seen, SPECIFICATION, right);
    if !right {
        claims.unchecked(ClaimName::CertificateChain, "a chain to a trusted root");
        return None;
    }
    vek
}

/// Finds an intermediate and a root that have signed.
fn build<'a>(
    vek: Vek,
    evidence: &SnpEvidence,
    collateral: &Collateral<'a>,
    claims: &mut ClaimList,
) -> Option<Chain<'a>> {
    let anchors = collateral.anchors;
    let expected = match anchors.root_names().as_slice() {
        [] => "a chain to a root, but none is trusted".to_owned(),
        names => format!("a chain to {}", names.join(", ")),
    };
    let from_host = evidence
        .certs
        .get(CertKind::Ask)
        .and_then(|der| Cert::parse(der).ok());
    let intermediates = anchors.intermediates.iter().chain(from_host.as_ref());
    let mut problem = format!(
        "no certificate of the issuer \"{}\"",
        issuer_name(&vek.cert)
    );
    for intermediate in intermediates {
        // A root in an intermediate's place would make a chain of two.
        if vek.cert.issuer() != intermediate.subject() || intermediate.is_self_issued() {
            continue;
        }
        if let Err(error) = signed_by(&vek.cert, intermediate, collateral) {
            problem = error.to_string();
            continue;
        }
        let signed = |root: &&Root| signed_by(intermediate, &root.cert, collateral).is_ok();
        let Some(root) = anchors.roots.iter().find(signed) else {
            problem = format!(
                "\"{}\", which no trusted root has signed",
                intermediate.common_name()
            );
            continue;
        };
        if let Err(wrong) = check_amd_names(&vek, intermediate, root) {
            problem = wrong;
            continue;
        }
        let path = [&vek.cert, intermediate, &root.cert]
            .map(Cert::common_name)
            .join(" < ");
        claims.check(
            ClaimName::CertificateChain,
            expected,
            path,
            &root.source,
            true,
        );
        return Some(Chain {
            vek,
            intermediate: intermediate.clone(),
            root,
        });
    }
    claims.check(
        ClaimName::CertificateChain,
        expected,
        problem,
        "trust anchors",
        false,
    );
    None
}

/// Whether `issuer` may sign certificates and signed `subject`.
fn signed_by(
    subject: &Cert,
    issuer: &Cert,
    collateral: &Collateral<'_>,
) -> Result<(), VerifierError> {
    match collateral.cache {
        Some(cache) => cache.verify(subject, issuer),
        None => subject.verify_issued_by(issuer),
    }
}

fn issuer_name(cert: &Cert) -> String {
    crate::cert::common_name(cert.issuer())
}

/// Under an AMD root each kind of key has an intermediate of its own: a VLEK
/// under the ASK, or a VCEK under the ASVK, is refused.
fn check_amd_names(vek: &Vek, intermediate: &Cert, root: &Root) -> Result<(), String> {
    let Some(product) = root.amd_product else {
        return Ok(());
    };
    let pairs = [
        (
            vek.cert.common_name(),
            vek.kind.amd_common_name().to_owned(),
        ),
        (
            intermediate.common_name(),
            vek.kind.amd_issuer_name(product),
        ),
    ];
    for (seen, expected) in pairs {
        if seen != expected {
            return Err(format!("\"{seen}\" where AMD has \"{expected}\""));
        }
    }
    Ok(())
}

fn check_validity(chain: &Chain<'_>, at: OffsetDateTime, claims: &mut ClaimList) {
    let certs = [&chain.vek.cert, &chain.intermediate, &chain.root.cert];
    let invalid = certs.into_iter().find(|cert| !cert.is_valid_at(at));
    let seen = invalid.map_or_else(
        || "all valid".to_owned(),
        |cert| format!("{} is valid from {}", cert.common_name(), cert.validity()),
    );
    let at = at
        .format(&Rfc3339)
        .unwrap_or_else(|_| at.unix_timestamp().to_string());
    let expected = format!("valid at {at}");
    let valid = invalid.is_none();
    claims.check(
        ClaimName::CertificateValidity,
        expected,
        seen,
        "given time",
        valid,
    );
}

/// Lists of the root cover the intermediate (and the root itself); lists of the
/// intermediate cover the VEK.
fn check_revocation(chain: &Chain<'_>, collateral: &Collateral<'_>, claims: &mut ClaimList) {
    const EXPECTED: &str = "not revoked";
    if collateral.crls.is_empty() {
        claims.unchecked_seen(ClaimName::Revocation, EXPECTED, "no list given".to_owned());
        return;
    }
    let seen = revocation_problem(chain, collateral);
    let good = seen.is_none();
    let seen = seen.unwrap_or_else(|| "on no list".to_owned());
    claims.check(
        ClaimName::Revocation,
        EXPECTED.to_owned(),
        seen,
        "revocation lists",
        good,
    );
}

fn revocation_problem(chain: &Chain<'_>, collateral: &Collateral<'_>) -> Option<String> {
    let root = &chain.root.cert;
    let pairs = [
        (root, &chain.intermediate, true),
        (root, &chain.vek.cert, false),
        (&chain.intermediate, &chain.vek.cert, true),
    ];
    let mut root_list_seen = false;
    for list in collateral.crls {
        for (issuer, subject, covers) in pairs {
            if !list.is_issued_by(issuer.subject()) {
                continue;
            }
            if let Err(error) = list.verify_issued_by(issuer) {
                return Some(error.to_string());
            }
            if !list.is_current_at(collateral.at) {
                return Some(format!("the list of {} is not current", list.issuer_name()));
            }
            root_list_seen |= issuer == root;
            // A serial number is unique only under its issuer.
            if covers && (list.revokes(subject) || (issuer == root && list.revokes(root))) {
                return Some(format!("{} is revoked", subject.common_name()));
            }
        }
    }
    (!root_list_seen).then(|| format!("no list of {} is given", root.common_name()))
}

fn check_product(chain: &Chain<'_>, evidence: &SnpEvidence, claims: &mut ClaimList) {
    let certificate = chain.vek.product();
    let expected = chain.root.amd_product.or(certificate);
    let report = match evidence.report.cpuid() {
        Some(_) => evidence.report.product(),
        // Version 2 does not say; nothing newer than Genoa ever used it.
        None => certificate.filter(|product| product.hwid_bytes() == 64),
    };
    let good = certificate.is_some() && certificate == expected && report == expected;
    let name = |product: Option<redoubt_evidence::Product>| {
        product.map_or("unknown", redoubt_evidence::Product::name)
    };
    claims.check(
        ClaimName::Product,
        name(expected).to_owned(),
        format!(
            "report {}, certificate \"{}\"",
            name(report),
            chain.vek.product_name
        ),
        &chain.root.source,
        good,
    );
}

/// Compares what the certificate was issued for with the report.
pub(crate) fn check_binding(vek: &Vek, evidence: &SnpEvidence, claims: &mut ClaimList) {
    let reported = evidence.report.reported_tcb();
    claims.check(
        ClaimName::CertificateTcb,
        reported.to_string(),
        vek.tcb.to_string(),
        SPECIFICATION,
        vek.tcb == reported,
    );
    let chip_id = evidence.report.chip_id();
    match (&vek.kind, &vek.hardware_id) {
        (VekKind::Vcek, Some(hardware_id)) => {
            let (own, rest) = chip_id.split_at(hardware_id.len().min(chip_id.len()));
            let good = own == hardware_id && rest.iter().all(|byte| *byte == 0);
            claims.check(
                ClaimName::HardwareId,
                hex::encode(chip_id),
                hex::encode(hardware_id),
                SPECIFICATION,
                good,
            );
        }
        _ => claims.unchecked(ClaimName::HardwareId, "a VLEK has none"),
    }
}
