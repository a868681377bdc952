//! Guests and a broker over real TLS: what is released, and what is refused to whom.
use std::sync::Arc;
use std::time::{Duration, Instant};

use redoubt_errors::{OneLine, UserError as _};
use redoubt_evidence::GuestPolicy;
use redoubt_kbs_client::KbsClientError;
use redoubt_snp_simulator::{RsaBits, SimulatedIdentity};

use crate::support::{DIGEST, Guest, KEY, PATH, Site, Trail, fetch, initdata_digest, path};

#[tokio::test(flavor = "multi_thread")]
async fn registered_launch_gets_resources_with_one_handshake() {
    let site = Site::new();
    site.put_resource("default/image-key/2", b"another");
    let running = site.start();
    let guest = Guest::good(&site.chip());
    let trail = Arc::new(Trail::default());
    let client = site.client_with(&running, &guest, |config| {
        config.observer = Some(Arc::clone(&trail) as _);
    });
    assert_eq!(*fetch(&client).await.unwrap(), KEY);
    assert_eq!(
        *client
            .get_resource(&path("default/image-key/2"))
            .await
            .unwrap(),
        b"another"
    );
    assert_eq!(guest.report_count(), 1);
    assert_eq!(
        *trail.0.lock().unwrap(),
        [
            "attested snp for 300 s",
            "resource default/image-key/1",
            "resource default/image-key/2"
        ]
    );
    running.stop().await;
    let audit = site.audit();
    let events: Vec<&str> = audit
        .iter()
        .map(|record| record["event"].as_str().unwrap())
        .collect();
    assert_eq!(
        events,
        [
            "started",
            "evidence-accepted",
            "resource-released",
            "resource-released",
            "stopped"
        ]
    );
    assert_eq!(audit[1]["tee"], "simulated-snp");
    assert_eq!(audit[1]["reference"], "test.json#0");
    assert_eq!(audit[2]["nonce"], audit[1]["nonce"]);
    assert_eq!(audit[2]["resource"], PATH);
}

#[tokio::test(flavor = "multi_thread")]
async fn token_is_used_until_shortly_before_it_ends() {
    let site = Site::new();
    // Its last five seconds are left unused, since a request travels a while.
    let running = site.start_with(|config| config.token.lifetime_s = 7);
    let guest = Guest::good(&site.chip());
    let client = site.client(&running, &guest);
    for _ in 0..3 {
        fetch(&client).await.unwrap();
    }
    assert_eq!(guest.report_count(), 1);
    tokio::time::sleep(Duration::from_millis(2500)).await;
    fetch(&client).await.unwrap();
    assert_eq!(guest.report_count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_that_come_together_make_one_handshake() {
    let site = Site::new();
    let running = site.start();
    let guest = Guest::good(&site.chip());
    let client = Arc::new(site.client(&running, &guest));
    let tasks: Vec<_> = (0..16)
        .map(|_| {
            let client = Arc::clone(&client);
            tokio::spawn(async move { fetch(&client).await.unwrap().to_vec() })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap(), KEY);
    }
    assert_eq!(guest.report_count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_launch_digest_is_denied_without_a_second_handshake() {
    let site = Site::new();
    let running = site.start();
    let guest = Guest::launched(
        &site.chip(),
        [7; 48],
        initdata_digest(),
        GuestPolicy::RELEASE,
        0,
    );
    let error = fetch(&site.client(&running, &guest)).await.unwrap_err();
    let line = OneLine(&error).to_string().replace(&running.url, "URL");
    insta::assert_snapshot!(line, @"[RDT-KBC-006] key broker URL does not release default/image-key/1: RDT-KBS-009 denied by policy (hint: the broker's audit log says which claim failed; register this launch's reference values)");
    assert_eq!(guest.report_count(), 1);
    let (code, reason) = site.refusal();
    assert_eq!(code, "RDT-KBS-009");
    assert_eq!(
        reason,
        format!(
            "launch digest {} is not among the 1 reference values",
            "07".repeat(48)
        )
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn reference_values_count_as_soon_as_they_are_written() {
    let site = Site::new();
    let running = site.start();
    let launch = |byte| {
        Guest::launched(
            &site.chip(),
            [byte; 48],
            initdata_digest(),
            GuestPolicy::RELEASE,
            0,
        )
    };
    let early = fetch(&site.client(&running, &launch(9))).await.unwrap_err();
    assert!(matches!(early, KbsClientError::Denied { .. }));
    site.put_reference([9; 48], Some(initdata_digest()));
    assert_eq!(
        *fetch(&site.client(&running, &launch(9))).await.unwrap(),
        KEY
    );
    let old = fetch(&site.client(&running, &Guest::good(&site.chip())))
        .await
        .unwrap_err();
    assert!(matches!(old, KbsClientError::Denied { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn host_data_other_than_the_reference_value_asks_for_is_denied() {
    let site = Site::new();
    site.put_reference(DIGEST, Some([5; 32]));
    let running = site.start();
    let guest = Guest::good(&site.chip());
    let error = fetch(&site.client(&running, &guest)).await.unwrap_err();
    assert!(matches!(error, KbsClientError::Denied { .. }), "{error:?}");
    assert!(
        site.refusal()
            .1
            .contains("is not what the reference value for this launch digest asks")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn swapped_initdata_is_refused_with_the_evidence() {
    let site = Site::new();
    let running = site.start();
    let guest = Guest::launched(&site.chip(), DIGEST, [3; 32], GuestPolicy::RELEASE, 0);
    let error = fetch(&site.client(&running, &guest)).await.unwrap_err();
    let line = OneLine(&error).to_string().replace(&running.url, "URL");
    insta::assert_snapshot!(line, @"[RDT-KBC-008] key broker URL refuses this guest's evidence: RDT-KBS-006 evidence refused (hint: the broker's audit log says which claim failed)");
    let (code, reason) = site.refusal();
    assert_eq!(code, "RDT-KBS-006");
    assert!(reason.contains(&"03".repeat(32)), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn guest_without_initdata_is_denied_by_the_default_policy() {
    let site = Site::new();
    let running = site.start();
    let guest = Guest::good(&site.chip());
    let client = site.client_with(&running, &guest, |config| config.initdata = None);
    let error = fetch(&client).await.unwrap_err();
    assert!(matches!(error, KbsClientError::Denied { .. }), "{error:?}");
    assert!(site.refusal().1.contains("no init-data came along"));
}

/// Evidence that must not be believed, with a word of the reason on record.
async fn assert_evidence_refused(site: &Site, guest: &Arc<Guest>, word: &str) {
    let running = site.start();
    let error = fetch(&site.client(&running, guest)).await.unwrap_err();
    assert!(
        matches!(error, KbsClientError::EvidenceRefused { .. }),
        "{error:?}"
    );
    assert!(
        !error.to_string().contains(word),
        "the guest learns only a code: {error}"
    );
    let (code, reason) = site.refusal();
    assert_eq!(code, "RDT-KBS-006");
    assert!(reason.contains(word), "{reason}");
    assert_eq!(guest.report_count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn debug_policy_bit_is_refused() {
    let site = Site::new();
    let debug = GuestPolicy(GuestPolicy::RELEASE.0 | 1 << 19);
    let guest = Guest::launched(&site.chip(), DIGEST, initdata_digest(), debug, 0);
    assert_evidence_refused(&site, &guest, "debug").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn vmpl_1_is_refused() {
    let site = Site::new();
    let guest = Guest::launched(
        &site.chip(),
        DIGEST,
        initdata_digest(),
        GuestPolicy::RELEASE,
        1,
    );
    assert_evidence_refused(&site, &guest, "VMPL").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn chip_under_another_root_is_refused() {
    let site = Site::new();
    let other = tempfile::tempdir().unwrap();
    let identity = SimulatedIdentity::generate_with(RsaBits::Rsa2048).unwrap();
    identity.store(other.path()).unwrap();
    assert_evidence_refused(&site, &Guest::good(other.path()), "chain").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn simulated_chip_is_refused_where_nobody_named_its_root() {
    let site = Site::new();
    let running = site.start_with(|config| config.snp.trust_anchors.clear());
    let guest = Guest::good(&site.chip());
    let error = fetch(&site.client(&running, &guest)).await.unwrap_err();
    assert!(
        matches!(error, KbsClientError::EvidenceRefused { .. }),
        "{error:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn tcb_below_the_minimum_is_refused() {
    let site = Site::new();
    let running = site.start_with(|config| config.snp.minimum_tcb.microcode = 255);
    let guest = Guest::good(&site.chip());
    let error = fetch(&site.client(&running, &guest)).await.unwrap_err();
    assert!(
        matches!(error, KbsClientError::EvidenceRefused { .. }),
        "{error:?}"
    );
    assert!(site.refusal().1.contains("microcode 255"));
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_resource_is_not_found() {
    let site = Site::new();
    let running = site.start();
    let guest = Guest::good(&site.chip());
    let client = site.client(&running, &guest);
    let error = client
        .get_resource(&path("default/image-key/none"))
        .await
        .unwrap_err();
    let line = OneLine(&error).to_string().replace(&running.url, "URL");
    insta::assert_snapshot!(line, @"[RDT-KBC-007] key broker URL has no default/image-key/none: RDT-KBS-010 no such resource (hint: store the resource at the broker, or correct the key's address)");
    assert_eq!(guest.report_count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn policy_decides_and_a_denied_guest_does_not_learn_what_exists() {
    let site = Site::new();
    let running = site.start();
    let guest = Guest::good(&site.chip());
    let client = site.client(&running, &guest);
    fetch(&client).await.unwrap();
    site.put_policy("package policy\nimport rego.v1\ndefault allow := false\n");
    for name in [PATH, "default/image-key/none"] {
        let error = client.get_resource(&path(name)).await.unwrap_err();
        assert!(matches!(error, KbsClientError::Denied { .. }), "{error:?}");
    }
    assert_eq!(guest.report_count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn trustees_status_codes_are_understood_too() {
    let site = Site::new();
    let running = site.start_with(|config| config.http.trustee_status_codes = true);
    let guest = Guest::good(&site.chip());
    let client = site.client(&running, &guest);
    let error = client
        .get_resource(&path("default/image-key/none"))
        .await
        .unwrap_err();
    assert!(
        matches!(error, KbsClientError::NotFound { .. }),
        "{error:?}"
    );
    site.put_policy("package policy\nimport rego.v1\ndefault allow := false\n");
    let error = fetch(&client).await.unwrap_err();
    assert!(matches!(error, KbsClientError::Denied { .. }), "{error:?}");
    assert_eq!(guest.report_count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_policy_releases_nothing() {
    let site = Site::new();
    let running = site.start();
    site.put_policy("package policy\nallow := ");
    let guest = Guest::good(&site.chip());
    let client = site.client_with(&running, &guest, |config| {
        config.deadline = Duration::from_secs(1);
    });
    let error = fetch(&client).await.unwrap_err();
    assert_eq!(error.code().0, "RDT-KBC-011", "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn token_outlives_the_server_but_not_its_key() {
    let site = Site::new();
    let first = site.start();
    let address = first.url.strip_prefix("https://").unwrap().parse().unwrap();
    let guest = Guest::good(&site.chip());
    let client = site.client(&first, &guest);
    fetch(&client).await.unwrap();
    first.stop().await;
    let second = site.start_with(|config| config.listen = address);
    assert_eq!(*fetch(&client).await.unwrap(), KEY);
    assert_eq!(guest.report_count(), 1);
    second.stop().await;
    std::fs::remove_file(site.kbs().join("token-key.pem")).unwrap();
    let third = site.start_with(|config| config.listen = address);
    assert_eq!(*fetch(&client).await.unwrap(), KEY);
    assert_eq!(guest.report_count(), 2);
    third.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unreachable_broker_is_given_up_in_time_and_named() {
    let site = Site::new();
    let running = site.start();
    let url = running.url.clone();
    let guest = Guest::good(&site.chip());
    let client = site.client_with(&running, &guest, |config| {
        config.deadline = Duration::from_secs(2);
    });
    running.stop().await;
    let started = Instant::now();
    let error = fetch(&client).await.unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(3));
    let KbsClientError::Unreachable { tries, .. } = &error else {
        panic!("{error:?}")
    };
    assert!(*tries > 1);
    let line = OneLine(&error).to_string();
    assert!(
        line.contains(&url) && line.contains("Connection refused"),
        "{line}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_broker_is_given_up_in_time() {
    let site = Site::new();
    let running = site.start();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", silent.local_addr().unwrap());
    let guest = Guest::good(&site.chip());
    let client = site.client_with(&running, &guest, |config| {
        config.url = url;
        config.deadline = Duration::from_secs(1);
    });
    let started = Instant::now();
    let error = fetch(&client).await.unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(2));
    assert!(
        matches!(error, KbsClientError::Deadline { .. }),
        "{error:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn broker_with_another_certificate_is_refused_at_once() {
    let site = Site::new();
    let other = Site::new();
    let running = site.start();
    let guest = Guest::good(&site.chip());
    let client = site.client_with(&running, &guest, |config| {
        config.pinned_cert_pem = Some(other.certificate());
    });
    let started = Instant::now();
    let error = fetch(&client).await.unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(2), "{error:?}");
    let line = OneLine(&error).to_string().replace(&running.url, "URL");
    insta::assert_snapshot!(line, @"[RDT-KBC-005] key broker URL does not prove its identity: invalid peer certificate: BadSignature (hint: the certificate in the initdata is not the one that the broker shows)");
    let client = site.client_with(&running, &guest, |config| config.pinned_cert_pem = None);
    let error = fetch(&client).await.unwrap_err();
    assert!(matches!(error, KbsClientError::Tls { .. }), "{error:?}");
    assert_eq!(guest.report_count(), 0);
}
