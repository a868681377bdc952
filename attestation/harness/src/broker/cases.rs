//! Handshakes, good and bad.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use redoubt_kbs_protocol::{
    AttestRequest, InitDataMessage, Nonce, RuntimeData, Tee, TeeEvidence, TeeKeyPair, report_data,
};
use serde_json::{Value, json};

use crate::broker::BrokerClient;
use crate::broker::client::{Answer, Session};
use crate::case::Expected::{self, Accepted, Refused};
use crate::case::{Case, Observed, Outcome, Row, Step};
use crate::error::HarnessError;
use crate::site::{INITDATA, MISSING_PATH, RESOURCE, RESOURCE_PATH, Site};

/// Takes what was asked for, or ends with what came instead.
macro_rules! given {
    ($answer:expr) => {
        match $answer {
            Answer::Given(value) => value,
            Answer::Not(observed) => return Ok(observed),
        }
    };
}

/// What a guest sends.
struct Guest {
    key: TeeKeyPair,
    request: AttestRequest,
}

/// Answers a challenge: evidence for the session, the site's initdata.
fn guest(
    session: &Session,
    evidence: impl FnOnce([u8; 64]) -> Result<Value, HarnessError>,
) -> Result<Guest, HarnessError> {
    let key = TeeKeyPair::generate()?;
    let public = key.public_key();
    let challenge = &session.challenge;
    let bound = report_data(challenge.hash_algorithm()?, &challenge.nonce, &public, "")?;
    let request = AttestRequest {
        init_data: Some(InitDataMessage::toml(INITDATA.to_owned())),
        runtime_data: RuntimeData {
            nonce: challenge.nonce.clone(),
            tee_pubkey: public,
        },
        tee_evidence: TeeEvidence {
            primary_evidence: evidence(bound)?,
            additional_evidence: String::new(),
        },
    };
    Ok(Guest { key, request })
}

fn good(site: &Site, report_data: [u8; 64]) -> Result<Value, HarnessError> {
    let evidence = site
        .snp
        .good(site.launch_digest, site.host_data, report_data)?;
    Ok(evidence.to_kbs_json()?)
}

/// A whole handshake with this evidence: accepted is who gets the resource.
pub(crate) async fn attempt(
    _site: &Site,
    client: &BrokerClient,
    evidence: impl FnOnce([u8; 64]) -> Result<Value, HarnessError>,
) -> Outcome {
    let session = given!(client.auth(Tee::Snp).await?);
    let guest = guest(&session, evidence)?;
    release(client, &session, &guest, RESOURCE_PATH).await
}

async fn release(client: &BrokerClient, session: &Session, guest: &Guest, path: &str) -> Outcome {
    let token = given!(
        client
            .attest(session.cookie.as_ref(), &guest.request)
            .await?
    );
    let response = given!(client.resource(Some(&token), path).await?);
    Ok(match response.open(&guest.key) {
        Ok(resource) if **resource == *RESOURCE => Observed::Accepted,
        Ok(_) => Observed::Broken("another resource was released".to_owned()),
        Err(error) => Observed::Broken(error.to_string()),
    })
}

/// What is changed between a good answer and its sending.
type Change = fn(&mut Session, &mut Guest) -> Result<(), HarnessError>;

const NO_SESSION: Expected = Refused(Step::Evidence, "RDT-KBS-004");
const EVIDENCE: Expected = Refused(Step::Evidence, "RDT-KBS-006");

const CHANGED: [(Row, &str, Expected, Change); 12] = [
    (
        Row::Binding,
        "nonce and key of the session",
        Accepted,
        |_, _| Ok(()),
    ),
    (Row::Binding, "another nonce", EVIDENCE, |_, guest| {
        guest.request.runtime_data.nonce = Nonce::generate()?;
        Ok(())
    }),
    (Row::Binding, "another key", EVIDENCE, |_, guest| {
        guest.request.runtime_data.tee_pubkey = TeeKeyPair::generate()?.public_key();
        Ok(())
    }),
    (
        Row::Binding,
        "additional evidence that the report does not cover",
        Refused(Step::Evidence, "RDT-KBS-003"),
        |_, guest| {
            "{}".clone_into(&mut guest.request.tee_evidence.additional_evidence);
            Ok(())
        },
    ),
    (Row::Binding, "no session", NO_SESSION, |session, _| {
        session.cookie = None;
        Ok(())
    }),
    (
        Row::Binding,
        "a session that the broker has not made",
        NO_SESSION,
        |session, _| {
            session.cookie = redoubt_kbs_protocol::SessionCookie::new(&"0".repeat(32));
            Ok(())
        },
    ),
    (
        Row::Initdata,
        "the document that was measured",
        Accepted,
        |_, _| Ok(()),
    ),
    (Row::Initdata, "one more byte", EVIDENCE, |_, guest| {
        guest.request.init_data = Some(InitDataMessage::toml(format!("{INITDATA}\n")));
        Ok(())
    }),
    (Row::Initdata, "another algorithm", EVIDENCE, |_, guest| {
        let other = INITDATA.replace("sha256", "sha384");
        guest.request.init_data = Some(InitDataMessage::toml(other));
        Ok(())
    }),
    (
        Row::Initdata,
        "a document that is none",
        EVIDENCE,
        |_, guest| {
            guest.request.init_data = Some(InitDataMessage::toml("version = ".to_owned()));
            Ok(())
        },
    ),
    (
        Row::Initdata,
        "no document",
        Refused(Step::Resource, "RDT-KBS-009"),
        |_, guest| {
            guest.request.init_data = None;
            Ok(())
        },
    ),
    (
        Row::Binding,
        "evidence of another kind",
        EVIDENCE,
        |_, guest| {
            guest.request.tee_evidence.primary_evidence = json!({ "quote": "AAAA" });
            Ok(())
        },
    ),
];

fn changed() -> Vec<Case> {
    let case = |(row, name, expected, change): (Row, &'static str, Expected, Change)| {
        Case::broker(row, name, expected, move |site, client| {
            Box::pin(async move {
                let mut session = given!(client.auth(Tee::Snp).await?);
                let mut guest = guest(&session, |bound| good(site, bound))?;
                change(&mut session, &mut guest)?;
                release(client, &session, &guest, RESOURCE_PATH).await
            })
        })
    };
    CHANGED.into_iter().map(case).collect()
}

/// The second answer to one challenge.
async fn answered_twice(site: &Site, client: &BrokerClient) -> Outcome {
    let session = given!(client.auth(Tee::Snp).await?);
    let first = guest(&session, |bound| good(site, bound))?;
    given!(
        client
            .attest(session.cookie.as_ref(), &first.request)
            .await?
    );
    let second = guest(&session, |bound| good(site, bound))?;
    release(client, &session, &second, RESOURCE_PATH).await
}

/// The evidence of one session in another.
async fn replayed(site: &Site, client: &BrokerClient) -> Outcome {
    let earlier = given!(client.auth(Tee::Snp).await?);
    let earlier = guest(&earlier, |bound| good(site, bound))?;
    let session = given!(client.auth(Tee::Snp).await?);
    let mut replay = guest(&session, |bound| good(site, bound))?;
    replay.request.tee_evidence = earlier.request.tee_evidence;
    release(client, &session, &replay, RESOURCE_PATH).await
}

/// An answer that comes after the end of its session.
async fn answered_late(site: &Site, client: &BrokerClient, lifetime: Duration) -> Outcome {
    let session = given!(client.auth(Tee::Snp).await?);
    let late = guest(&session, |bound| good(site, bound))?;
    tokio::time::sleep(lifetime + Duration::from_secs(1)).await;
    release(client, &session, &late, RESOURCE_PATH).await
}

/// The case of a session that has ended, for a broker whose sessions last so long.
pub(crate) fn ended_session(lifetime: Duration) -> Case {
    Case::broker(
        Row::Binding,
        "a session that has ended",
        NO_SESSION,
        move |site, client| Box::pin(answered_late(site, client, lifetime)),
    )
}

/// An unknown guest: authentic, but not among the reference values.
async fn unknown_launch(site: &Site, client: &BrokerClient) -> Outcome {
    attempt(site, client, |bound| {
        let evidence = site.snp.good([0x13; 48], site.host_data, bound)?;
        Ok(evidence.to_kbs_json()?)
    })
    .await
}

async fn missing_resource(site: &Site, client: &BrokerClient) -> Outcome {
    let session = given!(client.auth(Tee::Snp).await?);
    let guest = guest(&session, |bound| good(site, bound))?;
    release(client, &session, &guest, MISSING_PATH).await
}

/// A token of a good handshake, changed.
async fn with_token(
    site: &Site,
    client: &BrokerClient,
    change: fn(&str) -> Option<String>,
) -> Outcome {
    let session = given!(client.auth(Tee::Snp).await?);
    let guest = guest(&session, |bound| good(site, bound))?;
    let token = given!(
        client
            .attest(session.cookie.as_ref(), &guest.request)
            .await?
    );
    let token = change(&token);
    let response = given!(client.resource(token.as_deref(), RESOURCE_PATH).await?);
    Ok(match response.open(&guest.key) {
        Ok(_) => Observed::Accepted,
        Err(error) => Observed::Broken(error.to_string()),
    })
}

/// The parts of a JWT, its header and claims decoded.
fn parts(token: &str) -> Option<(Value, Value, String)> {
    let mut parts = token.split('.');
    let mut decoded = || {
        let bytes = URL_SAFE_NO_PAD.decode(parts.next()?).ok()?;
        serde_json::from_slice(&bytes).ok()
    };
    let (header, claims) = (decoded()?, decoded()?);
    Some((header, claims, parts.next()?.to_owned()))
}

fn joined(header: &Value, claims: &Value, signature: &str) -> String {
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.{signature}", encode(header), encode(claims))
}

/// Signs claims with a key that no broker knows.
fn foreign(token: &str) -> Option<String> {
    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING as ALGORITHM, EcdsaKeyPair};
    let (header, claims, _) = parts(token)?;
    let random = SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ALGORITHM, &random).ok()?;
    let key = EcdsaKeyPair::from_pkcs8(&ALGORITHM, pkcs8.as_ref(), &random).ok()?;
    let unsigned = joined(&header, &claims, "");
    let signed = unsigned.trim_end_matches('.');
    let signature = key.sign(&random, signed.as_bytes()).ok()?;
    Some(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

fn with_header(token: &str, member: &str, value: Value, signature: Option<&str>) -> Option<String> {
    let (mut header, claims, own) = parts(token)?;
    header[member] = value;
    Some(joined(&header, &claims, signature.unwrap_or(&own)))
}

fn with_claim(token: &str, member: &str, value: Value) -> Option<String> {
    let (header, mut claims, signature) = parts(token)?;
    claims[member] = value;
    Some(joined(&header, &claims, &signature))
}

type TokenChange = fn(&str) -> Option<String>;

const TOKENS: [(&str, Expected, TokenChange); 8] = [
    ("the broker's own", Accepted, |token| Some(token.to_owned())),
    ("none", Refused(Step::Resource, "RDT-KBS-004"), |_| None),
    (
        "algorithm none",
        Refused(Step::Resource, "RDT-KBS-008"),
        |token| with_header(token, "alg", "none".into(), Some("")),
    ),
    (
        "algorithm HS256",
        Refused(Step::Resource, "RDT-KBS-008"),
        |token| with_header(token, "alg", "HS256".into(), None),
    ),
    (
        "another key id",
        Refused(Step::Resource, "RDT-KBS-008"),
        |token| with_header(token, "kid", "another".into(), None),
    ),
    (
        "a later end",
        Refused(Step::Resource, "RDT-KBS-008"),
        |token| with_claim(token, "exp", 4_000_000_000_u64.into()),
    ),
    (
        "another guest's key",
        Refused(Step::Resource, "RDT-KBS-008"),
        |token| {
            let key = TeeKeyPair::generate().ok()?.public_key().to_jwk();
            with_claim(token, "tee-pubkey", key)
        },
    ),
    (
        "the signature of an unknown key",
        Refused(Step::Resource, "RDT-KBS-008"),
        foreign,
    ),
];

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = changed();
    let refused = |step, code| Refused(step, code);
    cases.push(Case::broker(
        Row::Binding,
        "a challenge answered twice",
        refused(Step::Evidence, "RDT-KBS-005"),
        |site, client| Box::pin(answered_twice(site, client)),
    ));
    cases.push(Case::broker(
        Row::Binding,
        "evidence of an earlier session",
        EVIDENCE,
        |site, client| Box::pin(replayed(site, client)),
    ));
    cases.push(Case::broker(
        Row::Release,
        "the known guest",
        Accepted,
        |site, client| Box::pin(attempt(site, client, |bound| good(site, bound))),
    ));
    cases.push(Case::broker(
        Row::Release,
        "an unknown launch digest",
        refused(Step::Resource, "RDT-KBS-009"),
        |site, client| Box::pin(unknown_launch(site, client)),
    ));
    cases.push(Case::broker(
        Row::Release,
        "a resource that is not there",
        refused(Step::Resource, "RDT-KBS-010"),
        |site, client| Box::pin(missing_resource(site, client)),
    ));
    for (name, expected, change) in TOKENS {
        cases.push(Case::broker(
            Row::Token,
            name,
            expected,
            move |site, client| Box::pin(with_token(site, client, change)),
        ));
    }
    cases
}
