//! What can be said about the collateral apart from its signatures.

use der::Decode as _;
use redoubt_evidence::tdx::TdxQuote;
use redoubt_verifier::{ClaimList, ClaimName, RevocationList};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use x509_cert::Certificate;
use x509_cert::crl::CertificateList;

use crate::collateral::TdxCollateral;
use crate::pck::{PckInfo, certificates};
use crate::verify::Trust;

/// The source of expectations that the collateral itself makes.
const COLLATERAL: &str = "collateral";

pub(crate) fn check(
    quote: &TdxQuote,
    collateral: &TdxCollateral,
    trust: &Trust<'_>,
    claims: &mut ClaimList,
) {
    check_validity(collateral, trust.at, claims);
    check_revocation(quote, collateral, claims);
    check_fmspc(quote, collateral, claims);
}

fn check_validity(collateral: &TdxCollateral, at: OffsetDateTime, claims: &mut ClaimList) {
    let late = windows(collateral)
        .into_iter()
        .find(|window| !window.holds(at));
    let seen = late
        .as_ref()
        .map_or_else(|| "all current".to_owned(), Window::in_words);
    claims.check(
        ClaimName::CollateralValidity,
        format!("current at {}", rfc3339(at)),
        seen,
        "given time",
        late.is_none(),
    );
}

/// From when to when a document is current.
struct Window {
    name: &'static str,
    from: Option<OffsetDateTime>,
    to: Option<OffsetDateTime>,
}

impl Window {
    /// A document that does not say both is never current.
    fn holds(&self, at: OffsetDateTime) -> bool {
        self.from.is_some_and(|from| from <= at) && self.to.is_some_and(|to| at <= to)
    }

    fn in_words(&self) -> String {
        match (self.from, self.to) {
            (Some(from), Some(to)) => {
                format!(
                    "{} is current from {} to {}",
                    self.name,
                    rfc3339(from),
                    rfc3339(to)
                )
            }
            _ => format!("{} does not say when it is current", self.name),
        }
    }
}

fn windows(collateral: &TdxCollateral) -> [Window; 4] {
    let document = |name, text: &str| {
        let value: Value = serde_json::from_str(text).unwrap_or_default();
        let time = |member: &str| {
            let text = value.get(member)?.as_str()?;
            OffsetDateTime::parse(text, &Rfc3339).ok()
        };
        Window {
            name,
            from: time("issueDate"),
            to: time("nextUpdate"),
        }
    };
    let list = |name, bytes: &[u8]| {
        let list = RevocationList::parse(bytes).ok();
        Window {
            name,
            from: list.as_ref().and_then(RevocationList::this_update),
            to: list.as_ref().and_then(RevocationList::next_update),
        }
    };
    [
        document("the TCB information", &collateral.0.tcb_info),
        document("the QE identity", &collateral.0.qe_identity),
        list("the PCK revocation list", &collateral.0.pck_crl),
        list("the root's revocation list", &collateral.0.root_ca_crl),
    ]
}

fn check_revocation(quote: &TdxQuote, collateral: &TdxCollateral, claims: &mut ClaimList) {
    let lists = [&collateral.0.pck_crl, &collateral.0.root_ca_crl]
        .map(|bytes| <CertificateList>::from_der(bytes).ok());
    let chain = certificates(quote.pck_chain().unwrap_or_default());
    let signers = certificates(collateral.0.tcb_info_issuer_chain.as_bytes());
    let unreadable = lists.iter().any(Option::is_none) || chain.is_empty();
    let revoked = lists.iter().flatten().find_map(|list| {
        let certs = chain.iter().chain(&signers);
        certs
            .filter(|cert| is_revoked(list, cert))
            .map(common_name)
            .next()
    });
    let seen = match &revoked {
        Some(name) => format!("\"{name}\" is revoked"),
        None if unreadable => "a list or chain that cannot be read".to_owned(),
        None => "on no list".to_owned(),
    };
    claims.check(
        ClaimName::Revocation,
        "not revoked".to_owned(),
        seen,
        "revocation lists",
        revoked.is_none() && !unreadable,
    );
}

/// A serial number is unique only under its issuer.
fn is_revoked(list: &CertificateList, cert: &Certificate) -> bool {
    let (tbs, cert) = (&list.tbs_cert_list, cert.tbs_certificate());
    tbs.issuer == *cert.issuer()
        && tbs
            .revoked_certificates
            .iter()
            .flatten()
            .any(|entry| entry.serial_number == *cert.serial_number())
}

fn common_name(cert: &Certificate) -> String {
    let subject = cert.tbs_certificate().subject().to_string();
    redoubt_errors::flatten(&subject)
        .chars()
        .take(100)
        .collect()
}

fn check_fmspc(quote: &TdxQuote, collateral: &TdxCollateral, claims: &mut ClaimList) {
    let value: Value = serde_json::from_str(&collateral.0.tcb_info).unwrap_or_default();
    let of_collateral = value
        .get("fmspc")
        .and_then(Value::as_str)
        .unwrap_or("none")
        .to_ascii_lowercase();
    let of_collateral = redoubt_errors::flatten(&of_collateral)
        .chars()
        .take(12)
        .collect::<String>();
    match PckInfo::of(quote) {
        Ok(pck) => {
            let seen = pck.fmspc.to_string();
            let good = seen == of_collateral;
            claims.check(ClaimName::Fmspc, of_collateral, seen, COLLATERAL, good);
        }
        Err(error) => claims.check(
            ClaimName::Fmspc,
            of_collateral,
            error.to_string(),
            COLLATERAL,
            false,
        ),
    }
}

pub(crate) fn rfc3339(at: OffsetDateTime) -> String {
    at.format(&Rfc3339)
        .unwrap_or_else(|_| at.unix_timestamp().to_string())
}
