//! The protocol message by message, as a hostile or a foreign guest sends it.
use redoubt_kbs_protocol::{
    AuthRequest, Challenge, HashAlgorithm, JweResponse, Nonce, Tee, TeeKeyPair, report_data,
};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};

use crate::support::{Guest, INITDATA, KEY, PATH, Running, Site};

/// A guest that speaks the protocol by hand.
pub(crate) struct Hand {
    pub(crate) http: reqwest::Client,
    pub(crate) base: String,
    pub(crate) key: TeeKeyPair,
}

impl Hand {
    pub(crate) fn new(site: &Site, running: &Running) -> Self {
        let mut roots = rustls::RootCertStore::empty();
        let pem = site.certificate();
        for certificate in
            <rustls_pki_types::CertificateDer<'_> as rustls_pki_types::pem::PemObject>::pem_slice_iter(pem.as_bytes())
        {
            roots.add(certificate.unwrap()).unwrap();
        }
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .no_proxy()
            .build()
            .unwrap();
        let base = format!("{}/kbs/v0", running.url);
        Self {
            http,
            base,
            key: TeeKeyPair::generate().unwrap(),
        }
    }

    pub(crate) async fn auth(&self) -> (String, Nonce) {
        let url = format!("{}/auth", self.base);
        let response = self
            .http
            .post(url)
            .json(&AuthRequest::new(Tee::Snp))
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        let cookie = cookie_of(&response);
        let challenge = Challenge::parse(&response.bytes().await.unwrap()).unwrap();
        (cookie, challenge.nonce)
    }

    /// The honest body for a nonce.
    pub(crate) fn body(&self, guest: &Guest, nonce: &Nonce) -> Value {
        let key = self.key.public_key();
        let bound = report_data(HashAlgorithm::Sha384, nonce, &key, "").unwrap();
        json!({
            "init-data": { "format": "toml", "body": INITDATA },
            "runtime-data": { "nonce": nonce, "tee-pubkey": key },
            "tee-evidence": {
                "primary_evidence": guest.report(bound).to_kbs_json().unwrap(),
                "additional_evidence": "",
            },
        })
    }

    pub(crate) async fn attest(&self, cookie: &str, body: &Value) -> Response {
        let url = format!("{}/attest", self.base);
        self.http
            .post(url)
            .header("cookie", cookie)
            .json(body)
            .send()
            .await
            .unwrap()
    }

    pub(crate) async fn get(&self, path: &str, header: Option<(&str, String)>) -> Response {
        let mut request = self.http.get(format!("{}{path}", self.base));
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        request.send().await.unwrap()
    }
}

pub(crate) fn cookie_of(response: &Response) -> String {
    let set = response.headers()["set-cookie"].to_str().unwrap();
    set.split(';').next().unwrap().to_owned()
}

/// Status, type and code of a refusal.
pub(crate) async fn refusal(response: Response) -> (u16, String, String) {
    let status = response.status().as_u16();
    let body: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
    let kind = body["type"].as_str().unwrap();
    let kind = kind
        .strip_prefix("https://github.com/confidential-containers/kbs/errors/")
        .unwrap();
    let detail = body["detail"].as_str().unwrap();
    (
        status,
        kind.to_owned(),
        detail.split(' ').next().unwrap().to_owned(),
    )
}

pub(crate) fn expect(status: u16, kind: &str, code: &str) -> (u16, String, String) {
    (status, kind.to_owned(), code.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn cookie_and_bearer_forms_both_work() {
    let site = Site::new();
    let running = site.start();
    let hand = Hand::new(&site, &running);
    let guest = Guest::good(&site.chip());
    let (cookie, nonce) = hand.auth().await;
    let response = hand.attest(&cookie, &hand.body(&guest, &nonce)).await;
    assert_eq!(response.status(), StatusCode::OK);
    let cookie = cookie_of(&response);
    let answer: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
    let token = answer["token"].as_str().unwrap().to_owned();
    let resource = format!("/resource/{PATH}");
    for header in [
        ("cookie", cookie.clone()),
        ("authorization", format!("Bearer {token}")),
    ] {
        let response = hand.get(&resource, Some(header)).await;
        assert_eq!(response.status(), StatusCode::OK);
        let jwe = JweResponse::parse(&response.bytes().await.unwrap()).unwrap();
        assert_eq!(*jwe.open(&hand.key).unwrap(), KEY);
    }
    let mut tampered = token;
    tampered.replace_range(60..61, if &tampered[60..61] == "A" { "B" } else { "A" });
    let response = hand
        .get(
            &resource,
            Some(("authorization", format!("Bearer {tampered}"))),
        )
        .await;
    assert_eq!(
        refusal(response).await,
        expect(401, "TokenVerifierError", "RDT-KBS-008")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn replayed_answer_is_refused_whatever_came_of_the_first() {
    let site = Site::new();
    let running = site.start();
    let hand = Hand::new(&site, &running);
    let guest = Guest::good(&site.chip());
    let (cookie, nonce) = hand.auth().await;
    let body = hand.body(&guest, &nonce);
    assert_eq!(hand.attest(&cookie, &body).await.status(), StatusCode::OK);
    let again = refusal(hand.attest(&cookie, &body).await).await;
    assert_eq!(again, expect(401, "AttestationError", "RDT-KBS-005"));

    let (cookie, nonce) = hand.auth().await;
    let honest = hand.body(&guest, &nonce);
    let refused = refusal(hand.attest(&cookie, &json!({})).await).await;
    assert_eq!(refused, expect(400, "AttestationError", "RDT-KBS-001"));
    let again = refusal(hand.attest(&cookie, &honest).await).await;
    assert_eq!(again, expect(401, "AttestationError", "RDT-KBS-005"));

    let (other_cookie, _) = hand.auth().await;
    let replayed = refusal(hand.attest(&other_cookie, &body).await).await;
    assert_eq!(replayed, expect(403, "AttestationError", "RDT-KBS-006"));
    let response = hand
        .get(&format!("/resource/{PATH}"), Some(("cookie", other_cookie)))
        .await;
    assert_eq!(
        refusal(response).await,
        expect(401, "TokenNotFound", "RDT-KBS-004")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn simultaneous_answers_to_one_challenge_succeed_once() {
    let site = Site::new();
    let running = site.start();
    let hand = std::sync::Arc::new(Hand::new(&site, &running));
    let guest = Guest::good(&site.chip());
    let (cookie, nonce) = hand.auth().await;
    let body = hand.body(&guest, &nonce);
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let (hand, cookie, body) = (std::sync::Arc::clone(&hand), cookie.clone(), body.clone());
            tokio::spawn(async move { hand.attest(&cookie, &body).await.status() })
        })
        .collect();
    let mut accepted = 0;
    for task in tasks {
        accepted += usize::from(task.await.unwrap() == StatusCode::OK);
    }
    assert_eq!(accepted, 1);
}

/// Sends an honest answer with one change and expects the evidence to be refused.
async fn assert_refused(word: &str, change: impl FnOnce(&Hand, &Guest, &Nonce, &mut Value)) {
    let site = Site::new();
    let running = site.start();
    let hand = Hand::new(&site, &running);
    let guest = Guest::good(&site.chip());
    let (cookie, nonce) = hand.auth().await;
    let mut body = hand.body(&guest, &nonce);
    change(&hand, &guest, &nonce, &mut body);
    let response = hand.attest(&cookie, &body).await;
    assert_eq!(
        refusal(response).await,
        expect(403, "AttestationError", "RDT-KBS-006")
    );
    let (_, reason) = site.refusal();
    assert!(reason.contains(word), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_nonce_in_the_runtime_data_is_refused() {
    assert_refused("nonce is not the session's", |hand, guest, _, body| {
        *body = hand.body(guest, &Nonce::generate().unwrap());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn evidence_over_another_nonce_is_refused() {
    assert_refused("report data", |hand, guest, _, body| {
        let other = hand.body(guest, &Nonce::generate().unwrap());
        body["tee-evidence"] = other["tee-evidence"].clone();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn key_that_the_evidence_does_not_cover_is_refused() {
    assert_refused("report data", |_, _, _, body| {
        let thief = TeeKeyPair::generate().unwrap().public_key();
        body["runtime-data"]["tee-pubkey"] = json!(thief);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_flipped_byte_in_the_report_is_refused() {
    assert_refused("signature", |_, _, _, body| {
        let evidence = &mut body["tee-evidence"]["primary_evidence"];
        let mut report = redoubt_evidence::SnpEvidence::from_kbs_json(evidence).unwrap();
        let mut raw = *report.report.raw();
        raw.family_id[0] ^= 1;
        report.report = redoubt_evidence::SnpReport::from_raw(raw).unwrap();
        *evidence = report.to_kbs_json().unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn evidence_without_certificates_is_refused() {
    assert_refused("certificate", |_, _, _, body| {
        body["tee-evidence"]["primary_evidence"]["cert_chain"] = Value::Null;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn evidence_that_cannot_be_read_is_refused_as_evidence() {
    for (evidence, word) in [
        (json!(null), "evidence"),
        (json!({}), "evidence"),
        (json!([]), "evidence"),
        (json!({ "attestation_report": 1 }), "evidence"),
        (json!({ "report": "AAAA" }), "expected 1184"),
    ] {
        assert_refused(word, |_, _, _, body| {
            body["tee-evidence"]["primary_evidence"] = evidence;
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn initdata_that_cannot_be_read_is_refused() {
    assert_refused("init-data", |_, _, _, body| {
        body["init-data"]["body"] = json!("version = ");
    })
    .await;
}

/// Evidence of real hardware, recorded by somebody else: its chain and signature
/// hold, and it does not belong to this session.
#[tokio::test(flavor = "multi_thread")]
async fn recorded_evidence_of_real_hardware_fails_by_its_binding_alone() {
    let recorded: Value =
        serde_json::from_str(include_str!("../../testdata/trustee-e2e-snp-evidence.json")).unwrap();
    let site = Site::new();
    let running = site.start();
    let hand = Hand::new(&site, &running);
    let guest = Guest::good(&site.chip());
    let (cookie, nonce) = hand.auth().await;
    let mut body = hand.body(&guest, &nonce);
    body["tee-evidence"]["primary_evidence"] = recorded;
    body["init-data"] = Value::Null;
    let response = hand.attest(&cookie, &body).await;
    assert_eq!(
        refusal(response).await,
        expect(403, "AttestationError", "RDT-KBS-006")
    );
    let (_, reason) = site.refusal();
    assert!(
        reason.starts_with("report data") && !reason.contains("; "),
        "{reason}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_requests_get_their_own_answers() {
    let site = Site::new();
    let running = site.start();
    let hand = Hand::new(&site, &running);
    let auth = async |body: &str| {
        let url = format!("{}/auth", hand.base);
        refusal(
            hand.http
                .post(url)
                .body(body.to_owned())
                .send()
                .await
                .unwrap(),
        )
        .await
    };
    assert_eq!(
        auth(r#"{"version":"0.1.0","tee":"snp","extra-params":{}}"#).await,
        expect(400, "AttestationError", "RDT-KBS-002")
    );
    assert_eq!(
        auth(r#"{"version":"0.4.0","tee":"nosuch","extra-params":{}}"#).await,
        expect(400, "AttestationError", "RDT-KBS-003")
    );
    assert_eq!(
        auth(r#"{"version":"0.4.0","tee":"sample","extra-params":{}}"#).await,
        expect(400, "AttestationError", "RDT-KBS-003")
    );
    assert_eq!(
        auth("{").await,
        expect(400, "AttestationError", "RDT-KBS-001")
    );
    let large = "x".repeat(2 * 1024 * 1024 + 1);
    assert_eq!(
        auth(&large).await,
        expect(413, "AttestationError", "RDT-KBS-013")
    );

    let none = hand
        .attest(
            "kbs-session-id=00000000000000000000000000000000",
            &json!({}),
        )
        .await;
    assert_eq!(
        refusal(none).await,
        expect(401, "TokenNotFound", "RDT-KBS-004")
    );
    let get = async |path: &str| refusal(hand.get(path, None).await).await;
    assert_eq!(
        get("/resource/a/b/c").await,
        expect(401, "TokenNotFound", "RDT-KBS-004")
    );
    assert_eq!(
        get("/nosuch/a/b/c").await,
        expect(404, "PluginNotFound", "RDT-KBS-011")
    );
    assert_eq!(
        get("/resource/a/b").await,
        expect(404, "InvalidRequestPath", "RDT-KBS-012")
    );
    assert_eq!(
        get("/auth").await,
        expect(404, "InvalidRequestPath", "RDT-KBS-012")
    );
    assert_eq!(
        get("/../../healthy").await,
        expect(404, "InvalidRequestPath", "RDT-KBS-012")
    );
    let health = hand
        .http
        .get(format!("{}/healthz", running.url))
        .send()
        .await
        .unwrap();
    assert_eq!(health.status(), StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_spelling_of_a_path_leaves_the_resources() {
    let site = Site::new();
    site.put_policy("package policy\nallow := true\n");
    std::fs::write(site.kbs().join("resources/top"), b"x").unwrap();
    let running = site.start();
    let hand = Hand::new(&site, &running);
    let guest = Guest::good(&site.chip());
    let (cookie, nonce) = hand.auth().await;
    let response = hand.attest(&cookie, &hand.body(&guest, &nonce)).await;
    assert_eq!(response.status(), StatusCode::OK);
    let cookie = cookie_of(&response);
    for path in [
        "/resource/%2e%2e/%2e%2e/config.toml",
        "/resource/a/%2e%2e/token-key.pem",
        "/resource/a/b/..%2ftoken-key.pem",
        "/resource/a/b%2f..%2f../c",
        "/resource/a/b/%00",
        "/resource/a/b/%ff",
        "/resource/%2e/%2e/top",
    ] {
        let (status, _, code) =
            refusal(hand.get(path, Some(("cookie", cookie.clone()))).await).await;
        assert_eq!((status, code.as_str()), (404, "RDT-KBS-012"), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn denial_is_403_and_absence_404_and_neither_says_why() {
    let site = Site::new();
    let running = site.start();
    let hand = Hand::new(&site, &running);
    let guest = Guest::good(&site.chip());
    let (cookie, nonce) = hand.auth().await;
    let cookie = cookie_of(&hand.attest(&cookie, &hand.body(&guest, &nonce)).await);
    let header = || Some(("cookie", cookie.clone()));
    let missing = hand.get("/resource/a/b/c", header()).await;
    assert_eq!(
        refusal(missing).await,
        expect(404, "PluginInternalError", "RDT-KBS-010")
    );
    site.put_policy("package policy\nallow := false\nreasons := [\"closed\"]\n");
    let denied = hand.get(&format!("/resource/{PATH}"), header()).await;
    assert_eq!(denied.status(), StatusCode::FORBIDDEN);
    let body = denied.text().await.unwrap();
    assert!(
        body.contains("RDT-KBS-009") && !body.contains("closed"),
        "{body}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn compatibility_switch_answers_as_trustee_does() {
    let site = Site::new();
    let running = site.start_with(|config| config.http.trustee_status_codes = true);
    let hand = Hand::new(&site, &running);
    let guest = Guest::good(&site.chip());
    let (cookie, nonce) = hand.auth().await;
    let cookie = cookie_of(&hand.attest(&cookie, &hand.body(&guest, &nonce)).await);
    let missing = hand
        .get("/resource/a/b/c", Some(("cookie", cookie.clone())))
        .await;
    assert_eq!(
        refusal(missing).await,
        expect(401, "PluginInternalError", "RDT-KBS-010")
    );
    site.put_policy("package policy\nallow := false\n");
    let denied = hand
        .get(&format!("/resource/{PATH}"), Some(("cookie", cookie)))
        .await;
    assert_eq!(
        refusal(denied).await,
        expect(401, "PolicyDeny", "RDT-KBS-009")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_body_is_given_up() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let site = Site::new();
    let running = site.start_with(|config| {
        config.tls = None;
        config.http.request_timeout_ms = 300;
    });
    let address = running.url.strip_prefix("https://").unwrap();
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let head = "POST /kbs/v0/auth HTTP/1.1\r\nhost: b\r\ncontent-length: 100\r\n\r\n{";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    tokio::time::timeout(
        std::time::Duration::from_secs(5),
        stream.read_exact(&mut answer),
    )
    .await
    .expect("an answer comes in time")
    .unwrap();
    assert_eq!(&answer, b"HTTP/1.1 408");
    drop(stream);
    running.stop().await;
}
