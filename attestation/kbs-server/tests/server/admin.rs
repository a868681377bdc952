//! Administrators and tenants of a broker with a database.

use std::time::SystemTime;

use redoubt_kbs_client::KbsClientError;
use redoubt_kbs_server::{
    AdminClaims, AdminRole, AdminSigner, PolicyDocument, PolicyName, StorageKind,
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::protocol::{Hand, cookie_of, expect, refusal};
use crate::support::{DIGEST, Guest, KEY, PATH, Running, Site, fetch, path};

const DENY: &str = "package policy\nallow := false\nreasons := [\"closed on Sundays\"]\n";

/// An administrator who speaks the API by hand.
struct Administrator {
    hand: Hand,
    signer: AdminSigner,
    claims: AdminClaims,
}

impl Administrator {
    fn new(site: &Site, running: &Running) -> Self {
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
        Self {
            hand: Hand::new(site, running),
            signer: AdminSigner::load(&site.kbs().join("admin-key.pem")).unwrap(),
            claims: AdminClaims::new("alice", AdminRole::Admin, now, 300),
        }
    }

    fn of_tenant(mut self, tenant: &str) -> Self {
        self.hand.base = self
            .hand
            .base
            .replace("/kbs/v0", &format!("/tenants/{tenant}/kbs/v0"));
        self
    }

    async fn send(&self, method: Method, path: &str, body: Vec<u8>) -> reqwest::Response {
        let token = self.signer.sign(&self.claims);
        self.hand
            .http
            .request(method, format!("{}{path}", self.hand.base))
            .bearer_auth(token.as_str())
            .body(body)
            .send()
            .await
            .unwrap()
    }

    /// Sends a request that must succeed.
    async fn ask(&self, method: Method, path: &str, body: Vec<u8>) -> Value {
        let response = self.send(method, path, body).await;
        let status = response.status();
        let text = response.text().await.unwrap();
        assert_eq!(status, StatusCode::OK, "{path}: {text}");
        serde_json::from_str(&text).unwrap()
    }

    async fn put(&self, resource: &str, bytes: &[u8]) {
        let path = format!("/resource/{resource}");
        self.ask(Method::POST, &path, bytes.to_vec()).await;
    }

    async fn import(&self, name: &str, digest: [u8; 48]) -> Value {
        let document = json!({ "version": 1, "values": [
            { "tee": "snp", "launch_digest": hex::encode(digest), "host_data": null } ] });
        let path = format!("/reference-value?name={name}");
        self.ask(Method::POST, &path, document.to_string().into_bytes())
            .await
    }

    async fn set_policy(&self, name: &str, text: &str) {
        let document = PolicyDocument::new(PolicyName::parse(name).unwrap(), text);
        let body = json!(document).to_string().into_bytes();
        self.ask(Method::POST, "/resource-policy", body).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn resources_put_through_the_api_reach_guests_and_survive_a_restart() {
    let site = Site::empty(StorageKind::Embedded);
    let running = site.start();
    let admin = Administrator::new(&site, &running);
    admin.put(PATH, KEY).await;
    let report = admin.import("release-1", DIGEST).await;
    assert_eq!(
        report,
        json!({ "name": "release-1", "values": 1, "left_out": [] })
    );
    let guest = Guest::good(&site.chip());
    assert_eq!(*fetch(&site.client(&running, &guest)).await.unwrap(), KEY);
    running.stop().await;
    let running = site.start();
    assert_eq!(*fetch(&site.client(&running, &guest)).await.unwrap(), KEY);
    let admin = Administrator::new(&site, &running);
    let page = admin.ask(Method::GET, "/resources", Vec::new()).await;
    assert_eq!(page["resources"][0]["path"], PATH);
    assert_eq!(page["resources"][0]["size_bytes"], KEY.len());
    admin
        .ask(Method::DELETE, &format!("/resource/{PATH}"), Vec::new())
        .await;
    let error = fetch(&site.client(&running, &guest)).await.unwrap_err();
    assert!(
        matches!(error, KbsClientError::NotFound { .. }),
        "{error:?}"
    );
    let audit = site.audit();
    let stored = audit
        .iter()
        .find(|record| record["event"] == "resource-stored");
    assert_eq!(stored.unwrap()["actor"], "alice");
    for name in ["broker.redb", "audit.jsonl"] {
        let file = std::fs::read(site.kbs().join(name)).unwrap();
        assert!(!file.windows(KEY.len()).any(|part| part == KEY), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn new_broker_releases_nothing() {
    let site = Site::empty(StorageKind::Embedded);
    let running = site.start();
    Administrator::new(&site, &running).put(PATH, KEY).await;
    let guest = Guest::good(&site.chip());
    let error = fetch(&site.client(&running, &guest)).await.unwrap_err();
    assert!(matches!(error, KbsClientError::Denied { .. }), "{error:?}");
    let (code, reason) = site.refusal();
    assert_eq!(code, "RDT-KBS-009");
    assert!(
        reason.contains("is not among the 0 reference values"),
        "{reason}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn named_policy_decides_on_the_resources_that_name_it() {
    let site = Site::empty(StorageKind::Embedded);
    let running = site.start();
    let admin = Administrator::new(&site, &running);
    admin.import("r", DIGEST).await;
    admin.set_policy("sundays", DENY).await;
    admin.put(PATH, KEY).await;
    let closed = "/resource/default/closed/1?policy=sundays";
    admin.ask(Method::POST, closed, KEY.to_vec()).await;
    let guest = Guest::good(&site.chip());
    let client = site.client(&running, &guest);
    assert_eq!(*fetch(&client).await.unwrap(), KEY);
    let error = client
        .get_resource(&path("default/closed/1"))
        .await
        .unwrap_err();
    assert!(matches!(error, KbsClientError::Denied { .. }), "{error:?}");
    assert!(!error.to_string().contains("Sundays"), "{error}");
    assert_eq!(site.refusal().1, "closed on Sundays");
    let kept = admin
        .send(Method::DELETE, "/resource-policy/sundays", Vec::new())
        .await;
    assert_eq!(
        refusal(kept).await,
        expect(400, "AdminAuthAccess", "RDT-KBS-021")
    );
    let shown = admin
        .ask(Method::GET, "/resource-policy/sundays", Vec::new())
        .await;
    let shown: PolicyDocument = serde_json::from_value(shown).unwrap();
    assert_eq!(shown.text().unwrap(), DENY);
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_see_neither_each_others_resources_nor_tokens_nor_challenges() {
    let site = Site::empty(StorageKind::Embedded);
    let running = site.start();
    let one = Administrator::new(&site, &running).of_tenant("one");
    one.put(PATH, KEY).await;
    one.import("r", DIGEST).await;
    let guest = Guest::good(&site.chip());
    let client = |tenant: &str| {
        let url = format!("{}/tenants/{tenant}", running.url);
        site.client_with(&running, &guest, |config| config.url = url)
    };
    assert_eq!(*fetch(&client("one")).await.unwrap(), KEY);
    let error = fetch(&client("two")).await.unwrap_err();
    assert!(matches!(error, KbsClientError::Denied { .. }), "{error:?}");
    let error = fetch(&site.client(&running, &guest)).await.unwrap_err();
    assert!(matches!(error, KbsClientError::Denied { .. }), "{error:?}");

    let two = Administrator::new(&site, &running).of_tenant("two").hand;
    let (cookie, nonce) = one.hand.auth().await;
    let stolen = two.attest(&cookie, &two.body(&guest, &nonce)).await;
    assert_eq!(
        refusal(stolen).await,
        expect(401, "TokenNotFound", "RDT-KBS-004")
    );
    let accepted = one
        .hand
        .attest(&cookie, &one.hand.body(&guest, &nonce))
        .await;
    let token = cookie_of(&accepted);
    let foreign = two
        .get(&format!("/resource/{PATH}"), Some(("cookie", token)))
        .await;
    assert_eq!(
        refusal(foreign).await,
        expect(401, "TokenVerifierError", "RDT-KBS-008")
    );
    let released = site
        .audit()
        .into_iter()
        .find(|record| record["event"] == "resource-released");
    assert_eq!(released.unwrap()["tenant"], "one");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_without_the_right_token_change_nothing() {
    let site = Site::empty(StorageKind::Embedded);
    let running = site.start();
    let mut admin = Administrator::new(&site, &running).of_tenant("one");
    let resource = format!("/resource/{PATH}");
    let url = format!("{}{resource}", admin.hand.base);
    let bare = admin.hand.http.post(&url).body("x").send().await.unwrap();
    assert_eq!(
        refusal(bare).await,
        expect(401, "AdminAuthAccess", "RDT-KBS-018")
    );

    let (other, _) = AdminSigner::generate().unwrap();
    let own = std::mem::replace(
        &mut admin.signer,
        AdminSigner::from_pem(other.as_bytes()).unwrap(),
    );
    let foreign = admin.send(Method::POST, &resource, b"x".to_vec()).await;
    assert_eq!(
        refusal(foreign).await,
        expect(401, "AdminAuthAccess", "RDT-KBS-018")
    );
    admin.signer = own;

    admin.claims.tenants = vec!["two".to_owned()];
    let elsewhere = admin.send(Method::POST, &resource, b"x".to_vec()).await;
    assert_eq!(
        refusal(elsewhere).await,
        expect(403, "AdminAuthAccess", "RDT-KBS-019")
    );
    admin.claims.tenants = vec!["one".to_owned()];
    let rotate = admin.send(Method::POST, "/storage-key", Vec::new()).await;
    assert_eq!(
        refusal(rotate).await,
        expect(403, "AdminAuthAccess", "RDT-KBS-019")
    );
    admin.claims.role = AdminRole::Reader;
    let reader = admin.send(Method::POST, &resource, b"x".to_vec()).await;
    assert_eq!(
        refusal(reader).await,
        expect(403, "AdminAuthAccess", "RDT-KBS-019")
    );
    let page = admin.ask(Method::GET, "/resources", Vec::new()).await;
    assert_eq!(page["resources"], json!([]));
    let refused = site
        .audit()
        .into_iter()
        .filter(|record| record["event"] == "admin-refused");
    assert_eq!(refused.count(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_that_cannot_be_made_say_why() {
    let site = Site::empty(StorageKind::Embedded);
    let running = site.start();
    let admin = Administrator::new(&site, &running);
    let refused = async |method: Method, path: &str, body: Vec<u8>| {
        let response = admin.send(method, path, body).await;
        let status = response.status().as_u16();
        let body: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
        format!("{status} {}", body["detail"].as_str().unwrap())
    };
    let large = vec![0; 1024 * 1024 + 1];
    insta::assert_snapshot!(refused(Method::POST, "/resource/a/b/c", large).await, @"413 RDT-KBS-013 request too large: resource has 1048577 bytes, more than the 1048576 allowed");
    insta::assert_snapshot!(refused(Method::POST, "/resource/a/b/c?policy=none", Vec::new()).await, @r#"400 RDT-KBS-021 change refused: there is no policy "none""#);
    insta::assert_snapshot!(refused(Method::DELETE, "/resource/a/b/c", Vec::new()).await, @"404 RDT-KBS-010 no such resource: it was not there");
    insta::assert_snapshot!(refused(Method::POST, "/reference-value?name=..", b"{}".to_vec()).await, @"400 RDT-KBS-021 change refused: a name has 1 to 63 letters, digits, '_', '-' and '.'");
    let rvps = json!({ "snp_launch_measurement": ["ab".repeat(48)], "snp_bootloader": [3] });
    let rvps = rvps.to_string().into_bytes();
    insta::assert_snapshot!(refused(Method::POST, "/reference-value", rvps.clone()).await, @"400 RDT-KBS-021 change refused: these have no counterpart here and would be left out: snp_bootloader");
    let report = admin
        .ask(Method::POST, "/reference-value?ignore_others=true", rvps)
        .await;
    assert_eq!(report["values"], 1);
    let policy = json!(PolicyDocument::new(
        PolicyName::default(),
        "package policy\nallow if {"
    ));
    let policy = policy.to_string().into_bytes();
    assert!(
        refused(Method::POST, "/resource-policy", policy)
            .await
            .starts_with("400 RDT-KBS-021")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn storage_key_is_replaced_while_the_broker_runs() {
    let site = Site::empty(StorageKind::Embedded);
    let running = site.start();
    let admin = Administrator::new(&site, &running);
    admin.put(PATH, KEY).await;
    admin.import("r", DIGEST).await;
    let before = std::fs::read_to_string(site.kbs().join("storage-key")).unwrap();
    let id = admin.ask(Method::POST, "/storage-key", Vec::new()).await;
    let after = std::fs::read_to_string(site.kbs().join("storage-key")).unwrap();
    assert!(after.starts_with(id["key_id"].as_str().unwrap()) && before != after);
    let guest = Guest::good(&site.chip());
    assert_eq!(*fetch(&site.client(&running, &guest)).await.unwrap(), KEY);
    running.stop().await;
    let running = site.start();
    assert_eq!(*fetch(&site.client(&running, &guest)).await.unwrap(), KEY);
}

#[tokio::test(flavor = "multi_thread")]
async fn storage_in_files_is_not_changed_through_the_api() {
    let site = Site::new();
    let running = site.start();
    let admin = Administrator::new(&site, &running);
    let put = admin
        .send(Method::POST, "/resource/a/b/c", b"x".to_vec())
        .await;
    assert_eq!(
        refusal(put).await,
        expect(409, "AdminAuthAccess", "RDT-KBS-020")
    );
    let head = admin.ask(Method::GET, "/audit-head", Vec::new()).await;
    assert!(head["records"].as_u64().unwrap() >= 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_keys_there_is_no_admin_api() {
    let site = Site::empty(StorageKind::Embedded);
    let running = site.start_with(|config| config.admin.public_keys.clear());
    let admin = Administrator::new(&site, &running);
    for (method, path) in [
        (Method::POST, "/resource/a/b/c"),
        (Method::GET, "/resources"),
        (Method::GET, "/audit-head"),
    ] {
        let response = admin.send(method, path, Vec::new()).await;
        assert_eq!(response.status(), StatusCode::NOT_FOUND, "{path}");
    }
}
