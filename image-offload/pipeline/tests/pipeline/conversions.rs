//! Encrypting and decrypting between the places that the command line names,
//! alone and with skopeo on the other side.

use std::path::{Path, PathBuf};
use std::process::Command;

use redoubt_errors::UserError;
use redoubt_image_offload::host::{
    BrokerKey, DecryptRequest, EncryptRequest, ImageLocation, OciLayout, RegistryAccess,
    decrypt_image, encrypt_image, inspect_image,
};
use redoubt_image_offload::{Digest, Platform, StaticKeys};
use redoubt_ocicrypt::{PacketVersion, PrivateKey, PublicKey, RecipientCertificate};
use zeroize::Zeroizing;

use crate::common::{Setup, layout, ocicrypt_testdata, one_line, options};

const KID: &str = "kbs:///default/image-key/1";
const KEY: [u8; 32] = [0x42; 32];

fn key_file(name: &str) -> PathBuf {
    ocicrypt_testdata("keys").join(name)
}

fn private_key(name: &str) -> PrivateKey {
    PrivateKey::parse(&std::fs::read(key_file(name)).unwrap()).unwrap()
}

fn access(setup: &Setup) -> RegistryAccess {
    let options = options(&setup.registry);
    RegistryAccess {
        registries: options.registries,
        retry: options.retry,
    }
}

/// For all kinds of recipient at once.
fn encrypt(setup: &Setup, source: &str, destination: &str) -> EncryptRequest {
    let read = |name: &str| std::fs::read(key_file(name)).unwrap();
    EncryptRequest {
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
        broker_keys: vec![BrokerKey {
            kid: KID.to_owned(),
            key: Zeroizing::new(KEY.to_vec()),
        }],
        packet_version: PacketVersion::V2,
        public_keys: vec![
            PublicKey::parse(&read("ec256_pub.pem")).unwrap(),
            PublicKey::parse(&read("rsa_pub.pem")).unwrap(),
        ],
        certificates: vec![RecipientCertificate::parse(&read("pkcs7_cert.pem")).unwrap()],
        platform: Platform::default(),
        access: access(setup),
    }
}

fn decrypt(setup: &Setup, source: &str, destination: &str, keys: &[&str]) -> DecryptRequest {
    DecryptRequest {
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
        private_keys: keys.iter().map(|name| private_key(name)).collect(),
        platform: Platform::default(),
        access: access(setup),
    }
}

fn layers(layout: &Path) -> Vec<Digest> {
    let image = OciLayout::open(layout)
        .unwrap()
        .find(Some("v1"), &Platform::default())
        .unwrap();
    image
        .manifest
        .layers
        .iter()
        .map(|layer| layer.digest)
        .collect()
}

fn source(name: &str) -> String {
    format!("oci:{}:v1", layout(name).display())
}

#[tokio::test]
async fn an_image_goes_from_every_place_to_every_place_and_opens_with_every_kind_of_key() {
    let setup = Setup::new().await;
    let folder = setup.directory.path();
    let archive = format!("oci-archive:{}/secret.tar:v1", folder.display());
    let pushed = format!("docker://{}/app:v1", setup.registry.host());
    let directory = format!("oci:{}/secret:v1", folder.display());
    let places = [source("plain"), archive, pushed, directory];
    encrypt_image(&encrypt(&setup, &places[0], &places[1]))
        .await
        .unwrap();
    let plain = format!("oci-archive:{}/plain.tar:v1", folder.display());
    let request = decrypt(&setup, &places[1], &plain, &["pkcs7_key.pem"]);
    let made = decrypt_image(&request, &StaticKeys::none()).await.unwrap();
    assert_eq!(made.layers, 3);
    encrypt_image(&encrypt(&setup, &plain, &places[2]))
        .await
        .unwrap();
    encrypt_image(&encrypt(&setup, &source("plain-zstd"), &places[3]))
        .await
        .unwrap();
    for (place, name) in [(&places[2], "plain"), (&places[3], "plain-zstd")] {
        for key in ["ec256_priv.pem", "rsa_priv.pem", "pkcs7_key.pem", "broker"] {
            let target = folder.join(format!("opened-{name}-{key}"));
            let destination = format!("oci:{}:v1", target.display());
            let files: &[&str] = if key == "broker" { &[] } else { &[key] };
            let keys = match key {
                "broker" => StaticKeys::none().with(KID, Zeroizing::new(KEY.to_vec())),
                _ => StaticKeys::none(),
            };
            let request = decrypt(&setup, place, &destination, files);
            decrypt_image(&request, &keys).await.unwrap();
            assert_eq!(layers(&target), layers(&layout(name)), "{place} {key}");
        }
    }
}

#[tokio::test]
async fn an_image_is_inspected_without_its_layers() {
    let setup = Setup::new().await;
    let pushed = format!("docker://{}/app:v1", setup.registry.host());
    encrypt_image(&encrypt(&setup, &source("plain"), &pushed))
        .await
        .unwrap();
    let before = setup.registry.seen().len();
    let location: ImageLocation = pushed.parse().unwrap();
    let image = inspect_image(&location, &Platform::default(), &access(&setup))
        .await
        .unwrap();
    assert_eq!(image.layers.len(), 3);
    for layer in &image.layers {
        assert!(layer.media_type.ends_with("+encrypted"));
        let expected = ["jwe", "jwe", "pkcs7", &format!("provider {KID}")];
        assert_eq!(layer.recipients, expected);
    }
    let seen = setup.registry.seen();
    assert!(
        seen[before..]
            .iter()
            .all(|seen| !seen.path.contains("/blobs/"))
    );
    let plain: ImageLocation = source("plain").parse().unwrap();
    let image = inspect_image(&plain, &Platform::default(), &access(&setup))
        .await
        .unwrap();
    assert!(image.layers.iter().all(|layer| layer.recipients.is_empty()));
}

#[tokio::test]
async fn a_layer_that_fails_its_hmac_is_not_written() {
    let setup = Setup::new().await;
    let target = setup.directory.path().join("opened");
    let destination = format!("oci:{}:v1", target.display());
    let location = format!("oci:{}", layout("neg-flipped-byte").display());
    let request = decrypt(&setup, &location, &destination, &["rsa_priv.pem"]);
    let keys = crate::common::broker_keys();
    let error = decrypt_image(&request, &keys).await.unwrap_err();
    assert_eq!(error.code().0, "RDT-ENC-007", "{}", one_line(&error));
    let blobs = std::fs::read_dir(target.join("blobs/sha256")).unwrap();
    assert_eq!(blobs.count(), 1, "the configuration alone");
}

#[tokio::test]
async fn places_that_cannot_take_an_image_are_refused_before_any_work() {
    let setup = Setup::new().await;
    let file = setup.directory.path().join("there.tar");
    std::fs::write(&file, "mine").unwrap();
    for destination in [
        format!("oci-archive:{}", file.display()),
        format!(
            "docker://{}/a@sha256:{}",
            setup.registry.host(),
            "0".repeat(64)
        ),
    ] {
        let request = encrypt(&setup, &source("plain"), &destination);
        let error = encrypt_image(&request).await.unwrap_err();
        assert_eq!(error.code().0, "RDT-IMG-039", "{}", one_line(&error));
    }
    assert_eq!(std::fs::read_to_string(file).unwrap(), "mine");
    let not_tar = setup.directory.path().join("not.tar");
    std::fs::write(&not_tar, vec![1; 2000]).unwrap();
    let request = encrypt(
        &setup,
        &format!("oci-archive:{}", not_tar.display()),
        &format!("oci:{}/x", setup.directory.path().display()),
    );
    assert!(encrypt_image(&request).await.is_err());
}

fn skopeo(arguments: &[String]) {
    let output = Command::new("skopeo")
        .args(["copy", "-q"])
        .args(arguments)
        .output()
        .expect("this test needs skopeo: apt-get install skopeo");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {stderr}");
}

/// Another implementation opens what we encrypted for each kind of key, also
/// from our archive.
#[tokio::test]
async fn skopeo_opens_our_images_with_every_kind_of_private_key() {
    let setup = Setup::new().await;
    let folder = setup.directory.path();
    let place = format!("oci-archive:{}/ours.tar:v1", folder.display());
    encrypt_image(&encrypt(&setup, &source("plain"), &place))
        .await
        .unwrap();
    let certificate = key_file("pkcs7_cert.pem");
    for (name, key) in [
        ("ec", key_file("ec256_priv.pem").display().to_string()),
        ("rsa", key_file("rsa_priv.pem").display().to_string()),
        ("pkcs7", format!("{}", key_file("pkcs7_key.pem").display())),
    ] {
        let opened = folder.join(format!("skopeo-{name}"));
        let mut arguments = vec![format!("--decryption-key={key}")];
        if name == "pkcs7" {
            arguments.push(format!("--decryption-key={}", certificate.display()));
        }
        arguments.extend([place.clone(), format!("oci:{}:v1", opened.display())]);
        skopeo(&arguments);
        assert_eq!(layers(&opened), layers(&layout("plain")), "{name}");
    }
}

/// We open what another implementation encrypted, for each kind of key.
#[tokio::test]
async fn skopeos_images_open_with_every_kind_of_private_key() {
    let setup = Setup::new().await;
    for (recipient, key) in [
        (
            format!("jwe:{}", key_file("ec256_pub.pem").display()),
            "ec256_priv.pem",
        ),
        (
            format!("jwe:{}", key_file("rsa_pub.pem").display()),
            "rsa_priv.pem",
        ),
        (
            format!("pkcs7:{}", key_file("pkcs7_cert.pem").display()),
            "pkcs7_key.pem",
        ),
    ] {
        let theirs = setup.directory.path().join(format!("theirs-{key}"));
        skopeo(&[
            format!("--encryption-key={recipient}"),
            source("plain"),
            format!("oci:{}:v1", theirs.display()),
        ]);
        let opened = setup.directory.path().join(format!("opened-{key}"));
        let request = decrypt(
            &setup,
            &format!("oci:{}:v1", theirs.display()),
            &format!("oci:{}:v1", opened.display()),
            &[key],
        );
        decrypt_image(&request, &StaticKeys::none()).await.unwrap();
        assert_eq!(layers(&opened), layers(&layout("plain")), "{key}");
        let reference = setup.registry.serve_layout(&theirs);
        let mut options = options(&setup.registry);
        options.private_keys.push(private_key(key));
        let other = Setup::new().await;
        other
            .store
            .pull(&reference, &options, &StaticKeys::none(), &other.events)
            .await
            .unwrap();
    }
}
