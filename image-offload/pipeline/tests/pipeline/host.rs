//! Encrypting, pushing, and pulling into a plain directory.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use redoubt_errors::UserError;
use redoubt_image_offload::host::{
    BrokerKey, EncryptRequest, EncryptedImage, ImageLocation, OciLayout, RegistryAccess,
    encrypt_image, pull_to_directory,
};
use redoubt_image_offload::{ImageError, NoObserver, Platform, StaticKeys};
use redoubt_ocicrypt::{PacketVersion, PublicKey};
use zeroize::Zeroizing;

use crate::common::{Setup, archive, broker_keys, layout, ocicrypt_testdata, one_line, options};
use crate::hostile::ec_key;

const KID: &str = "kbs:///default/image-key/1";
const KEY: [u8; 32] = [0x42; 32];

fn request(setup: &Setup, source: &Path, destination: &str) -> EncryptRequest {
    let options = options(&setup.registry);
    EncryptRequest {
        source: format!("oci:{}:v1", source.display()).parse().unwrap(),
        destination: destination.parse().unwrap(),
        broker_keys: vec![BrokerKey {
            kid: KID.to_owned(),
            key: Zeroizing::new(KEY.to_vec()),
        }],
        packet_version: PacketVersion::V1,
        public_keys: vec![ec_key().public_key()],
        certificates: Vec::new(),
        platform: Platform::default(),
        access: RegistryAccess {
            registries: options.registries,
            retry: options.retry,
        },
    }
}

fn keys() -> StaticKeys {
    StaticKeys::none().with(KID, Zeroizing::new(KEY.to_vec()))
}

async fn encrypt_and_push(setup: &Setup, source: &Path) -> EncryptedImage {
    let destination = format!("docker://{}/app:secret", setup.registry.host());
    encrypt_image(&request(setup, source, &destination))
        .await
        .unwrap()
}

#[tokio::test]
async fn an_encrypted_and_pushed_image_opens_with_the_broker_key_or_the_private_key() {
    for source in ["plain", "plain-zstd"] {
        let setup = Setup::new().await;
        setup.registry.require_token("sesame");
        let made = encrypt_and_push(&setup, &layout(source)).await;
        assert_eq!(made.layers, 3);
        assert_eq!(
            setup.registry.tag("secret"),
            Some(made.manifest_digest.to_string())
        );
        let reference = format!("{}/app@{}", setup.registry.host(), made.manifest_digest);
        let mut options = options(&setup.registry);
        let by_broker = setup
            .store
            .pull(&reference, &options, &keys(), &NoObserver)
            .await
            .unwrap();
        let other = Setup::new().await;
        options.private_keys.push(ec_key());
        let by_private_key = other
            .store
            .pull(&reference, &options, &StaticKeys::none(), &NoObserver)
            .await
            .unwrap();
        assert_eq!(by_broker.config, by_private_key.config);
        let ciphertext = made.layer_bytes;
        assert!(ciphertext > 0);
        let manifest = setup
            .registry
            .blob(&made.manifest_digest.to_string())
            .unwrap();
        let manifest = String::from_utf8(manifest).unwrap();
        assert!(manifest.contains("+encrypted"), "{manifest}");
    }
}

#[tokio::test]
async fn a_second_push_sends_no_blob_again() {
    let setup = Setup::new().await;
    let target = options(&setup.registry);
    let target = RegistryAccess {
        registries: target.registries,
        retry: target.retry,
    };
    let source = OciLayout::open(&layout("plain")).unwrap();
    let image = source.find(Some("v1"), &Platform::default()).unwrap();
    let uploads = || {
        setup
            .registry
            .seen()
            .iter()
            .filter(|seen| seen.method == axum::http::Method::POST)
            .count()
    };
    for _ in 0..2 {
        redoubt_image_offload::host::push_layout(
            &source,
            image.digest,
            &setup.registry.host(),
            "app",
            Some("v1"),
            &target,
        )
        .await
        .unwrap();
        assert_eq!(uploads(), 4);
    }
    setup
        .pull(&setup.registry.reference(image.digest))
        .await
        .unwrap();
}

#[tokio::test]
async fn keys_of_another_length_and_missing_sources_are_refused() {
    let setup = Setup::new().await;
    let destination = setup.directory.path().join("out");
    let destination = format!("oci:{}", destination.display());
    let mut short = request(&setup, &layout("plain"), &destination);
    short.broker_keys = vec![BrokerKey {
        kid: KID.to_owned(),
        key: Zeroizing::new(vec![0; 31]),
    }];
    let error = encrypt_image(&short).await.unwrap_err();
    assert!(
        matches!(error, ImageError::KeyLength { length: 31, .. }),
        "{error:?}"
    );

    let missing = request(&setup, Path::new("/nonexistent"), &destination);
    let error = encrypt_image(&missing).await.unwrap_err();
    assert_eq!(error.code().0, "RDT-IMG-038");

    let mut nobody = request(&setup, &layout("plain"), &destination);
    nobody.broker_keys.clear();
    nobody.public_keys.clear();
    assert_eq!(
        encrypt_image(&nobody).await.unwrap_err().code().0,
        "RDT-ENC-010"
    );

    let again = request(&setup, &layout("enc-coco-kbs-v1"), &destination);
    assert_eq!(
        encrypt_image(&again).await.unwrap_err().code().0,
        "RDT-IMG-021"
    );
}

/// The other implementation of the format opens what we encrypted, and we
/// open what it encrypts, also the zstd form.
#[tokio::test]
async fn skopeo_opens_our_images_and_we_open_those_of_skopeo() {
    let setup = Setup::new().await;
    let keys = ocicrypt_testdata("keys");
    let skopeo = |arguments: &[String]| {
        let output = Command::new("skopeo")
            .arg("copy")
            .arg("-q")
            .args(arguments)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    for source in ["plain", "plain-zstd"] {
        let ours = setup.directory.path().join(format!("ours-{source}"));
        let encrypted = format!("oci:{}:v1", ours.display());
        encrypt_image(&request(&setup, &layout(source), &encrypted))
            .await
            .unwrap();
        let opened = setup.directory.path().join(format!("opened-{source}"));
        skopeo(&[
            format!("--decryption-key={}", keys.join("ec256_priv.pem").display()),
            encrypted,
            format!("oci:{}:v1", opened.display()),
        ]);
        let (opened, plain) = (OciLayout::open(&opened), OciLayout::open(&layout(source)));
        let find = |layout: OciLayout| layout.find(Some("v1"), &Platform::default()).unwrap();
        let digests = |image: &redoubt_image_offload::host::LayoutImage| {
            image
                .manifest
                .layers
                .iter()
                .map(|layer| layer.digest)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            digests(&find(opened.unwrap())),
            digests(&find(plain.unwrap()))
        );

        let theirs = setup.directory.path().join(format!("theirs-{source}"));
        skopeo(&[
            format!(
                "--encryption-key=jwe:{}",
                keys.join("ec256_pub.pem").display()
            ),
            format!("oci:{}:v1", layout(source).display()),
            format!("oci:{}:v1", theirs.display()),
        ]);
        let reference = setup.registry.serve_layout(&theirs);
        let mut options = options(&setup.registry);
        options.private_keys.push(ec_key());
        setup.pull_with(&reference, &options).await.unwrap();
    }
}

#[tokio::test]
async fn a_public_key_file_is_read() {
    let pem = std::fs::read(ocicrypt_testdata("keys/ec256_pub.pem")).unwrap();
    assert_eq!(PublicKey::parse(&pem).unwrap(), ec_key().public_key());
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn an_image_is_pulled_into_a_plain_directory() {
    let setup = Setup::new().await;
    let reference = setup.registry.serve_layout(&layout("enc-coco-kbs-v1"));
    let target = setup.directory.path().join("dest");
    let options = options(&setup.registry);
    let image = pull_to_directory(&target, &reference, &options, &broker_keys(), &NoObserver)
        .await
        .unwrap();
    assert_eq!(names(&target), ["config.json", "rootfs"]);
    let config: serde_json::Value =
        serde_json::from_slice(&std::fs::read(image.config).unwrap()).unwrap();
    assert_eq!(config["config"]["Cmd"][0], "/bin/sh");
    let error = pull_to_directory(&target, &reference, &options, &broker_keys(), &NoObserver)
        .await
        .unwrap_err();
    assert!(
        matches!(error, ImageError::DestinationNotEmpty { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_failed_pull_leaves_the_directory_as_it_was() {
    let setup = Setup::new().await;
    let reference = setup.registry.serve_layout(&layout("neg-flipped-byte"));
    let options = options(&setup.registry);
    let absent = setup.directory.path().join("absent");
    let empty = setup.directory.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    for target in [&absent, &empty] {
        let error = pull_to_directory(target, &reference, &options, &broker_keys(), &NoObserver)
            .await
            .unwrap_err();
        assert_eq!(error.code().0, "RDT-ENC-007", "{}", one_line(&error));
    }
    assert!(!absent.exists());
    assert_eq!(names(&empty), [""; 0]);
}

/// An archive with directories and special entries.
pub(crate) fn archive_of(entries: &[(tar::EntryType, &str, u32, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (kind, name, mode, target) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(*mode);
        header.set_mtime(1_600_000_000);
        header.set_size(0);
        if target.is_empty() {
            builder
                .append_data(&mut header, name, std::io::empty())
                .unwrap();
        } else {
            builder.append_link(&mut header, name, target).unwrap();
        }
    }
    builder.into_inner().unwrap()
}

#[tokio::test]
async fn whiteouts_opaque_and_implicit_directories_apply_in_a_plain_directory() {
    let setup = Setup::new().await;
    let (directory, link) = (tar::EntryType::Directory, tar::EntryType::Symlink);
    let base = archive_of(&[
        (directory, "tmp/", 0o1777, ""),
        (directory, "etc/", 0o755, ""),
        (tar::EntryType::Regular, "etc/gone", 0o644, ""),
        (tar::EntryType::Regular, "etc/kept", 0o644, ""),
        (directory, "old/", 0o755, ""),
        (tar::EntryType::Regular, "old/file", 0o644, ""),
        (link, "link", 0o777, "/tmp"),
    ]);
    let middle = archive(&[
        ("tmp/new", b"x"),
        ("etc/.wh.gone", b""),
        ("old/.wh..wh..opq", b""),
        ("old/fresh", b"y"),
    ]);
    let top = archive(&[("link/inside", b"z")]);
    let reference = setup
        .registry
        .serve_archives(&[base, middle.clone(), top, middle]);
    let target = setup.directory.path().join("dest");
    let options = options(&setup.registry);
    let image = pull_to_directory(
        &target,
        &reference,
        &options,
        &StaticKeys::none(),
        &NoObserver,
    )
    .await
    .unwrap();
    let root = &image.rootfs;
    assert_eq!(names(root), ["etc", "link", "old", "tmp"]);
    assert_eq!(names(&root.join("etc")), ["kept"]);
    assert_eq!(names(&root.join("old")), ["fresh"]);
    assert_eq!(names(&root.join("tmp")), ["new"]);
    assert_eq!(names(&root.join("link")), ["inside"]);
    let tmp = root.join("tmp").metadata().unwrap();
    assert_eq!(tmp.permissions().mode() & 0o7777, 0o1777);
    assert_eq!(root.join("etc").metadata().unwrap().mode() & 0o7777, 0o755);
    assert_eq!(root.join("etc").metadata().unwrap().uid(), 0);
    assert!(root.join("link").symlink_metadata().unwrap().is_dir());
}

#[tokio::test]
async fn times_of_directories_are_those_of_their_entries() {
    let setup = Setup::new().await;
    let base = archive_of(&[
        (tar::EntryType::Directory, "etc/", 0o755, ""),
        (tar::EntryType::Regular, "etc/file", 0o644, ""),
        (tar::EntryType::Directory, "etc/sub/", 0o755, ""),
        (tar::EntryType::Regular, "etc/sub/file", 0o644, ""),
    ]);
    let reference = setup.registry.serve_archives(&[base]);
    let target = setup.directory.path().join("dest");
    let options = options(&setup.registry);
    let image = pull_to_directory(
        &target,
        &reference,
        &options,
        &StaticKeys::none(),
        &NoObserver,
    )
    .await
    .unwrap();
    for name in ["etc", "etc/file", "etc/sub", "etc/sub/file"] {
        let found = image.rootfs.join(name).metadata().unwrap();
        assert_eq!(found.mtime(), 1_600_000_000, "{name}");
    }
}

#[test]
fn a_location_shows_itself_as_it_is_written() {
    let location: ImageLocation = "oci:dir:tag".parse().unwrap();
    assert_eq!(location.to_string(), "oci:dir:tag");
}
