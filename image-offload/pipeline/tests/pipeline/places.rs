//! Mirrors, blocked registries, credentials, space.

use redoubt_errors::UserError;
use redoubt_image_offload::{ImageError, PullOptions, RegistryCredential, RegistryMirror};

use crate::common::{Fault, Setup, TestRegistry, layout, one_line, options};

fn mirrored(setup: &Setup, mirror: &TestRegistry) -> PullOptions {
    let mut options = options(&setup.registry);
    options.registries.insecure.push(mirror.host());
    options.registries.mirrors.push(RegistryMirror {
        prefix: setup.registry.host(),
        location: format!("{}/copies", mirror.host()),
    });
    options
}

#[tokio::test]
async fn a_mirror_is_asked_first_and_the_registry_where_it_fails() {
    let mirror = TestRegistry::start().await;
    let setup = Setup::new().await;
    let reference = setup.registry.serve_layout(&layout("plain"));
    mirror.serve_layout(&layout("plain"));
    let options = mirrored(&setup, &mirror);
    setup.pull_with(&reference, &options).await.unwrap();
    assert!(setup.registry.seen().is_empty());
    assert!(
        mirror
            .seen()
            .iter()
            .all(|seen| seen.path.starts_with("/v2/copies/test/image/"))
    );

    let empty = TestRegistry::start().await;
    let other = Setup::new().await;
    let reference = other.registry.serve_layout(&layout("plain"));
    let options = mirrored(&other, &empty);
    other.pull_with(&reference, &options).await.unwrap();
    assert_eq!(empty.seen().len(), 1);
}

#[tokio::test]
async fn a_mirror_that_lies_is_passed_over() {
    let mirror = TestRegistry::start().await;
    let setup = Setup::new().await;
    let reference = setup.registry.serve_layout(&layout("plain"));
    mirror.serve_layout(&layout("plain"));
    let digest = reference.split_once('@').unwrap().1;
    mirror.fault(digest, Fault::FlipByte);
    let options = mirrored(&setup, &mirror);
    setup.pull_with(&reference, &options).await.unwrap();
}

#[tokio::test]
async fn a_blocked_registry_is_not_spoken_to() {
    let setup = Setup::new().await;
    let reference = setup.registry.serve_layout(&layout("plain"));
    let mut options = options(&setup.registry);
    options.registries.blocked.push(setup.registry.host());
    let error = setup.refused_with(&reference, &options).await;
    assert!(
        matches!(error, ImageError::RegistryBlocked { .. }),
        "{error}"
    );
    assert!(setup.registry.seen().is_empty());
}

#[tokio::test]
async fn credentials_of_the_repository_are_sent_and_no_others() {
    let setup = Setup::new().await;
    setup.registry.require_basic("user", "pass");
    let reference = setup.registry.serve_layout(&layout("plain"));
    let host = setup.registry.host();
    let auth = |name: &str| {
        let json = format!(r#"{{"auths":{{"{name}":{{"auth":"dXNlcjpwYXNz"}}}}}}"#);
        RegistryCredential::from_auth_json(json.as_bytes()).unwrap()
    };
    let mut options = options(&setup.registry);
    for name in ["other.example", &format!("{host}/other")] {
        options.registries.credentials = auth(name);
        let error = setup.refused_with(&reference, &options).await;
        assert_eq!(error.code().0, "RDT-IMG-006", "{}", one_line(&error));
    }
    assert!(
        setup
            .registry
            .seen()
            .iter()
            .all(|seen| seen.authorization.is_none())
    );
    options.registries.credentials = auth(&format!("{host}/test"));
    setup.pull_with(&reference, &options).await.unwrap();
}

#[tokio::test]
async fn an_image_that_cannot_fit_is_refused_before_a_layer_is_fetched() {
    let setup = Setup::new().await;
    let reference = setup.registry.serve_layout(&layout("plain"));
    let digest = reference.split_once('@').unwrap().1.to_owned();
    let manifest = setup.registry.blob(&digest).unwrap();
    let mut manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    manifest["layers"][0]["size"] = (1_u64 << 60).into();
    let changed = setup.registry.add(manifest.to_string());
    let reference = setup.registry.reference(changed);
    let error = setup.refused(&reference).await;
    assert_eq!(error.code().0, "RDT-IMG-049", "{}", one_line(&error));
    assert!(one_line(&error).contains("MiB more memory"));
}
