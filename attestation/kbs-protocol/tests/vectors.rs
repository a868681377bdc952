//! Vectors made by independent implementations, and a recorded conversation.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail as the test does")]

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use proptest::prelude::*;
use redoubt_kbs_protocol::{
    AttestRequest, AttestResponse, AuthRequest, Challenge, ErrorBody, HashAlgorithm, JweResponse,
    KbsProtocolError, MAX_REQUEST_BYTES, Nonce, Tee, TeeKeyPair, TeePublicKey, TokenTimes,
    canonical_json, device_report_data, report_data,
};
use serde_json::{Value, json};

fn load(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn key_of(jwk: &Value) -> TeeKeyPair {
    let secret = URL_SAFE_NO_PAD.decode(jwk["d"].as_str().unwrap()).unwrap();
    TeeKeyPair::from_secret_bytes(&secret).unwrap()
}

fn jwe_vectors() -> Vec<Value> {
    let file = load(include_str!("../testdata/jwe-response-vectors.json"));
    file["vectors"].as_array().unwrap().clone()
}

fn parse(response: &Value) -> JweResponse {
    JweResponse::parse(response.to_string().as_bytes()).unwrap()
}

#[test]
fn responses_of_another_implementation_open() {
    let mut opened = 0;
    for vector in jwe_vectors() {
        let name = vector["name"].as_str().unwrap();
        let p256 = vector["private_jwk"]["crv"] == "P-256";
        if !p256 {
            continue;
        }
        let outcome = parse(&vector["response"]).open(&key_of(&vector["private_jwk"]));
        if name.starts_with("NEGATIVE") {
            assert!(
                matches!(outcome, Err(KbsProtocolError::DecryptionFailed)),
                "{name}"
            );
        } else {
            let plain = STANDARD
                .decode(vector["plaintext_b64"].as_str().unwrap())
                .unwrap();
            assert_eq!(*outcome.unwrap(), plain, "{name}");
        }
        opened += 1;
    }
    assert_eq!(opened, 3);
}

#[test]
fn responses_for_other_keys_are_refused_by_name() {
    let key = TeeKeyPair::generate().unwrap();
    let vectors = jwe_vectors();
    let open = |name: &str| {
        let vector = vectors
            .iter()
            .find(|vector| vector["name"] == name)
            .unwrap();
        parse(&vector["response"]).open(&key).unwrap_err()
    };
    assert!(matches!(open("p521"), KbsProtocolError::UnusableKey(_)));
    assert!(matches!(
        open("rsa-oaep-256"),
        KbsProtocolError::UnsupportedJwe(_)
    ));
    assert!(matches!(open("p256"), KbsProtocolError::DecryptionFailed));
}

#[test]
fn every_altered_member_is_noticed() {
    let key = TeeKeyPair::generate().unwrap();
    let sealed = JweResponse::seal(&key.public_key(), b"a resource").unwrap();
    let sealed: Value = serde_json::from_slice(&sealed.to_json()).unwrap();
    assert_eq!(**parse(&sealed).open(&key).unwrap(), *b"a resource");
    for member in ["protected", "encrypted_key", "iv", "ciphertext", "tag"] {
        for change in ["", "A", "%%%"] {
            let mut altered = sealed.clone();
            let text = altered[member].as_str().unwrap();
            altered[member] = match change {
                "A" => {
                    let flipped = if text.starts_with('A') { "B" } else { "A" };
                    json!(format!("{flipped}{}", &text[1..]))
                }
                other => json!(other),
            };
            assert!(parse(&altered).open(&key).is_err(), "{member} {change}");
        }
    }
    let mut with_aad = sealed;
    with_aad["aad"] = json!("AAAA");
    assert!(matches!(
        parse(&with_aad).open(&key),
        Err(KbsProtocolError::DecryptionFailed)
    ));
}

#[test]
fn headers_that_ask_for_more_are_refused() {
    let key = TeeKeyPair::generate().unwrap();
    let sealed = JweResponse::seal(&key.public_key(), b"x").unwrap();
    let sealed: Value = serde_json::from_slice(&sealed.to_json()).unwrap();
    let header = URL_SAFE_NO_PAD
        .decode(sealed["protected"].as_str().unwrap())
        .unwrap();
    let header: Value = serde_json::from_slice(&header).unwrap();
    for (member, value) in [
        ("crit", json!(["b64"])),
        ("zip", json!("DEF")),
        ("enc", json!("A128GCM")),
        ("alg", json!("dir")),
        ("epk", Value::Null),
        (
            "epk",
            json!({"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}),
        ),
        ("apu", json!("%")),
        ("apv", json!("A".repeat(300))),
    ] {
        let mut changed = header.clone();
        changed[member] = value;
        let mut response = sealed.clone();
        response["protected"] = json!(URL_SAFE_NO_PAD.encode(changed.to_string()));
        assert!(
            matches!(
                parse(&response).open(&key),
                Err(KbsProtocolError::UnsupportedJwe(_)
                    | KbsProtocolError::MalformedJwe(_)
                    | KbsProtocolError::UnusableKey(_))
            ),
            "{member}"
        );
    }
}

#[test]
fn empty_and_largest_resources_travel() {
    let key = TeeKeyPair::generate().unwrap();
    let limit = redoubt_kbs_protocol::MAX_RESOURCE_BYTES;
    for size in [0, 1, limit] {
        let resource = vec![7; size];
        let body = JweResponse::seal(&key.public_key(), &resource)
            .unwrap()
            .to_json();
        assert_eq!(
            *JweResponse::parse(&body).unwrap().open(&key).unwrap(),
            resource
        );
    }
    let refused = JweResponse::seal(&key.public_key(), &vec![0; limit + 1]);
    assert!(matches!(
        refused,
        Err(KbsProtocolError::ResourceTooLarge { .. })
    ));
}

#[test]
fn binding_matches_the_vectors() {
    let file = load(include_str!("../testdata/runtime-data-binding.json"));
    let check = &file["trustee_unit_test"];
    assert_eq!(canonical_json(&check["input"]).unwrap(), check["canonical"]);
    let mut seen = 0;
    let mut device_form = None;
    for vector in file["vectors"].as_array().unwrap() {
        if vector["tee-pubkey"]["kty"] == "RSA"
            || vector["name"].as_str().unwrap().starts_with("rsa")
        {
            continue;
        }
        let algorithm = HashAlgorithm::from_name(vector["hash"].as_str().unwrap()).unwrap();
        let digest = hex::decode(vector["digest_hex"].as_str().unwrap()).unwrap();
        let mut expected = [0; 64];
        expected[..digest.len()].copy_from_slice(&digest);
        if vector["nonce"].is_string() {
            let nonce = Nonce::new(vector["nonce"].as_str().unwrap().to_owned()).unwrap();
            let key = TeePublicKey::from_jwk(&vector["tee-pubkey"]).unwrap();
            let additional = vector["additional-evidence"].as_str().unwrap();
            assert_eq!(
                report_data(algorithm, &nonce, &key, additional).unwrap(),
                expected
            );
            device_form = Some((nonce, key));
        } else {
            let (nonce, key) = device_form.as_ref().unwrap();
            assert_eq!(device_report_data(algorithm, nonce, key).unwrap(), expected);
        }
        seen += 1;
    }
    assert_eq!(seen, 6);
}

/// What a recorded guest and broker said to each other, read by our types.
#[test]
fn recorded_conversation_reads() {
    let transcript = load(include_str!("../testdata/trustee-transcript.json"));
    let (mut challenges, mut tokens, mut resources, mut errors) = (0, 0, 0, 0);
    for exchange in transcript.as_array().unwrap() {
        let text = |part: &str| exchange[part]["body"].as_str().unwrap().as_bytes().to_vec();
        let path = exchange["request"]["path"].as_str().unwrap();
        let status = exchange["response"]["status"].as_u64().unwrap();
        let (request, response) = (text("request"), text("response"));
        if status != 200 {
            assert!(ErrorBody::parse(&response).is_some());
            errors += 1;
        } else if path.ends_with("/auth") {
            assert_eq!(AuthRequest::parse(&request).unwrap().tee, Tee::Sample);
            let challenge = Challenge::parse(&response).unwrap();
            assert_eq!(challenge.hash_algorithm().unwrap(), HashAlgorithm::Sha384);
            challenges += 1;
        } else if path.ends_with("/attest") {
            let asked: Value = serde_json::from_slice(&request).unwrap();
            let is_ec = asked["runtime-data"]["tee-pubkey"]["kty"] == "EC";
            assert_eq!(AttestRequest::parse(&request).is_ok(), is_ec);
            if is_ec {
                let ours = AttestRequest::parse(&request).unwrap();
                assert_eq!(json!(ours), asked);
                let bound = report_data(
                    HashAlgorithm::Sha384,
                    &ours.runtime_data.nonce,
                    &ours.runtime_data.tee_pubkey,
                    &ours.tee_evidence.additional_evidence,
                );
                let shown = ours.tee_evidence.primary_evidence["report_data"]
                    .as_str()
                    .unwrap();
                assert_eq!(STANDARD.decode(shown).unwrap(), bound.unwrap()[..48]);
            }
            let token = AttestResponse::parse(&response).unwrap().token;
            assert_eq!(TokenTimes::parse(&token).unwrap().lifetime_s(), Some(300));
            tokens += 1;
        } else if path.contains("/resource/") && exchange["request"]["method"] == "GET" {
            JweResponse::parse(&response).unwrap();
            resources += 1;
        }
    }
    assert!(challenges >= 5 && tokens >= 5 && resources >= 3 && errors >= 8);
}

#[test]
fn our_auth_request_has_the_recorded_shape() {
    let ours = json!(AuthRequest::new(Tee::Snp));
    assert_eq!(
        ours,
        json!({
            "version": "0.4.0",
            "tee": "snp",
            "extra-params": { "supported-hash-algorithms": ["sha256", "sha384", "sha512"] },
        })
    );
}

#[test]
fn requests_that_are_wrong_are_refused_by_kind() {
    let auth = |body: &str| AuthRequest::parse(body.as_bytes()).unwrap_err();
    assert!(matches!(
        auth(r#"{"version":"0.1.0","tee":{"new":1}}"#),
        KbsProtocolError::UnsupportedVersion { .. }
    ));
    assert!(matches!(
        auth(r#"{"version":"0.4.0","tee":"nosuch"}"#),
        KbsProtocolError::UnknownTee(_)
    ));
    for body in [
        "",
        "[]",
        "{}",
        r#"{"version":"0.4.0"}"#,
        r#"{"version":4,"tee":"snp"}"#,
    ] {
        assert!(
            matches!(auth(body), KbsProtocolError::MalformedMessage { .. }),
            "{body}"
        );
    }
    let long = format!("{{\"version\":\"{}\"}}", "a".repeat(MAX_REQUEST_BYTES));
    assert!(matches!(
        auth(&long),
        KbsProtocolError::MessageTooLarge { .. }
    ));
    let deep = "[".repeat(100_000);
    assert!(AttestRequest::parse(deep.as_bytes()).is_err());
    assert!(AttestRequest::parse(b"{}").is_err());
}

#[test]
fn challenges_may_choose_a_known_hash_only() {
    let challenge = |extra: &str| {
        let body = format!(r#"{{"nonce":"abc","extra-params":{extra}}}"#);
        Challenge::parse(body.as_bytes()).unwrap().hash_algorithm()
    };
    assert_eq!(challenge(r#""""#).unwrap(), HashAlgorithm::Sha384);
    assert_eq!(challenge("null").unwrap(), HashAlgorithm::Sha384);
    let chosen = r#"{"selected-hash-algorithm":"sha512"}"#;
    assert_eq!(challenge(chosen).unwrap(), HashAlgorithm::Sha512);
    for unknown in [
        r#"{"selected-hash-algorithm":"sm3"}"#,
        r#"{"selected-hash-algorithm":1}"#,
    ] {
        assert!(matches!(
            challenge(unknown),
            Err(KbsProtocolError::UnsupportedHash(_))
        ));
    }
}

#[test]
fn tokens_that_could_not_go_into_a_header_are_refused() {
    for token in ["", "a b", "a\r\nX-Evil: 1", "ü"] {
        let body = json!({ "token": token }).to_string();
        assert!(matches!(
            AttestResponse::parse(body.as_bytes()),
            Err(KbsProtocolError::MalformedToken(_))
        ));
    }
    let response = AttestResponse::parse(br#"{"token":"a.b.c"}"#).unwrap();
    assert!(!format!("{response:?}").contains("a.b.c"));
}

proptest! {
    #[test]
    fn sealed_resources_open_with_their_key_alone(resource in proptest::collection::vec(any::<u8>(), 0..200)) {
        let key = TeeKeyPair::generate().unwrap();
        let sealed = JweResponse::seal(&key.public_key(), &resource).unwrap();
        prop_assert_eq!(&*sealed.open(&key).unwrap(), &resource);
        let other = TeeKeyPair::generate().unwrap();
        prop_assert!(sealed.open(&other).is_err());
    }

    #[test]
    fn no_bytes_make_a_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = AuthRequest::parse(&bytes);
        let _ = AttestRequest::parse(&bytes);
        let _ = AttestResponse::parse(&bytes);
        let _ = Challenge::parse(&bytes);
        let _ = ErrorBody::parse(&bytes);
        if let Ok(response) = JweResponse::parse(&bytes) {
            let _ = response.open(&TeeKeyPair::generate().unwrap());
        }
    }
}
