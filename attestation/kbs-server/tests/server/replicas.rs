//! Brokers that stand in for each other, and what they announce.

use redoubt_kbs_protocol::JweResponse;
use redoubt_kbs_server::{Jwks, ServerConfig};
use reqwest::StatusCode;
use serde_json::Value;

use crate::protocol::{Hand, cookie_of, expect, refusal};
use crate::support::{Guest, KEY, PATH, Site};

/// A second broker on the same files, with an audit log of its own.
fn replica(config: &mut ServerConfig) {
    config.storage.audit_log = config.storage.audit_log.with_file_name("audit-2.jsonl");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_step_of_a_handshake_may_reach_another_replica() {
    let site = Site::new();
    let (first, second) = (site.start(), site.start_with(replica));
    let one = Hand::new(&site, &first);
    let two = Hand::new(&site, &second);
    let guest = Guest::good(&site.chip());
    let (cookie, nonce) = one.auth().await;
    let accepted = two.attest(&cookie, &two.body(&guest, &nonce)).await;
    assert_eq!(accepted.status(), StatusCode::OK);
    let cookie = cookie_of(&accepted);
    let released = one
        .get(&format!("/resource/{PATH}"), Some(("cookie", cookie)))
        .await;
    assert_eq!(released.status(), StatusCode::OK);
    let jwe = JweResponse::parse(&released.bytes().await.unwrap()).unwrap();
    assert_eq!(*jwe.open(&two.key).unwrap(), KEY);
}

#[tokio::test(flavor = "multi_thread")]
async fn challenge_is_answered_once_among_replicas_that_share_their_marks() {
    let site = Site::new();
    let (first, second) = (site.start(), site.start_with(replica));
    let (one, two) = (Hand::new(&site, &first), Hand::new(&site, &second));
    let guest = Guest::good(&site.chip());
    let (cookie, nonce) = one.auth().await;
    let body = one.body(&guest, &nonce);
    assert_eq!(one.attest(&cookie, &body).await.status(), StatusCode::OK);
    let again = two.attest(&cookie, &body).await;
    assert_eq!(
        refusal(again).await,
        expect(401, "AttestationError", "RDT-KBS-005")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn answered_challenge_stays_answered_after_a_restart() {
    let site = Site::new();
    let running = site.start();
    let hand = Hand::new(&site, &running);
    let guest = Guest::good(&site.chip());
    let (cookie, nonce) = hand.auth().await;
    let (open_cookie, open_nonce) = hand.auth().await;
    let body = hand.body(&guest, &nonce);
    assert_eq!(hand.attest(&cookie, &body).await.status(), StatusCode::OK);
    running.stop().await;
    let running = site.start();
    let hand = Hand::new(&site, &running);
    let again = hand.attest(&cookie, &body).await;
    assert_eq!(
        refusal(again).await,
        expect(401, "AttestationError", "RDT-KBS-005")
    );
    let open = hand
        .attest(&open_cookie, &hand.body(&guest, &open_nonce))
        .await;
    assert_eq!(open.status(), StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn announced_keys_verify_a_token_with_nonce_and_audience() {
    let site = Site::new();
    let running = site.start_with(|config| {
        config.token.issuer = "https://kbs.example.org".to_owned();
        config.token.audience = "payments".to_owned();
    });
    let hand = Hand::new(&site, &running);
    let guest = Guest::good(&site.chip());
    let (cookie, nonce) = hand.auth().await;
    let accepted = hand.attest(&cookie, &hand.body(&guest, &nonce)).await;
    let token: Value = serde_json::from_slice(&accepted.bytes().await.unwrap()).unwrap();
    let get = async |path: &str| {
        let url = format!("{}{path}", running.url);
        let response = hand.http.get(url).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        response.bytes().await.unwrap()
    };
    let keys = Jwks::parse(&get("/.well-known/jwks.json").await).unwrap();
    let claims = keys.verify(token["token"].as_str().unwrap()).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    assert_eq!(claims["eat_nonce"], nonce.as_str());
    assert_eq!(claims["iss"], "https://kbs.example.org");
    assert_eq!(claims["aud"], "payments");
    let about: Value =
        serde_json::from_slice(&get("/.well-known/openid-configuration").await).unwrap();
    assert_eq!(
        about["jwks_uri"],
        "https://kbs.example.org/.well-known/jwks.json"
    );
}
