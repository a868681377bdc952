//! What must be refused, leaving nothing behind.

use std::time::Duration;

use redoubt_errors::UserError;
use redoubt_image_offload::{Digest, ImageError, StaticKeys, UnpackOptions};
use redoubt_ocicrypt::{OcicryptError, PrivateKey};
use serde_json::json;
use zeroize::Zeroizing;

use crate::common::{
    Events, Fault, Setup, TestRegistry, archive, cause, gzip, layout, manifest, ocicrypt_testdata,
    one_line, options,
};

pub(crate) fn ec_key() -> PrivateKey {
    PrivateKey::parse(&std::fs::read(ocicrypt_testdata("keys/ec256_priv.pem")).unwrap()).unwrap()
}

#[tokio::test]
async fn an_unpinned_reference_is_refused_before_any_request() {
    let setup = Setup::new().await;
    setup.registry.serve_layout(&layout("plain"));
    let error = setup
        .refused(&format!("{}/test/image:v1", setup.registry.host()))
        .await;
    assert_eq!(error.code().0, "RDT-IMG-002");
    assert!(setup.registry.seen().is_empty());
}

#[tokio::test]
async fn the_negative_vectors_are_refused() {
    for (name, code) in [
        ("neg-flipped-byte", "RDT-ENC-007"),
        ("neg-unknown-cipher", "RDT-ENC-003"),
    ] {
        let setup = Setup::new().await;
        let reference = setup.registry.serve_layout(&layout(name));
        let error = setup.refused(&reference).await;
        assert_eq!(error.code().0, code, "{}", one_line(&error));
        assert!(
            one_line(&error).contains("layer 0 (sha256:"),
            "{}",
            one_line(&error)
        );
    }
}

#[tokio::test]
async fn layers_without_a_usable_recipient_are_refused() {
    for (name, code) in [
        ("enc-pkcs7", "RDT-ENC-023"),
        ("enc-jwe-rsa", "RDT-ENC-018"),
        ("enc-lastlayer", "RDT-ENC-018"),
    ] {
        let setup = Setup::new().await;
        let reference = setup.registry.serve_layout(&layout(name));
        let mut options = options(&setup.registry);
        let error = setup.refused_with(&reference, &options).await;
        assert_eq!(
            error.code().0,
            "RDT-ENC-011",
            "{name}: {}",
            one_line(&error)
        );
        options.private_keys.push(ec_key());
        let error = setup.refused_with(&reference, &options).await;
        assert_eq!(error.code().0, code, "{name}: {}", one_line(&error));
    }
}

/// Changes the public options of all layers of a vector.
fn with_public_options(setup: &Setup, change: impl Fn(&mut serde_json::Value)) -> String {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    let reference = setup.registry.serve_layout(&layout("enc-coco-kbs-v1"));
    let manifest = setup
        .registry
        .blob(reference.split_once('@').unwrap().1)
        .unwrap();
    let mut manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    for layer in manifest["layers"].as_array_mut().unwrap() {
        let text = &mut layer["annotations"]["org.opencontainers.image.enc.pubopts"];
        let json = STANDARD.decode(text.as_str().unwrap()).unwrap();
        let mut options: serde_json::Value = serde_json::from_slice(&json).unwrap();
        change(&mut options);
        *text = STANDARD.encode(options.to_string()).into();
    }
    setup
        .registry
        .reference(setup.registry.add(manifest.to_string()))
}

#[tokio::test]
async fn public_options_with_a_nonce_or_without_an_hmac_are_refused() {
    let setup = Setup::new().await;
    let nonce = with_public_options(&setup, |options| {
        options["cipheroptions"] = json!({"nonce": "AAAAAAAAAAAAAAAAAAAAAA=="});
    });
    assert_eq!(setup.refused(&nonce).await.code().0, "RDT-ENC-004");
    let empty = with_public_options(&setup, |options| options["hmac"] = "".into());
    assert_eq!(setup.refused(&empty).await.code().0, "RDT-ENC-005");
    let wrong = with_public_options(&setup, |options| {
        options["hmac"] = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=".into();
    });
    assert_eq!(setup.refused(&wrong).await.code().0, "RDT-ENC-007");
}

#[tokio::test]
async fn an_unknown_and_a_wrong_key_are_told_apart() {
    let setup = Setup::new().await;
    let reference = setup.registry.serve_layout(&layout("enc-coco-kbs-v1"));
    let options = options(&setup.registry);
    let none = StaticKeys::none();
    let error = setup
        .store
        .pull(&reference, &options, &none, &setup.events)
        .await
        .unwrap_err();
    assert_eq!(error.code().0, "RDT-IMG-025");
    assert!(
        one_line(&error).contains("kbs:///default/key/vector1"),
        "{}",
        one_line(&error)
    );
    let wrong = StaticKeys::none().with("kbs:///default/key/vector1", Zeroizing::new(vec![0; 32]));
    let error = setup
        .store
        .pull(&reference, &options, &wrong, &setup.events)
        .await
        .unwrap_err();
    assert_eq!(error.code().0, "RDT-ENC-014");
    setup.assert_empty();
}

/// The digest of the first layer of an image that the registry serves.
pub(crate) fn first_layer(setup: &Setup, reference: &str) -> String {
    let manifest = setup
        .registry
        .blob(reference.split_once('@').unwrap().1)
        .unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    manifest["layers"][0]["digest"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_changed_manifest_config_or_layer_is_refused() {
    for part in ["manifest", "config", "layer"] {
        let setup = Setup::new().await;
        let reference = setup.registry.serve_layout(&layout("plain"));
        let pinned = reference.split_once('@').unwrap().1.to_owned();
        let manifest: serde_json::Value =
            serde_json::from_slice(&setup.registry.blob(&pinned).unwrap()).unwrap();
        let digest = match part {
            "manifest" => pinned,
            "config" => manifest["config"]["digest"].as_str().unwrap().to_owned(),
            _ => first_layer(&setup, &reference),
        };
        setup.registry.fault(digest, Fault::FlipByte);
        let error = setup.refused(&reference).await;
        assert!(
            matches!(cause(&error), ImageError::DigestMismatch { .. }),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn a_registry_that_lies_about_length_is_refused() {
    for fault in [Fault::Short, Fault::Long, Fault::LongChunked] {
        let setup = Setup::new().await;
        let reference = setup.registry.serve_layout(&layout("plain"));
        setup.registry.fault(first_layer(&setup, &reference), fault);
        let error = setup.refused(&reference).await;
        assert!(
            matches!(cause(&error), ImageError::BlobSize { .. }),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn a_registry_that_stalls_ends_in_an_error_that_says_how_far_it_got() {
    let setup = Setup::new().await;
    let reference = setup.registry.serve_layout(&layout("plain"));
    setup
        .registry
        .fault(first_layer(&setup, &reference), Fault::Stall);
    let error = setup.refused(&reference).await;
    assert!(
        matches!(cause(&error), ImageError::Transfer(_)),
        "{error:?}"
    );
    let line = one_line(&error);
    assert!(line.contains("layer 0 (sha256:ed2d37ac"), "{line}");
    assert!(line.contains("after 220 of 441 bytes"), "{line}");
}

#[tokio::test]
async fn the_deadline_ends_a_pull_in_any_phase() {
    let setup = Setup::new().await;
    let reference = setup.registry.serve_layout(&layout("plain"));
    setup
        .registry
        .fault(first_layer(&setup, &reference), Fault::Stall);
    let mut options = options(&setup.registry);
    options.retry.stall_timeout = Duration::from_secs(60);
    options.retry.deadline = Duration::from_millis(300);
    let started = std::time::Instant::now();
    let error = setup.refused_with(&reference, &options).await;
    assert!(started.elapsed() < Duration::from_secs(5));
    assert!(
        matches!(cause(&error), ImageError::Deadline { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn lasting_refusals_end_after_bounded_attempts() {
    let setup = Setup::new().await;
    let reference = setup.registry.serve_layout(&layout("plain"));
    let layer = first_layer(&setup, &reference);
    setup.registry.fault(&layer, Fault::Status(503, 100, None));
    let error = setup.refused(&reference).await;
    assert!(
        matches!(
            cause(&error),
            ImageError::RegistryStatus { status: 503, .. }
        ),
        "{error:?}"
    );
    let attempts = setup
        .registry
        .seen()
        .iter()
        .filter(|seen| seen.path.ends_with(&layer))
        .count();
    assert_eq!(attempts, 4);
}

#[tokio::test]
async fn a_missing_blob_is_not_asked_for_twice() {
    let setup = Setup::new().await;
    let reference = setup.registry.reference(Digest::of(b"nothing"));
    let error = setup.refused(&reference).await;
    assert!(
        matches!(error, ImageError::RegistryStatus { status: 404, .. }),
        "{error:?}"
    );
    assert_eq!(setup.registry.seen().len(), 1);
}

#[tokio::test]
async fn a_redirect_to_plain_http_is_refused_and_one_to_a_configured_host_followed() {
    let setup = Setup::new().await;
    let other = TestRegistry::start().await;
    let reference = setup.registry.serve_layout(&layout("plain"));
    other.serve_layout(&layout("plain"));
    let layer = first_layer(&setup, &reference);
    let to = format!("http://{}/storage/{layer}", other.host());
    setup.registry.fault(&layer, Fault::Redirect(to));
    let error = setup.refused(&reference).await;
    assert!(
        matches!(cause(&error), ImageError::RegistryRedirect { .. }),
        "{error:?}"
    );
    assert!(other.seen().is_empty());

    let mut options = options(&setup.registry);
    options.registries.insecure.push(other.host());
    setup.pull_with(&reference, &options).await.unwrap();
    assert_eq!(other.seen().len(), 1);
}

#[tokio::test]
async fn a_redirect_loop_ends() {
    let setup = Setup::new().await;
    let reference = setup.registry.serve_layout(&layout("plain"));
    let layer = first_layer(&setup, &reference);
    let to = format!(
        "http://{}/v2/test/image/blobs/{layer}",
        setup.registry.host()
    );
    setup.registry.fault(&layer, Fault::Redirect(to));
    let error = setup.refused(&reference).await;
    assert!(
        matches!(cause(&error), ImageError::RegistryRedirect { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn plain_http_is_not_spoken_unless_configured() {
    let setup = Setup::new().await;
    let reference = setup.registry.serve_layout(&layout("plain"));
    let mut options = options(&setup.registry);
    options.registries.insecure.clear();
    let error = setup.refused_with(&reference, &options).await;
    assert!(
        matches!(error, ImageError::RegistryUnreachable { .. }),
        "{error:?}"
    );
    assert!(setup.registry.seen().is_empty());
}

#[tokio::test]
async fn indexes_inside_indexes_end() {
    let setup = Setup::new().await;
    let mut digest = Digest::of(b"the end is never reached");
    for _ in 0..8 {
        let index = json!({"schemaVersion": 2, "manifests": [
            {"mediaType": "application/vnd.oci.image.index.v1+json",
             "digest": digest.to_string(), "size": 1}]});
        digest = setup.registry.add(index.to_string());
    }
    let error = setup.refused(&setup.registry.reference(digest)).await;
    assert!(matches!(error, ImageError::IndexLoop { .. }), "{error:?}");
    assert!(setup.registry.seen().len() <= 5);
}

#[tokio::test]
async fn oversized_and_malformed_manifests_are_refused() {
    let setup = Setup::new().await;
    let large = setup.registry.add(vec![b' '; (4 << 20) + 1]);
    let error = setup.refused(&setup.registry.reference(large)).await;
    assert!(
        matches!(error, ImageError::DocumentTooLarge { .. }),
        "{error:?}"
    );
    let layer = json!({"mediaType": "application/vnd.oci.image.layer.v1.tar",
        "digest": Digest::of(b"").to_string(), "size": 0});
    let config = "{}";
    let digest = Digest::of(config.as_bytes());
    let good = manifest(config, digest, std::slice::from_ref(&layer));
    let mut both = good.clone();
    both["manifests"] = json!([]);
    let mut other_type = good.clone();
    other_type["mediaType"] = "application/vnd.oci.image.index.v1+json".into();
    let mut version = good.clone();
    version["schemaVersion"] = 1.into();
    let mut path = good.clone();
    path["layers"][0]["digest"] = "sha256:../../etc/passwd".into();
    for (manifest, code) in [
        (manifest(config, digest, &vec![layer; 501]), "RDT-IMG-017"),
        (manifest(config, digest, &[]), "RDT-IMG-018"),
        (both, "RDT-IMG-013"),
        (other_type, "RDT-IMG-013"),
        (version, "RDT-IMG-013"),
        (path, "RDT-IMG-003"),
        (json!([]), "RDT-IMG-013"),
    ] {
        let pinned = setup.registry.add(manifest.to_string());
        let error = setup.refused(&setup.registry.reference(pinned)).await;
        assert_eq!(error.code().0, code, "{}", one_line(&error));
    }
}

#[tokio::test]
async fn a_wrong_diff_id_and_a_wrong_count_are_refused() {
    let setup = Setup::new().await;
    let (one, two) = (archive(&[("a", b"1")]), archive(&[("b", b"2")]));
    let gzip_type = "application/vnd.oci.image.layer.v1.tar+gzip";
    let reference = setup
        .registry
        .serve_image(&[(gzip(&one), gzip_type)], std::slice::from_ref(&two));
    let error = setup.refused(&reference).await;
    assert!(
        matches!(cause(&error), ImageError::DiffId { .. }),
        "{error:?}"
    );
    let reference = setup
        .registry
        .serve_image(&[(gzip(&one), gzip_type)], &[one, two]);
    let error = setup.refused(&reference).await;
    assert!(
        matches!(
            error,
            ImageError::LayerCount {
                diff_ids: 2,
                layers: 1
            }
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn one_bad_layer_takes_the_good_ones_with_it() {
    let setup = Setup::new().await;
    let archives: Vec<_> = (0..8_u8)
        .map(|n| archive(&[(&format!("file-{n}"), &[n; 1000])]))
        .collect();
    let reference = setup.registry.serve_archives(&archives);
    let last = Digest::of(&gzip(&archives[7]));
    setup.registry.fault(last.to_string(), Fault::FlipByte);
    let error = setup.refused(&reference).await;
    assert!(
        matches!(error, ImageError::Layer { index: 7, .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn truncated_and_foreign_compression_is_refused() {
    let content = archive(&[("file", &vec![7; 100_000])]);
    let mut cut_gzip = gzip(&content);
    cut_gzip.truncate(cut_gzip.len() - 9);
    let mut cut_zstd = zstd::encode_all(content.as_slice(), 1).unwrap();
    cut_zstd.truncate(cut_zstd.len() - 9);
    let base = "application/vnd.oci.image.layer.v1.tar";
    for (blob, suffix, code) in [
        (cut_gzip, "+gzip", "RDT-IMG-027"),
        (cut_zstd, "+zstd", "RDT-IMG-027"),
        (content.clone(), "+gzip", "RDT-IMG-027"),
        (gzip(&content), "+zstd", "RDT-IMG-027"),
        (gzip(&content), "", "RDT-IMG-028"),
        (content[..50_000].to_vec(), "", "RDT-IMG-028"),
        (gzip(&content), "+bzip2", "RDT-IMG-021"),
    ] {
        let setup = Setup::new().await;
        let media_type = format!("{base}{suffix}");
        let reference = setup
            .registry
            .serve_image(&[(blob, &media_type)], std::slice::from_ref(&content));
        let error = setup.refused(&reference).await;
        assert_eq!(error.code().0, code, "{suffix}: {}", one_line(&error));
    }
}

#[tokio::test]
async fn bombs_are_refused_by_ratio_size_and_count() {
    let zeros = archive(&[("zeros", &vec![0; 4 << 20])]);
    let many: Vec<_> = (0..200).map(|n| (n.to_string(), Vec::new())).collect();
    let many: Vec<_> = many
        .iter()
        .map(|(name, data)| (name.as_str(), data.as_slice()))
        .collect();
    let many = archive(&many);
    let unpack = UnpackOptions {
        ratio_free_bytes: 1 << 20,
        max_ratio: 100,
        ..UnpackOptions::default()
    };
    for (content, unpack, code) in [
        (&zeros, unpack, "RDT-IMG-032"),
        (
            &zeros,
            UnpackOptions {
                max_layer_bytes: 1 << 20,
                ..unpack
            },
            "RDT-IMG-031",
        ),
        (
            &many,
            UnpackOptions {
                max_entries: 100,
                ..unpack
            },
            "RDT-IMG-030",
        ),
    ] {
        let setup = Setup::new().await;
        let reference = setup.registry.serve_archives(std::slice::from_ref(content));
        let mut options = options(&setup.registry);
        options.unpack = unpack;
        let error = setup.refused_with(&reference, &options).await;
        assert_eq!(error.code().0, code, "{}", one_line(&error));
    }
}

#[tokio::test]
async fn a_dropped_pull_leaves_nothing() {
    let setup = Setup::new().await;
    let reference = setup.registry.serve_layout(&layout("plain"));
    setup
        .registry
        .fault(first_layer(&setup, &reference), Fault::Stall);
    let mut options = options(&setup.registry);
    options.retry.stall_timeout = Duration::from_secs(60);
    let pull = setup.pull_with(&reference, &options);
    assert!(
        tokio::time::timeout(Duration::from_millis(200), pull)
            .await
            .is_err()
    );
    // The last thread that works on it removes the directory.
    for _ in 0..100 {
        if std::fs::read_dir(setup.directory.path().join("store/staging"))
            .unwrap()
            .count()
            == 0
        {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    setup.assert_empty();
}

#[tokio::test]
async fn secrets_are_in_no_error() {
    let setup = Setup::new().await;
    let reference = setup.registry.serve_layout(&layout("enc-coco-kbs-v1"));
    let secret = vec![b'S'; 31];
    let keys = StaticKeys::none().with("kbs:///default/key/vector1", Zeroizing::new(secret));
    let options = options(&setup.registry);
    let error = setup
        .store
        .pull(&reference, &options, &keys, &Events::default())
        .await
        .unwrap_err();
    assert!(matches!(
        cause(&error),
        ImageError::Decrypt(OcicryptError::KeyLength { length: 31, .. })
    ));
    assert!(!format!("{error:?} {} {keys:?}", one_line(&error)).contains("SSS"));
}
