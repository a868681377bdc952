//! ID blocks and authentications that other tools made, and hostile ones.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use redoubt_errors::UserError;
use redoubt_id_block::{IdAuth, IdBlock, IdBlockError, IdPart, SigningKey};
use redoubt_launch_digest::LaunchDigest;
use serde_json::Value;

const RS_ID_KEY: &str = include_str!("../testdata/rs-test_id_key.pem");
const RS_AUTHOR_KEY: &str = include_str!("../testdata/rs-test_auth_key.pem");
const RS_AUTH: &[u8; 4096] = include_bytes!("../testdata/rs-test_auth_block.bin");
const PY_ID_KEY: &str = include_str!("../testdata/py-id_key_test.pem");
const PY_AUTHOR_KEY: &str = include_str!("../testdata/py-author_key_test.pem");

fn vectors() -> Value {
    serde_json::from_str(include_str!("../testdata/id-blocks.json")).unwrap()
}

fn key(pem: &str) -> SigningKey {
    SigningKey::from_pem(pem).unwrap()
}

fn block(launch_digest: LaunchDigest) -> IdBlock {
    IdBlock {
        launch_digest,
        family_id: [0; 16],
        image_id: [0; 16],
        guest_svn: 0,
        policy: 0x3_0000,
    }
}

fn rs_block() -> IdBlock {
    let vectors = vectors();
    let digest = vectors["id_block"]["launch_digest_hex"].as_str().unwrap();
    block(digest.parse().unwrap())
}

fn digest_base64(pem: &str) -> String {
    STANDARD.encode(key(pem).public().unwrap().digest())
}

#[test]
fn blocks_and_key_digests_are_those_of_virtee_sev() {
    let vectors = vectors();
    let expected = &vectors["id_block"];
    assert_eq!(rs_block().to_base64(), expected["id_block_b64"]);
    assert_eq!(digest_base64(RS_ID_KEY), expected["id_key_digest_b64"]);
    assert_eq!(
        digest_base64(RS_AUTHOR_KEY),
        expected["author_key_digest_b64"]
    );
}

#[test]
fn blocks_and_key_digests_are_those_of_sev_snp_measure() {
    let vectors = vectors();
    let expected = &vectors["id_block_python"];
    let digest = STANDARD
        .decode(expected["launch_digest_b64"].as_str().unwrap())
        .unwrap();
    let block = block(LaunchDigest(digest.try_into().unwrap()));
    assert_eq!(block.to_base64(), expected["id_block_b64"]);
    assert_eq!(digest_base64(PY_ID_KEY), expected["id_key_hash_b64"]);
    assert_eq!(
        digest_base64(PY_AUTHOR_KEY),
        expected["author_key_hash_b64"]
    );
}

#[test]
fn the_authentication_of_virtee_sev_is_read_and_written_unchanged() {
    let auth = IdAuth::parse(RS_AUTH).unwrap();
    assert_eq!(auth.to_bytes(), *RS_AUTH);
    auth.verify(&rs_block()).unwrap();
    assert_eq!(
        RS_AUTH[0x40..0x240],
        *include_bytes!("../testdata/rs-test_id_sig.bin")
    );
    assert_eq!(
        RS_AUTH[0x680..0x880],
        *include_bytes!("../testdata/rs-test_auth_sig.bin")
    );
    assert_eq!(*auth.id_key(), key(RS_ID_KEY).public().unwrap());
    assert_eq!(
        auth.author_key().copied(),
        Some(key(RS_AUTHOR_KEY).public().unwrap())
    );
}

#[test]
fn what_is_signed_is_verified_after_a_round_trip() {
    let block = rs_block();
    for author in [None, Some(key(PY_AUTHOR_KEY))] {
        let auth = IdAuth::sign(&block, &key(PY_ID_KEY), author.as_ref()).unwrap();
        let again = IdAuth::sign(&block, &key(PY_ID_KEY), author.as_ref()).unwrap();
        assert_eq!(auth, again, "the same inputs give the same bytes");
        let read = IdAuth::from_base64(&auth.to_base64()).unwrap();
        assert_eq!(read, auth);
        assert_eq!(read.author_key().is_some(), author.is_some());
        let read_block = IdBlock::from_base64(&block.to_base64()).unwrap();
        assert_eq!(read_block, block);
        read.verify(&read_block).unwrap();
        let other = IdBlock {
            guest_svn: 1,
            ..block
        };
        assert_eq!(
            read.verify(&other),
            Err(IdBlockError::BlockSignature { offset: 0x40 })
        );
    }
}

#[test]
fn every_signed_or_signing_byte_counts() {
    let block = rs_block();
    let auth = IdAuth::sign(&block, &key(RS_ID_KEY), Some(&key(RS_AUTHOR_KEY))).unwrap();
    let good = auth.to_bytes();
    for at in [
        0, 4, 8, 0x40, 0x88, 0xd0, 0x240, 0x244, 0x28c, 0x2d4, 0x644, 0x680, 0x6c8, 0x880, 0x884,
        0xc84, 0xfff,
    ] {
        let mut bytes = good;
        bytes[at] ^= 1;
        let outcome = IdAuth::parse(&bytes).and_then(|auth| auth.verify(&block));
        assert!(outcome.is_err(), "{at:#x}");
    }
}

#[test]
fn malformed_structures_are_named() {
    let refused = |bytes: &[u8; 4096]| IdAuth::parse(bytes).unwrap_err();
    let with = |at: usize, byte: u8| {
        let mut bytes = *RS_AUTH;
        bytes[at] = byte;
        bytes
    };
    assert_eq!(
        refused(&with(0, 2)),
        IdBlockError::Algorithm {
            offset: 0,
            algorithm: 2
        }
    );
    assert_eq!(
        refused(&with(0x240, 1)),
        IdBlockError::Curve {
            offset: 0x240,
            curve: 1
        }
    );
    assert_eq!(
        refused(&with(0x2d4, 1)),
        IdBlockError::Reserved {
            part: IdPart::Auth,
            offset: 0x2d4
        }
    );
    assert_eq!(
        refused(&with(0x244 + 60, 1)),
        IdBlockError::KeyPoint { offset: 0x240 }
    );
    let error = IdAuth::parse(&RS_AUTH[..4095]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "ID authentication has 4095 bytes instead of 4096"
    );
    assert_eq!(error.code().0, "RDT-IDB-001");
    let block = rs_block().to_bytes();
    let mut other = block;
    other[0x50] = 2;
    assert_eq!(
        IdBlock::parse(&other),
        Err(IdBlockError::Version {
            offset: 0x50,
            version: 2
        })
    );
    let mut other = block;
    other[0x5a] = 0;
    assert!(matches!(
        IdBlock::parse(&other),
        Err(IdBlockError::Policy { offset: 0x58, .. })
    ));
    for text in ["", "AAAA", "!", &"A".repeat(1 << 20)] {
        assert!(matches!(
            IdBlock::from_base64(text),
            Err(IdBlockError::Format { expected: 96, .. })
        ));
    }
}

#[test]
fn keys_of_other_kinds_are_refused_and_never_shown() {
    let other_curve = "-----BEGIN EC PRIVATE KEY-----\n\
        MHcCAQEEIKEtaVXyNwMnwzZGaNAlrLUWQkUq5DcNqP1WkMJxbGSMoAoGCCqGSM49\n\
        AwEHoUQDQgAE\n-----END EC PRIVATE KEY-----\n";
    for pem in ["", "key", other_curve, &RS_ID_KEY.replace("MIG2", "MIG3")] {
        assert_eq!(SigningKey::from_pem(pem).unwrap_err(), IdBlockError::KeyPem);
    }
    assert_eq!(format!("{:?}", key(RS_ID_KEY)), "SigningKey(..)");
}

#[test]
fn a_launch_must_be_the_one_that_was_signed() {
    let block = rs_block();
    assert_eq!(block.check_launch(block.launch_digest, 0x3_0000), Ok(()));
    assert!(matches!(
        block.check_launch(LaunchDigest([0; 48]), 0x3_0000),
        Err(IdBlockError::OtherDigest { .. })
    ));
    assert_eq!(
        block.check_launch(block.launch_digest, 0xb_0000),
        Err(IdBlockError::OtherPolicy {
            expected: 0x3_0000,
            actual: 0xb_0000
        })
    );
}

proptest! {
    #[test]
    fn no_bytes_make_the_parsers_panic(at in 0usize..4096, byte: u8, len in 0usize..4200) {
        let mut bytes = RS_AUTH.to_vec();
        bytes[at] = byte;
        bytes.resize(len, 0);
        if let Ok(auth) = IdAuth::parse(&bytes) {
            prop_assert!(auth.to_bytes().as_slice() == bytes.as_slice());
            let _ = auth.verify(&rs_block());
        }
        let _ = IdBlock::parse(&bytes[..len.min(96)]);
    }
}
