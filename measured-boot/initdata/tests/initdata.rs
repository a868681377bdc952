//! The formats agree with other implementations, and bad input is refused by name.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::collections::BTreeMap;
use std::io::Write as _;

use proptest::prelude::*;
use redoubt_initdata::{
    Algorithm, Initdata, InitdataError, MAX_COMPRESSED_BYTES, POLICY_REGO, compressed_len, fitted,
    pack, unpack,
};
use serde_json::Value;

const MINI: &[u8] = include_bytes!("../testdata/mini-initdata.toml");
const MINI_IMAGE: &[u8] = include_bytes!("../testdata/mini-initdata.img");
const KATA_IMAGE: &[u8] = include_bytes!("../testdata/kata-initdata.img");
const DEFAULT: &[u8] = include_bytes!("../testdata/default-initdata.toml");
const WITH_POLICY: &[u8] = include_bytes!("../testdata/init-data-with-policy.toml");

fn small() -> Initdata {
    Initdata::build(
        Algorithm::Sha256,
        BTreeMap::from([(POLICY_REGO.to_owned(), "package agent_policy\n".to_owned())]),
    )
    .unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn disk(len: u64, rest: &[u8]) -> Vec<u8> {
    [b"initdata".as_slice(), &len.to_le_bytes(), rest].concat()
}

#[test]
fn digests_agree_with_the_published_values() {
    let expected: Value = serde_json::from_str(include_str!("../testdata/expected.json")).unwrap();
    let mut checked = 0;
    for file in expected["files"].as_array().unwrap() {
        let document = match file["file"].as_str().unwrap() {
            "mini-initdata.toml" => MINI,
            "default-initdata.toml" => DEFAULT,
            "init-data-with-policy.toml" => WITH_POLICY,
            other => panic!("no such document: {other}"),
        };
        let initdata = Initdata::parse_toml(document).unwrap();
        for algorithm in [Algorithm::Sha256, Algorithm::Sha384, Algorithm::Sha512] {
            let values = &file[algorithm.to_string()];
            let digest = algorithm.digest(document);
            assert_eq!(hex::encode(&digest), values["digest"]);
            assert_eq!(
                hex::encode(fitted::<32>(&digest)),
                values["snp_host_data_32"]
            );
            assert_eq!(
                hex::encode(fitted::<48>(&digest)),
                values["tdx_mrconfigid_48"]
            );
            checked += 1;
        }
        let own = initdata.algorithm().digest(document);
        assert_eq!(initdata.digest(), own);
        assert_eq!(initdata.host_data(), fitted(&own));
        assert_eq!(initdata.mr_config_id(), fitted(&own));
    }
    assert_eq!(checked, 9);
}

#[test]
fn every_algorithm_is_cut_or_padded_to_the_field() {
    for (algorithm, len) in [
        (Algorithm::Sha256, 32),
        (Algorithm::Sha384, 48),
        (Algorithm::Sha512, 64),
    ] {
        let initdata = Initdata::build(algorithm, BTreeMap::new()).unwrap();
        let digest = initdata.digest();
        assert_eq!(digest.len(), len);
        assert_eq!(initdata.host_data(), digest[..32]);
        let kept = len.min(48);
        assert_eq!(initdata.mr_config_id()[..kept], digest[..kept]);
        assert!(
            initdata.mr_config_id()[kept..]
                .iter()
                .all(|byte| *byte == 0)
        );
    }
}

#[test]
fn images_of_other_implementations_are_read() {
    assert_eq!(unpack(KATA_IMAGE).unwrap(), b"some content");
    let initdata = Initdata::from_disk_image(MINI_IMAGE).unwrap();
    assert_eq!(initdata.toml_bytes(), MINI);
    assert!(
        initdata
            .entry("aa.toml")
            .unwrap()
            .contains("http://127.0.0.1:8080")
    );
    assert!(initdata.entry("cdh.toml").unwrap().contains("cc_kbc"));
    assert_eq!(initdata.entry("policy.rego"), None);
}

#[test]
fn a_built_document_reads_back_with_the_same_entries() {
    let entries = BTreeMap::from([
        ("aa.toml".to_owned(), "[a]\nb = 'c'".to_owned()),
        ("odd \"name\"".to_owned(), "\u{7f}\r\\ \"''' ü".to_owned()),
        ("quote-end".to_owned(), "it ends with '".to_owned()),
        ("newline-first".to_owned(), "\n\nx\n".to_owned()),
    ]);
    let built = Initdata::build(Algorithm::Sha384, entries.clone()).unwrap();
    let read = Initdata::parse_toml(built.toml_bytes()).unwrap();
    assert_eq!(read.entries(), &entries);
    assert_eq!(read.digest(), built.digest());
}

#[test]
fn annotation_and_disk_keep_the_exact_text() {
    let initdata = Initdata::parse_toml(WITH_POLICY).unwrap();
    let annotation = initdata.to_annotation().unwrap();
    assert_eq!(
        Initdata::from_annotation(&format!(" {annotation}\n")).unwrap(),
        initdata
    );
    let image = initdata.to_disk_image();
    assert_eq!(image.len() % 512, 0);
    assert_eq!(Initdata::from_disk_image(&image).unwrap(), initdata);
    assert_eq!(initdata.to_disk_image(), image);
}

#[test]
fn common_mistakes_with_the_annotation_are_told_apart() {
    let document = small();
    let annotation = document.to_annotation().unwrap();
    let refused = |value: &str| Initdata::from_annotation(value).unwrap_err();
    assert_eq!(refused(document.toml_text()), InitdataError::NotBase64);
    assert_eq!(
        refused(&base64(document.toml_bytes())),
        InitdataError::NotGzip
    );
    assert_eq!(
        refused(&base64(annotation.as_bytes())),
        InitdataError::EncodedTwice
    );
    assert_eq!(refused(""), InitdataError::NotGzip);
    assert_eq!(
        refused(&"A".repeat((256 << 10) + 1)),
        InitdataError::AnnotationTooLarge {
            size: (256 << 10) + 1
        }
    );
}

#[test]
fn a_document_that_does_not_fit_an_annotation_is_refused() {
    // Digits of a linear congruential generator do not compress below the limit.
    let mut state = 1u64;
    let noise: String = std::iter::repeat_with(|| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        char::from(b'!' + u8::try_from((state >> 33) % 90).unwrap())
    })
    .take(300 << 10)
    .collect();
    let entries = BTreeMap::from([("policy.rego".to_owned(), noise)]);
    let initdata = Initdata::build(Algorithm::Sha256, entries).unwrap();
    assert!(matches!(
        initdata.to_annotation(),
        Err(InitdataError::AnnotationTooLarge { .. })
    ));
}

#[test]
fn a_decompression_bomb_is_stopped_at_the_limit() {
    let bomb = gzip(&vec![b' '; 16 << 20]);
    assert!(bomb.len() < MAX_COMPRESSED_BYTES);
    let error = Initdata::from_annotation(&base64(&bomb)).unwrap_err();
    assert_eq!(error, InitdataError::DocumentTooLarge);
    assert_eq!(
        unpack(&disk(bomb.len() as u64, &bomb)).unwrap_err(),
        InitdataError::DocumentTooLarge
    );
}

#[test]
fn damaged_disks_are_refused() {
    let stream = gzip(small().toml_bytes());
    let len = stream.len() as u64;
    assert_eq!(unpack(b"initdat"), Err(InitdataError::DiskMagic));
    assert_eq!(unpack(&[0; 512]), Err(InitdataError::DiskMagic));
    for wrong in [0, len + 1, MAX_COMPRESSED_BYTES as u64 + 1, u64::MAX] {
        assert_eq!(
            unpack(&disk(wrong, &stream)),
            Err(InitdataError::DiskLength { len: wrong })
        );
    }
    assert_eq!(
        unpack(&disk(len - 1, &stream)),
        Err(InitdataError::DamagedGzip)
    );
    assert_eq!(
        unpack(&disk(len, &[stream.as_slice(), &[0, 0, 7]].concat())),
        Err(InitdataError::DiskPadding {
            offset: 16 + stream.len() + 2
        })
    );
    let doubled = [stream.as_slice(), &stream].concat();
    assert_eq!(
        unpack(&disk(2 * len, &doubled)),
        Err(InitdataError::TrailingBytes {
            extra: stream.len()
        })
    );
    let mut flipped = stream.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0x10;
    assert!(matches!(
        unpack(&disk(len, &flipped)),
        Err(InitdataError::DamagedGzip | InitdataError::TrailingBytes { .. })
    ));
    let mut header = [0; 16];
    header.copy_from_slice(&disk(len, &[]));
    assert_eq!(compressed_len(&header), Ok(stream.len()));
}

#[test]
fn bad_documents_are_refused_with_the_place() {
    let refused = |text: &str| Initdata::parse_toml(text.as_bytes()).unwrap_err();
    assert_eq!(
        refused("version = \"0.2.0\"\nalgorithm = \"sha256\"\n"),
        InitdataError::Version {
            version: "0.2.0".to_owned()
        }
    );
    assert_eq!(
        refused("version = \"0.1.0\"\nalgorithm = \"md5\"\n"),
        InitdataError::Algorithm {
            algorithm: "md5".to_owned()
        }
    );
    assert!(matches!(
        refused("version = \"0.1.0\"\nalgorithm = \"sha256\"\n[data]\nx = 1\n"),
        InitdataError::Toml { line: 4, .. }
    ));
    for name in ["", "..", "a/b", "a\\u0000b"] {
        assert!(matches!(
            refused(&format!(
                "version = \"0.1.0\"\nalgorithm = \"sha256\"\n[data]\n\"{name}\" = \"\"\n"
            )),
            InitdataError::EntryName { .. }
        ));
    }
    assert_eq!(
        Initdata::parse_toml(b"ab\xff"),
        Err(InitdataError::NotText { offset: 2 })
    );
    assert_eq!(
        Initdata::parse_toml(&vec![b'#'; (4 << 20) + 1]),
        Err(InitdataError::DocumentTooLarge)
    );
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = Initdata::parse_toml(&bytes);
        let _ = unpack(&bytes);
        let _ = unpack(&disk(bytes.len() as u64, &bytes));
        let _ = Initdata::from_annotation(&base64(&bytes));
    }

    #[test]
    fn every_text_survives_document_disk_and_annotation(name in "[a-z.]{3,12}", value in "\\PC*|[\\x00-\\x7f]*") {
        let entries = BTreeMap::from([(name, value)]);
        let initdata = Initdata::build(Algorithm::Sha256, entries.clone()).unwrap();
        let read = Initdata::from_disk_image(&pack(initdata.toml_bytes())).unwrap();
        prop_assert_eq!(read.entries(), &entries);
        let read = Initdata::from_annotation(&initdata.to_annotation().unwrap()).unwrap();
        prop_assert_eq!(read.entries(), &entries);
    }
}
