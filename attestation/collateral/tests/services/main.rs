//! The client against a server that answers as the services do.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod server;

use std::time::{Duration, Instant};

use redoubt_collateral::{ClientOptions, CollateralClient, CollateralError, DiskCache, Services};
use redoubt_errors::UserError as _;
use redoubt_evidence::{Product, SnpReport};
use redoubt_verifier::{
    CollateralId, CollateralItem, Fmspc, MAX_ITEM_BYTES, PckAuthority, VcekId, VekIssuer,
};
use server::{Script, Scripted};
use time::OffsetDateTime;
use time::macros::datetime;

const VCEK: &[u8] = include_bytes!("../../../verifier/testdata/attestation-rs-live-vcek-genoa.der");
const REPORT: &[u8] =
    include_bytes!("../../../verifier/testdata/attestation-rs-live-report-v5-genoa.bin");
const CHAIN: &[u8] = include_bytes!("../../../verifier/roots/genoa_ask_ark_asvk.pem");
const TCB_INFO: &[u8] = include_bytes!("../../../verifier/testdata/tdx/tcb_info_50806f000000.json");
const QE_IDENTITY: &[u8] = include_bytes!("../../../verifier/testdata/tdx/td_qe_identity.json");
const SIGNERS: &str = include_str!("../../../verifier/testdata/tdx/tcb_signing_chain.pem");
const PCK_CRL: &[u8] = include_bytes!("../../../verifier/testdata/tdx/pck_crl_platform.der");
const ROOT_CRL: &[u8] = include_bytes!("../../../verifier/testdata/tdx/root_ca_crl.der");

/// A day on which Intel's documents of the test data are current.
const THEN: OffsetDateTime = datetime!(2026-04-01 12:00 UTC);
const ROOT: &str = "/IntelSGXRootCA.der";

fn vcek() -> CollateralId {
    let report = SnpReport::parse(REPORT).unwrap();
    CollateralId::Vcek(VcekId::of_report(&report, None).unwrap())
}

fn options(url: &str) -> ClientOptions {
    ClientOptions {
        services: Services {
            amd_kds: url.to_owned(),
            intel_pcs: format!("{url}/"),
            intel_root: url.to_owned(),
            ..Services::default()
        },
        first_pause: Duration::from_millis(5),
        longest_pause: Duration::from_secs(2),
        timeout: Duration::from_secs(5),
        ..ClientOptions::default()
    }
}

async fn client(script: &Script) -> CollateralClient {
    CollateralClient::new(options(&script.serve().await), None).unwrap()
}

/// A chain as the services put it into a header.
fn chain_header(name: &str) -> String {
    let encoded: String = SIGNERS
        .bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect();
    format!("{name}: {encoded}\r\n")
}

#[tokio::test]
async fn every_kind_of_document_is_fetched() {
    let script = Script::default();
    script.on("/vcek/v1/Genoa/b5f9", [Scripted::ok(VCEK)]);
    script.on("/vcek/v1/Genoa/cert_chain", [Scripted::ok(CHAIN)]);
    script.on(
        "/tdx/certification/v4/tcb?fmspc=50806f000000&update=standard",
        [Scripted::ok_with(
            &chain_header("TCB-Info-Issuer-Chain"),
            TCB_INFO,
        )],
    );
    script.on(
        "/tdx/certification/v4/qe/identity",
        [Scripted::ok_with(
            &chain_header("SGX-Enclave-Identity-Issuer-Chain"),
            QE_IDENTITY,
        )],
    );
    script.on(
        "/sgx/certification/v4/pckcrl?ca=platform&encoding=der",
        [Scripted::ok_with(
            &chain_header("SGX-PCK-CRL-Issuer-Chain"),
            PCK_CRL,
        )],
    );
    script.on(ROOT, [Scripted::ok(ROOT_CRL)]);
    let client = client(&script).await;
    for (id, body) in [
        (vcek(), VCEK),
        (CollateralId::Chain(Product::Genoa, VekIssuer::Vcek), CHAIN),
        (
            CollateralId::TcbInfo(Fmspc([0x50, 0x80, 0x6F, 0, 0, 0])),
            TCB_INFO,
        ),
        (CollateralId::QeIdentity, QE_IDENTITY),
        (CollateralId::PckCrl(PckAuthority::Platform), PCK_CRL),
        (CollateralId::RootCaCrl, ROOT_CRL),
    ] {
        let item = client.get(id, THEN).await.unwrap();
        assert_eq!(item.body, body, "{id}");
        let chained = !matches!(
            id,
            CollateralId::Vcek(_) | CollateralId::Chain(..) | CollateralId::RootCaCrl
        );
        assert_eq!(item.issuer_chain.as_deref(), chained.then_some(SIGNERS));
    }
}

#[tokio::test]
async fn many_callers_ask_once() {
    let script = Script::default();
    script.on(
        ROOT,
        [Scripted::ok(ROOT_CRL).after(Duration::from_millis(200))],
    );
    let client = std::sync::Arc::new(client(&script).await);
    let callers: Vec<_> = (0..32)
        .map(|_| {
            let client = std::sync::Arc::clone(&client);
            tokio::spawn(async move { client.get(CollateralId::RootCaCrl, THEN).await })
        })
        .collect();
    for caller in callers {
        assert_eq!(caller.await.unwrap().unwrap().body, ROOT_CRL);
    }
    assert_eq!(script.asked(), [ROOT]);
    // And later from memory.
    client.get(CollateralId::RootCaCrl, THEN).await.unwrap();
    assert_eq!(script.asked().len(), 1);
}

#[tokio::test]
async fn a_busy_service_is_asked_again_when_it_said() {
    for line in ["429 Too Many Requests", "503 Service Unavailable"] {
        let script = Script::default();
        script.on(
            ROOT,
            [
                Scripted::status(line, "retry-after: 1\r\n"),
                Scripted::ok(ROOT_CRL),
            ],
        );
        let client = client(&script).await;
        let start = Instant::now();
        client.get(CollateralId::RootCaCrl, THEN).await.unwrap();
        assert!(start.elapsed() >= Duration::from_millis(990), "{line}");
        assert_eq!(script.asked().len(), 2);
    }
}

#[tokio::test]
async fn a_busy_service_without_a_time_is_asked_with_growing_pauses() {
    let script = Script::default();
    script.on(ROOT, [Scripted::status("429 Too Many Requests", "")]);
    let client = client(&script).await;
    let error = client.get(CollateralId::RootCaCrl, THEN).await.unwrap_err();
    assert!(matches!(error, CollateralError::Busy { .. }), "{error}");
    assert_eq!(error.code().0, "RDT-COL-005");
    assert_eq!(script.asked().len(), 4);
}

#[tokio::test]
async fn a_service_that_wants_a_long_pause_is_left_alone_for_every_document() {
    let script = Script::default();
    script.on(
        "/vcek/",
        [Scripted::status(
            "429 Too Many Requests",
            "retry-after: 3600\r\n",
        )],
    );
    let client = client(&script).await;
    let start = Instant::now();
    let error = client.get(vcek(), THEN).await.unwrap_err();
    assert!(matches!(error, CollateralError::Busy { seconds, .. } if seconds > 3500));
    // Another document of the same service is not asked for at all.
    let chain = CollateralId::Chain(Product::Genoa, VekIssuer::Vcek);
    assert!(client.get(chain, THEN).await.is_err());
    assert_eq!(script.asked().len(), 1);
    assert!(start.elapsed() < Duration::from_secs(2));
    // Another service is.
    script.on(ROOT, [Scripted::ok(ROOT_CRL)]);
    client.get(CollateralId::RootCaCrl, THEN).await.unwrap();
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_asked_for_again() {
    let whole = Scripted::ok(ROOT_CRL).bytes;
    let script = Script::default();
    script.on(
        ROOT,
        [
            Scripted::raw(whole[..whole.len() - 10].to_vec()),
            Scripted::raw(b"HTTP/1.1 2".to_vec()),
            Scripted::status("502 Bad Gateway", ""),
            Scripted::ok(ROOT_CRL),
        ],
    );
    let client = client(&script).await;
    let item = client.get(CollateralId::RootCaCrl, THEN).await.unwrap();
    assert_eq!(item.body, ROOT_CRL);
    assert_eq!(script.asked().len(), 4);

    script.on(ROOT, [Scripted::raw(whole[..whole.len() - 10].to_vec())]);
    let client = CollateralClient::new(options(&script.serve().await), None).unwrap();
    let error = client.get(CollateralId::RootCaCrl, THEN).await.unwrap_err();
    assert!(
        matches!(error, CollateralError::Truncated { .. }),
        "{error}"
    );
}

#[tokio::test]
async fn an_endless_answer_is_refused_announced_or_not() {
    let body = vec![0; MAX_ITEM_BYTES + 1];
    let unannounced = [b"HTTP/1.1 200 OK\r\n\r\n".as_slice(), &body].concat();
    for answer in [Scripted::ok(&body), Scripted::raw(unannounced)] {
        let script = Script::default();
        script.on(ROOT, [answer]);
        let client = client(&script).await;
        let error = client.get(CollateralId::RootCaCrl, THEN).await.unwrap_err();
        assert!(
            matches!(error, CollateralError::AnswerTooLarge { .. }),
            "{error}"
        );
        assert_eq!(script.asked().len(), 1);
    }
}

#[tokio::test]
async fn wrong_content_is_refused_and_not_kept() {
    let dir = tempfile::tempdir().unwrap();
    let script = Script::default();
    let milan = include_bytes!("../../../verifier/testdata/trustee-test-vcek.der");
    script.on(
        "/vcek/v1/Genoa/b5f9",
        [
            Scripted::ok(b"<html>Sign in to the network</html>"),
            Scripted::ok(milan),
            Scripted::ok(b""),
            Scripted::ok(VCEK),
        ],
    );
    // Intel's document without the chain that signed it.
    script.on("/tdx/certification/v4/qe/", [Scripted::ok(QE_IDENTITY)]);
    let cache = DiskCache::new(dir.path());
    let client =
        CollateralClient::new(options(&script.serve().await), Some(cache.clone())).unwrap();
    for _ in 0..3 {
        let error = client.get(vcek(), THEN).await.unwrap_err();
        assert!(matches!(error, CollateralError::Content { .. }), "{error}");
        assert!(cache.get(&vcek()).is_none());
    }
    assert_eq!(client.get(vcek(), THEN).await.unwrap().body, VCEK);
    assert!(cache.get(&vcek()).is_some());
    let error = client.get(CollateralId::QeIdentity, THEN).await;
    assert!(matches!(error, Err(CollateralError::Content { .. })));
}

#[tokio::test]
async fn final_answers_are_not_asked_for_again() {
    for (line, code) in [
        ("404 Not Found", "RDT-COL-006"),
        ("400 Bad Request", "RDT-COL-007"),
        ("302 Found", "RDT-COL-007"),
    ] {
        let script = Script::default();
        script.on("/vcek/", [Scripted::status(line, "location: /other\r\n")]);
        let client = client(&script).await;
        let error = client.get(vcek(), THEN).await.unwrap_err();
        assert_eq!(error.code().0, code);
        assert_eq!(script.asked().len(), 1, "{line}");
    }
}

#[tokio::test]
async fn what_is_on_disk_needs_no_service() {
    let dir = tempfile::tempdir().unwrap();
    let cache = DiskCache::new(dir.path().join("cache"));
    let script = Script::default();
    script.on(ROOT, [Scripted::ok(ROOT_CRL)]);
    let url = script.serve().await;
    let new = || CollateralClient::new(options(&url), Some(cache.clone())).unwrap();
    let first = new().get(CollateralId::RootCaCrl, THEN).await.unwrap();
    let second = new().get(CollateralId::RootCaCrl, THEN).await.unwrap();
    assert_eq!(first.body, second.body);
    assert_eq!(script.asked().len(), 1);
    // A file that was damaged counts as missing.
    let file = cache.dir().join("tdx/root-ca-crl.json");
    std::fs::write(&file, b"{}").unwrap();
    new().get(CollateralId::RootCaCrl, THEN).await.unwrap();
    assert_eq!(script.asked().len(), 2);
    assert!(cache.get(&CollateralId::RootCaCrl).is_some());
}

#[tokio::test]
async fn an_older_list_serves_while_it_is_current_and_no_longer() {
    let dir = tempfile::tempdir().unwrap();
    let cache = DiskCache::new(dir.path());
    let older = CollateralItem {
        id: CollateralId::RootCaCrl,
        body: ROOT_CRL.to_vec(),
        issuer_chain: None,
        fetched_at: THEN - Duration::from_secs(48 * 3600),
    };
    cache.put(&older).unwrap();
    let script = Script::default();
    script.on(ROOT, [Scripted::status("404 Not Found", "")]);
    let client = CollateralClient::new(options(&script.serve().await), Some(cache)).unwrap();
    // Older than it may be, and the service has nothing: it serves still.
    assert_eq!(client.get(older.id, THEN).await.unwrap(), older);
    assert_eq!(script.asked().len(), 1);
    let late = older.next_update().unwrap() + Duration::from_secs(1);
    assert!(client.get(older.id, late).await.is_err());
    // With a newer one at hand it is replaced.
    script.on(ROOT, [Scripted::ok(ROOT_CRL)]);
    let newer = client.get(older.id, THEN).await.unwrap();
    assert!(newer.fetched_at > older.fetched_at);
}

#[tokio::test]
async fn a_cache_that_cannot_be_written_does_not_lose_the_document() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, b"").unwrap();
    let script = Script::default();
    script.on(ROOT, [Scripted::ok(ROOT_CRL)]);
    let cache = DiskCache::new(&file);
    let client =
        CollateralClient::new(options(&script.serve().await), Some(cache.clone())).unwrap();
    let item = client.get(CollateralId::RootCaCrl, THEN).await.unwrap();
    let error = cache.put(&item).unwrap_err();
    assert_eq!(error.code().0, "RDT-COL-010");
}

#[tokio::test]
async fn an_unreachable_service_is_named() {
    let error = CollateralClient::new(options("http://127.0.0.1:1"), None)
        .unwrap()
        .get(vcek(), THEN)
        .await
        .unwrap_err();
    assert_eq!(error.code().0, "RDT-COL-003");
    assert!(error.to_string().starts_with("AMD's key distribution"));
    for url in ["", "ftp://host", "no address"] {
        let refused = CollateralClient::new(options(url), None).unwrap_err();
        assert_eq!(refused.code().0, "RDT-COL-002", "{url}");
    }
}
