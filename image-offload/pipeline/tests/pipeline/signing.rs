//! Signature policies against images signed with cosign's keys.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{DerSignature, SigningKey};
use p256::pkcs8::EncodePublicKey as _;
use redoubt_errors::UserError;
use redoubt_image_offload::{
    Digest, ImageError, PullEvent, PullOptions, SignaturePayload, SignaturePolicy, Tags,
};
use serde_json::{Value, json};

use crate::common::{Setup, TestRegistry, layout, manifest, one_line, options};

const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";

fn testdata(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("testdata/image-signatures")
        .join(name)
}

fn policy(requirements: &Value) -> SignaturePolicy {
    let document = json!({"default": [{"type": "reject"}],
        "transports": {"docker": {"": requirements}}});
    SignaturePolicy::parse(document.to_string().as_bytes()).unwrap()
}

fn with_policy(setup: &Setup, requirements: &Value) -> PullOptions {
    PullOptions {
        signature_policy: Some(policy(requirements)),
        ..options(&setup.registry)
    }
}

/// Stores a signature where cosign does.
fn attach(registry: &TestRegistry, image: &str, layers: &[(Vec<u8>, String)]) {
    let config = "{}";
    let layers: Vec<Value> = layers
        .iter()
        .map(|(payload, signature)| {
            let digest = registry.add(payload.clone()).to_string();
            json!({"mediaType": SIMPLE_SIGNING, "digest": digest, "size": payload.len(),
                "annotations": {"dev.cosignproject.cosign/signature": signature}})
        })
        .collect();
    let manifest = manifest(config, registry.add(config), &layers).to_string();
    let digest = registry.add(manifest).to_string();
    registry.set_tag(&format!("{}.sig", image.replace(':', "-")), &digest);
}

fn signer(seed: u8) -> SigningKey {
    SigningKey::from_slice(&[seed; 32]).unwrap()
}

fn key_data(key: &SigningKey) -> String {
    let pem = key
        .verifying_key()
        .to_public_key_pem(p256::pkcs8::LineEnding::LF)
        .unwrap();
    STANDARD.encode(pem)
}

fn payload(digest: &str, reference: &str) -> Vec<u8> {
    json!({"critical": {"type": "cosign container image signature",
        "image": {"docker-manifest-digest": digest},
        "identity": {"docker-reference": reference}}, "optional": null})
    .to_string()
    .into_bytes()
}

fn signed(key: &SigningKey, payload: Vec<u8>) -> (Vec<u8>, String) {
    let signature: DerSignature = key.sign(&payload);
    (payload, STANDARD.encode(signature.as_bytes()))
}

fn digest_of(reference: &str) -> &str {
    reference.split_once('@').unwrap().1
}

#[tokio::test]
async fn a_signature_by_a_key_of_the_policy_lets_an_image_in_by_digest_and_by_tag() {
    let setup = Setup::new().await;
    let reference = setup.registry.serve_layout(&layout("plain"));
    let digest = digest_of(&reference).to_owned();
    let name = format!("{}/test/image", setup.registry.host());
    let key = signer(7);
    let good = signed(&key, payload(&digest, &format!("{name}:v1")));
    attach(&setup.registry, &digest, &[good]);
    setup.registry.set_tag("v1", &digest);
    let options = with_policy(
        &setup,
        &json!([{"type": "sigstoreSigned", "keyData": key_data(&key)}]),
    );
    for reference in [reference, format!("{name}:v1")] {
        let image = setup.pull_with(&reference, &options).await.unwrap();
        assert_eq!(image.manifest_digest.to_string(), digest);
    }
    let checked = |event: &PullEvent| matches!(event, PullEvent::PolicyChecked { signed: 1 });
    assert_eq!(setup.events.all().iter().filter(|e| checked(e)).count(), 2);
}

#[tokio::test]
async fn signatures_for_other_keys_images_and_names_do_not_count() {
    let (key, other) = (signer(7), signer(8));
    let name = "r.example/app";
    let zeros = format!("sha256:{}", "0".repeat(64));
    for (what, reason) in [
        ("nothing", "there is none"),
        ("key", "none is made by a key of the policy"),
        ("image", "for another image"),
        ("name", "for another name"),
        ("type", "not one of cosign"),
        ("changed", "none is made by a key of the policy"),
    ] {
        let setup = Setup::new().await;
        let reference = setup.registry.serve_layout(&layout("plain"));
        let digest = digest_of(&reference).to_owned();
        let own = format!("{}/test/image", setup.registry.host());
        let good = payload(&digest, &own);
        let signature = match what {
            "nothing" => None,
            "key" => Some(signed(&other, good)),
            "image" => Some(signed(&key, payload(&zeros, &own))),
            "name" => Some(signed(&key, payload(&digest, name))),
            "type" => {
                let atomic = String::from_utf8(good).unwrap();
                let atomic = atomic.replace("cosign container image", "atomic container");
                Some(signed(&key, atomic.into_bytes()))
            }
            _ => {
                let (mut payload, signature) = signed(&key, good);
                payload.push(b' ');
                Some((payload, signature))
            }
        };
        if let Some(signature) = signature {
            attach(&setup.registry, &digest, &[signature]);
        }
        let options = with_policy(
            &setup,
            &json!([{"type": "sigstoreSigned", "keyData": key_data(&key)}]),
        );
        let error = setup.refused_with(&reference, &options).await;
        let line = one_line(&error);
        assert_eq!(error.code().0, "RDT-IMG-044", "{what}: {line}");
        assert!(line.contains(reason), "{what}: {line}");
        let fetched_a_layer = setup
            .registry
            .seen()
            .iter()
            .any(|seen| seen.range.is_some());
        assert!(!fetched_a_layer);
    }
}

#[tokio::test]
async fn a_policy_counts_for_images_that_are_at_hand() {
    let setup = Setup::new().await;
    let reference = setup.registry.serve_layout(&layout("plain"));
    setup.pull(&reference).await.unwrap();
    let options = with_policy(&setup, &json!([{"type": "reject"}]));
    let error = setup.pull_with(&reference, &options).await.unwrap_err();
    assert_eq!(error.code().0, "RDT-IMG-043");
}

#[tokio::test]
async fn every_requirement_of_a_list_must_hold() {
    let setup = Setup::new().await;
    let reference = setup.registry.serve_layout(&layout("plain"));
    let digest = digest_of(&reference).to_owned();
    let own = format!("{}/test/image", setup.registry.host());
    let (one, two) = (signer(7), signer(8));
    let both = json!([
        {"type": "sigstoreSigned", "keyData": key_data(&one)},
        {"type": "sigstoreSigned", "keyData": key_data(&two)},
    ]);
    let options = with_policy(&setup, &both);
    let first = signed(&one, payload(&digest, &own));
    attach(&setup.registry, &digest, std::slice::from_ref(&first));
    let error = setup.refused_with(&reference, &options).await;
    assert_eq!(error.code().0, "RDT-IMG-044");
    let second = signed(&two, payload(&digest, &own));
    attach(&setup.registry, &digest, &[first, second]);
    setup.pull_with(&reference, &options).await.unwrap();
}

#[tokio::test]
async fn a_demand_that_is_not_supported_refuses_every_image() {
    let setup = Setup::new().await;
    let reference = setup.registry.serve_layout(&layout("plain"));
    for requirement in [
        json!({"type": "signedBy", "keyType": "GPGKeys", "keyPath": "k"}),
        json!({"type": "sigstoreSigned", "fulcio": {"oidcIssuer": "x"}}),
    ] {
        let options = with_policy(&setup, &json!([requirement]));
        let error = setup.refused_with(&reference, &options).await;
        assert_eq!(error.code().0, "RDT-IMG-045", "{}", one_line(&error));
    }
}

#[tokio::test]
async fn a_tag_is_refused_unless_a_signature_or_the_caller_vouches_for_it() {
    let setup = Setup::new().await;
    let reference = setup.registry.serve_layout(&layout("plain"));
    setup.registry.set_tag("v1", digest_of(&reference));
    let tagged = format!("{}/test/image:v1", setup.registry.host());
    let error = setup.refused(&tagged).await;
    assert!(matches!(error, ImageError::ReferenceNotPinned { .. }));
    let anything = with_policy(&setup, &json!([{"type": "insecureAcceptAnything"}]));
    let error = setup.refused_with(&tagged, &anything).await;
    assert!(matches!(error, ImageError::ReferenceNotPinned { .. }));
    let resolving = PullOptions {
        tags: Tags::Resolve,
        ..options(&setup.registry)
    };
    let image = setup.pull_with(&tagged, &resolving).await.unwrap();
    assert_eq!(image.pinned_digest.to_string(), digest_of(&reference));
    let missing = format!("{}/test/image:v2", setup.registry.host());
    let error = setup.pull_with(&missing, &resolving).await.unwrap_err();
    assert_eq!(error.code().0, "RDT-IMG-005", "{}", one_line(&error));
}

/// Serves the manifest of a vector with its signatures; the layers are not
/// part of the vectors, so that a pull ends after the policy.
fn serve_vector(setup: &Setup, name: &str) -> String {
    let folder = testdata(name);
    let manifest = std::fs::read(folder.join("manifest.json")).unwrap();
    let digest = setup.registry.add(manifest).to_string();
    let mut layers = Vec::new();
    for number in 1.. {
        let Ok(bytes) = std::fs::read(folder.join(format!("signature-{number}"))) else {
            break;
        };
        let json = bytes.splitn(2, |&byte| byte == b'\n').nth(1).unwrap();
        let document: Value = serde_json::from_slice(json).unwrap();
        let signature = &document["annotations"]["dev.cosignproject.cosign/signature"];
        layers.push((
            STANDARD
                .decode(document["payload"].as_str().unwrap())
                .unwrap(),
            signature.as_str().unwrap().to_owned(),
        ));
    }
    attach(&setup.registry, &digest, &layers);
    setup.registry.reference(digest)
}

#[tokio::test]
async fn the_vectors_of_other_implementations_verify() {
    let sample = "192.168.64.2:5000/cosign-signed-single-sample";
    for (name, key, repository, accepted) in [
        ("valid", "cosign.pub", sample, true),
        ("valid", "cosign2.pub", sample, false),
        ("valid", "cosign.pub", "192.168.64.2:5000/other", false),
        ("valid-2", "cosign.pub", sample, true),
        (
            "valid-with-tag",
            "cosign.pub",
            "192.168.64.2:5000/skopeo-signed",
            true,
        ),
        (
            "key-rekor-valid",
            "cosign2.pub",
            "192.168.64.2:5000/cosign-signed/key-1",
            true,
        ),
        (
            "fulcio-rekor-valid",
            "cosign.pub",
            "192.168.64.2:5000/cosign-signed/fulcio-rekor-1",
            false,
        ),
        ("other-attachment", "cosign.pub", sample, false),
    ] {
        let setup = Setup::new().await;
        let reference = serve_vector(&setup, &format!("dir-img-cosign-{name}"));
        let options = with_policy(
            &setup,
            &json!([{"type": "sigstoreSigned", "keyPath": testdata(key),
                "signedIdentity": {"type": "exactRepository", "dockerRepository": repository}}]),
        );
        let error = setup.refused_with(&reference, &options).await;
        let passed = setup
            .events
            .all()
            .contains(&PullEvent::PolicyChecked { signed: 1 });
        assert_eq!(passed, accepted, "{name}: {}", one_line(&error));
        let code = if accepted {
            "RDT-IMG-005"
        } else {
            "RDT-IMG-044"
        };
        assert_eq!(error.code().0, code, "{name}: {}", one_line(&error));
    }
}

#[tokio::test]
async fn a_signature_of_another_manifest_is_refused() {
    let setup = Setup::new().await;
    let folder = "dir-img-cosign-manifest-digest-error";
    let bytes = std::fs::read(testdata(folder).join("signature-1")).unwrap();
    let json = bytes.splitn(2, |&byte| byte == b'\n').nth(1).unwrap();
    let document: Value = serde_json::from_slice(json).unwrap();
    let payload = STANDARD
        .decode(document["payload"].as_str().unwrap())
        .unwrap();
    let signed = SignaturePayload::parse(&payload).unwrap();
    let manifest = std::fs::read(testdata(folder).join("manifest.json")).unwrap();
    assert_ne!(signed.digest(), Digest::of(&manifest));
    let signature = document["annotations"]["dev.cosignproject.cosign/signature"]
        .as_str()
        .unwrap();
    let reference = setup.registry.serve_layout(&layout("plain"));
    attach(
        &setup.registry,
        digest_of(&reference),
        &[(payload, signature.to_owned())],
    );
    let options = with_policy(
        &setup,
        &json!([{"type": "sigstoreSigned", "keyPath": testdata("cosign.pub"),
            "signedIdentity": {"type": "exactRepository",
                "dockerRepository": "192.168.64.2:5000/cosign-signed-single-sample"}}]),
    );
    let error = setup.refused_with(&reference, &options).await;
    assert!(one_line(&error).contains("for another image"), "{error}");
}

#[test]
fn the_policies_of_other_implementations_are_read() {
    for name in [
        "containers-image-policy.json",
        "guest-components-policy.json",
    ] {
        let json = std::fs::read(testdata(name)).unwrap();
        let parsed = SignaturePolicy::parse(&json);
        assert!(parsed.is_ok(), "{name}: {:?}", parsed.err());
    }
}
