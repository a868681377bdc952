//! What must open.

use std::time::Duration;

use async_trait::async_trait;
use redoubt_image_offload::{
    Digest, ImageError, ImageStore, KeySource, KeySourceError, PullEvent, StaticKeys, TrustRoots,
};
use serde_json::json;
use zeroize::Zeroizing;

use crate::common::{Fault, Setup, broker_keys, layout, options};
use crate::hostile::{ec_key, first_layer};

#[tokio::test(flavor = "multi_thread")]
async fn every_form_of_the_image_unpacks_to_the_same_layers() {
    let mut unpacked = Vec::new();
    for name in [
        "plain",
        "plain-zstd",
        "enc-coco-kbs-v1",
        "enc-coco-kbs-v2",
        "enc-jwe-and-coco",
        "enc-jwe-ec256",
    ] {
        let setup = Setup::new().await;
        let reference = setup.registry.serve_layout(&layout(name));
        let mut options = options(&setup.registry);
        options.private_keys.push(ec_key());
        let image = setup.pull_with(&reference, &options).await.unwrap();
        assert_eq!(image.layers.len(), 3, "{name}");
        assert_eq!(image.config.cmd, ["/bin/sh"]);
        assert_eq!(image.config.env, ["PATH=/bin"]);
        assert!(reference.ends_with(&image.manifest_digest.to_string()));
        let mut listing = Vec::new();
        for layer in &image.layers {
            list(&layer.path, &layer.path, &mut listing);
        }
        unpacked.push(listing);
        let encrypted = name.starts_with("enc");
        let decrypted = setup
            .events
            .all()
            .iter()
            .filter(|event| matches!(event, PullEvent::LayerDecrypted { .. }))
            .count();
        assert_eq!(decrypted, if encrypted { 3 } else { 0 }, "{name}");
    }
    assert!(unpacked[0].len() > 3);
    assert!(unpacked.iter().all(|listing| *listing == unpacked[0]));
}

fn list(root: &std::path::Path, path: &std::path::Path, listing: &mut Vec<String>) {
    use std::os::unix::fs::MetadataExt;
    let mut entries: Vec<_> = std::fs::read_dir(path)
        .unwrap()
        .map(Result::unwrap)
        .collect();
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let found = entry.path().symlink_metadata().unwrap();
        let name = entry
            .path()
            .strip_prefix(root)
            .unwrap()
            .display()
            .to_string();
        let size = if found.is_file() { found.len() } else { 0 };
        listing.push(format!("{name} {:o} {size} {}", found.mode(), found.rdev()));
        if found.is_dir() {
            list(root, &entry.path(), listing);
        }
    }
}

#[tokio::test]
async fn the_observer_hears_every_step_with_sizes() {
    let setup = Setup::new().await;
    let reference = setup.registry.serve_layout(&layout("enc-coco-kbs-v1"));
    setup.pull(&reference).await.unwrap();
    let events = setup.events.all();
    assert!(matches!(
        events[0],
        PullEvent::ManifestVerified {
            layers: 3,
            blob_bytes: 627,
            ..
        }
    ));
    let finished = events.last().unwrap();
    assert!(matches!(
        finished,
        PullEvent::Finished {
            layers: 3,
            decrypted: 3,
            cached: 0,
            blob_bytes: 627,
            ..
        }
    ));
    for index in 0..3 {
        let steps: Vec<_> = events
            .iter()
            .filter_map(|event| match event {
                PullEvent::LayerVerified { index: at, .. } if *at == index => Some("verified"),
                PullEvent::LayerDecrypted { index: at, .. } if *at == index => Some("decrypted"),
                PullEvent::LayerUnpacked { index: at, .. } if *at == index => Some("unpacked"),
                _ => None,
            })
            .collect();
        assert_eq!(steps, ["verified", "decrypted", "unpacked"]);
    }
}

/// Counts the requests for keys.
struct CountingKeys(StaticKeys, std::sync::atomic::AtomicUsize);

#[async_trait]
impl KeySource for CountingKeys {
    async fn key(&self, kid: &str) -> Result<Zeroizing<Vec<u8>>, KeySourceError> {
        self.1.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(20)).await;
        self.0.key(kid).await
    }
}

#[tokio::test]
async fn a_key_that_layers_share_is_fetched_once() {
    let setup = Setup::new().await;
    let reference = setup.registry.serve_layout(&layout("enc-coco-kbs-v1"));
    let keys = CountingKeys(broker_keys(), 0.into());
    let options = options(&setup.registry);
    setup
        .store
        .pull(&reference, &options, &keys, &setup.events)
        .await
        .unwrap();
    assert_eq!(keys.1.into_inner(), 1);
}

#[tokio::test]
async fn layers_that_are_at_hand_are_not_fetched_again() {
    let setup = Setup::new().await;
    let reference = setup.registry.serve_layout(&layout("enc-coco-kbs-v1"));
    let first = setup.pull(&reference).await.unwrap();
    let requests = setup.registry.seen().len();
    let second = setup.pull(&reference).await.unwrap();
    assert_eq!(first.layers, second.layers);
    // The manifest and the configuration only.
    assert_eq!(setup.registry.seen().len(), requests + 2);
}

#[tokio::test]
async fn a_broken_transfer_goes_on_where_it_stopped() {
    let setup = Setup::new().await;
    let reference = setup.registry.serve_layout(&layout("plain"));
    let layer = first_layer(&setup, &reference);
    setup.registry.fault(&layer, Fault::Break(2));
    setup.pull(&reference).await.unwrap();
    let ranges: Vec<_> = setup
        .registry
        .seen()
        .into_iter()
        .filter(|seen| seen.path.ends_with(&layer))
        .map(|seen| seen.range)
        .collect();
    assert_eq!(
        ranges,
        [
            None,
            Some("bytes=220-".to_owned()),
            Some("bytes=330-".to_owned())
        ]
    );
    assert!(
        setup
            .events
            .all()
            .iter()
            .any(|event| matches!(event, PullEvent::Retrying { .. }))
    );
}

#[tokio::test]
async fn a_broken_transfer_begins_again_where_ranges_are_not_served() {
    let setup = Setup::new().await;
    setup.registry.without_ranges();
    let reference = setup.registry.serve_layout(&layout("plain"));
    setup
        .registry
        .fault(first_layer(&setup, &reference), Fault::Break(2));
    setup.pull(&reference).await.unwrap();
}

#[tokio::test]
async fn passing_refusals_are_waited_for() {
    for status in [429, 500, 503] {
        let setup = Setup::new().await;
        let reference = setup.registry.serve_layout(&layout("plain"));
        setup.registry.fault(
            first_layer(&setup, &reference),
            Fault::Status(status, 2, None),
        );
        setup.pull(&reference).await.unwrap();
    }
}

#[tokio::test]
async fn retry_after_is_respected() {
    let setup = Setup::new().await;
    let reference = setup.registry.serve_layout(&layout("plain"));
    setup.registry.fault(
        first_layer(&setup, &reference),
        Fault::Status(429, 1, Some(1)),
    );
    let started = std::time::Instant::now();
    setup.pull(&reference).await.unwrap();
    assert!(started.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn a_bearer_challenge_is_met_with_a_token() {
    let setup = Setup::new().await;
    let reference = setup.registry.serve_layout(&layout("plain"));
    setup.registry.require_token("sesame");
    setup.pull(&reference).await.unwrap();
    let seen = setup.registry.seen();
    assert_eq!(seen.iter().filter(|seen| seen.path == "/token").count(), 1);
}

#[tokio::test]
async fn the_image_for_this_platform_is_taken_from_an_index() {
    let setup = Setup::new().await;
    let wanted = setup.registry.serve_layout(&layout("plain"));
    let wanted = wanted.split_once('@').unwrap().1;
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let absent = Digest::of(b"another platform").to_string();
    let index = |platform: &str| {
        json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [
            {"mediaType": media_type, "digest": absent, "size": 1,
             "platform": {"os": "unknown", "architecture": "unknown"}},
            {"mediaType": media_type, "digest": wanted, "size": 1,
             "platform": {"os": "linux", "architecture": platform}},
        ]})
        .to_string()
    };
    let pinned = setup.registry.add(index("s390x"));
    let error = setup.refused(&setup.registry.reference(pinned)).await;
    assert!(matches!(error, ImageError::NoPlatform { .. }), "{error:?}");
    let here = redoubt_image_offload::Platform::default();
    let pinned = setup.registry.add(index(&here.architecture));
    let image = setup.pull(&setup.registry.reference(pinned)).await.unwrap();
    assert_eq!(image.pinned_digest, pinned);
    assert_eq!(image.manifest_digest.to_string(), wanted);
}

#[tokio::test]
async fn a_store_is_used_by_one_process_and_cleans_up_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let first = ImageStore::open(directory.path()).unwrap();
    assert!(matches!(
        ImageStore::open(directory.path()),
        Err(ImageError::StoreBusy { .. })
    ));
    drop(first);
    let left = directory.path().join("staging/0");
    std::fs::create_dir_all(&left).unwrap();
    ImageStore::open(directory.path()).unwrap();
    assert!(!left.exists());
}

#[tokio::test]
async fn https_needs_a_trusted_certificate() {
    let setup = Setup::new().await;
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![made.cert.der().clone()],
            made.signing_key.serialize_der().try_into().unwrap(),
        )
        .unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let tls = axum_server::tls_rustls::RustlsConfig::from_config(config.into());
    let server = axum_server::from_tcp_rustls(listener, tls).unwrap();
    tokio::spawn(server.serve(setup.registry.router().into_make_service()));

    let digest = setup.registry.serve_layout(&layout("plain"));
    let reference = format!("localhost:{port}/app@{}", digest.split_once('@').unwrap().1);
    let mut options = options(&setup.registry);
    options.retry.attempts = 1;
    let error = setup.refused_with(&reference, &options).await;
    assert!(
        matches!(error, ImageError::RegistryUnreachable { .. }),
        "{error:?}"
    );
    let pem = made.cert.pem();
    for trust in [
        TrustRoots::Only(vec![pem.clone()]),
        TrustRoots::PublicAnd(vec![pem.clone()]),
    ] {
        options.registries.trust = trust;
        setup.pull_with(&reference, &options).await.unwrap();
    }
}
