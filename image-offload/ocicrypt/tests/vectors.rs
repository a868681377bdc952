//! Layers that other implementations encrypted, opened here, and the other
//! way round through the formats' own documents.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use redoubt_ocicrypt::{
    LayerDecryptor, LayerEncryption, LayerMediaType, LayerVerifier, OcicryptError, PrivateKey,
    PrivateOptions, PublicKey, Recipient,
};
use serde_json::Value;
use sha2::{Digest, Sha256};

fn testdata(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("testdata")
        .join(path)
}

fn blob(layout: &str, digest: &str) -> Vec<u8> {
    let path = testdata("layouts")
        .join(layout)
        .join("blobs")
        .join(digest.replace(':', "/"));
    std::fs::read(path).unwrap()
}

fn layers(layout: &str) -> Vec<Value> {
    let index = std::fs::read(testdata("layouts").join(layout).join("index.json")).unwrap();
    let index: Value = serde_json::from_slice(&index).unwrap();
    let manifest = blob(layout, index["manifests"][0]["digest"].as_str().unwrap());
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    manifest["layers"].as_array().unwrap().clone()
}

fn encryption(layer: &Value) -> Result<LayerEncryption, OcicryptError> {
    let annotations: BTreeMap<String, String> =
        serde_json::from_value(layer["annotations"].clone()).unwrap();
    LayerEncryption::from_annotations(&annotations)
}

fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// Opens a layer as the pipeline does: verify everything, then decrypt.
fn open(layout: &str, layer: &Value, private: &PrivateOptions) -> Result<Vec<u8>, OcicryptError> {
    let ciphertext = blob(layout, layer["digest"].as_str().unwrap());
    let mut verifier = LayerVerifier::new(&encryption(layer)?.public, private);
    ciphertext
        .chunks(100)
        .for_each(|chunk| verifier.update(chunk));
    verifier.finish()?;
    let mut plaintext = Vec::new();
    LayerDecryptor::new(private)
        .reader(ciphertext.as_slice())
        .read_to_end(&mut plaintext)
        .unwrap();
    Ok(plaintext)
}

fn broker_key() -> Vec<u8> {
    std::fs::read(testdata("keys/kek1.bin")).unwrap()
}

fn private_key(name: &str) -> Result<PrivateKey, OcicryptError> {
    PrivateKey::parse(&std::fs::read(testdata("keys").join(name)).unwrap())
}

fn unwrap_with_broker_key(encryption: &LayerEncryption) -> PrivateOptions {
    let packet = encryption
        .recipients
        .iter()
        .find_map(|recipient| match recipient {
            Recipient::Provider(packet) => Some(packet),
            _ => None,
        });
    let packet = packet.unwrap();
    assert_eq!(packet.kid(), "kbs:///default/key/vector1");
    packet.unwrap(&broker_key()).unwrap()
}

/// Checks that all layers of a layout open to the layers of `plain`.
fn opens_to_plain(layout: &str, unwrap: impl Fn(&LayerEncryption) -> PrivateOptions) {
    let plain = layers("plain");
    let encrypted = layers(layout);
    assert_eq!(encrypted.len(), plain.len());
    let mut opened = 0;
    for (layer, plain) in encrypted.iter().zip(&plain) {
        let media_type = LayerMediaType::parse(layer["mediaType"].as_str().unwrap()).unwrap();
        if !media_type.encrypted {
            assert_eq!(layer["digest"], plain["digest"]);
            continue;
        }
        let private = unwrap(&encryption(layer).unwrap());
        let plaintext = open(layout, layer, &private).unwrap();
        assert_eq!(sha256(&plaintext), plain["digest"].as_str().unwrap());
        opened += 1;
    }
    assert!(opened > 0);
}

#[test]
fn provider_packets_of_both_versions_open() {
    opens_to_plain("enc-coco-kbs-v1", unwrap_with_broker_key);
    opens_to_plain("enc-coco-kbs-v2", unwrap_with_broker_key);
}

#[test]
fn a_packet_beside_a_jwe_opens() {
    opens_to_plain("enc-jwe-and-coco", unwrap_with_broker_key);
}

#[test]
fn skopeos_jwe_for_an_elliptic_curve_opens() {
    let key = private_key("ec256_priv.pem").unwrap();
    opens_to_plain("enc-jwe-ec256", |encryption| {
        match &encryption.recipients[..] {
            [Recipient::Jwe(message)] => message.open(&key).unwrap(),
            other => panic!("{other:?}"),
        }
    });
}

fn opens_with(layout: &str, key: &str) {
    let key = private_key(key).unwrap();
    opens_to_plain(layout, |encryption| match &encryption.recipients[..] {
        [Recipient::Jwe(message)] => message.open(&key).unwrap(),
        [Recipient::Pkcs7(message)] => key.open_pkcs7(message).unwrap(),
        other => panic!("{other:?}"),
    });
}

#[test]
fn skopeos_jwe_for_rsa_opens() {
    opens_with("enc-jwe-rsa", "rsa_priv.pem");
}

#[test]
fn skopeos_pkcs7_opens() {
    opens_with("enc-pkcs7", "pkcs7_key.pem");
}

#[test]
fn another_key_does_not_open_a_jwe() {
    for (layout, key) in [
        ("enc-jwe-rsa", "ec256_priv.pem"),
        ("enc-jwe-rsa", "pkcs7_key.pem"),
        ("enc-jwe-ec256", "rsa_priv.pem"),
    ] {
        let encryption = encryption(&layers(layout)[0]).unwrap();
        let [Recipient::Jwe(message)] = &encryption.recipients[..] else {
            panic!()
        };
        let refused = message.open(&private_key(key).unwrap()).unwrap_err();
        assert_eq!(refused, OcicryptError::JweWrongKey, "{layout} {key}");
    }
}

#[test]
fn rsa_keys_are_read_in_every_form() {
    let jwk = std::fs::read(testdata("keys/rsa_private.jwk")).unwrap();
    let public = std::fs::read(testdata("keys/rsa_public.jwk")).unwrap();
    let key = PrivateKey::parse(&jwk).unwrap();
    assert_eq!(key.public_key(), PublicKey::parse(&public).unwrap());
    let pem = std::fs::read(testdata("keys/rsa_pub.pem")).unwrap();
    let private = private_key("rsa_priv.pem").unwrap();
    assert_eq!(private.public_key(), PublicKey::parse(&pem).unwrap());
    assert_eq!(format!("{private:?}"), "PrivateKey { .. }");
}

#[test]
fn a_flipped_ciphertext_bit_fails_the_hmac() {
    let layer = &layers("neg-flipped-byte")[0];
    let private = unwrap_with_broker_key(&encryption(layer).unwrap());
    let refused = open("neg-flipped-byte", layer, &private).unwrap_err();
    assert_eq!(refused, OcicryptError::HmacMismatch);
}

#[test]
fn an_unknown_cipher_is_refused() {
    let refused = encryption(&layers("neg-unknown-cipher")[0]).unwrap_err();
    assert_eq!(
        refused,
        OcicryptError::UnknownCipher {
            cipher: "AES_128_XXX".to_owned()
        }
    );
}

#[test]
fn the_wrong_broker_key_is_told_by_the_packet() {
    let encryption = encryption(&layers("enc-coco-kbs-v1")[0]).unwrap();
    let [Recipient::Provider(packet)] = &encryption.recipients[..] else {
        panic!()
    };
    assert!(matches!(
        packet.unwrap(&[0; 32]),
        Err(OcicryptError::WrongKey { .. })
    ));
}

#[test]
fn private_keys_never_show_themselves() {
    let key = private_key("ec256_priv.pem").unwrap();
    assert_eq!(format!("{key:?}"), "PrivateKey { .. }");
}
