//! What goes over the wire, against the vectors of other implementations.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use redoubt_initdata::Initdata;
use redoubt_kbs_protocol::{
    HashAlgorithm, JweResponse, KbsProtocolError, Nonce, TeeKeyPair, TeePublicKey, report_data,
};
use serde_json::Value;

use crate::case::Expected::{self, Accepted, Refused};
use crate::case::{Case, Observed, Outcome, Row, Step};
use crate::error::HarnessError;
use crate::snp::unreadable;

const BINDING: &str = include_str!("../../kbs-protocol/testdata/runtime-data-binding.json");
const JWE: &str = include_str!("../../kbs-protocol/testdata/jwe-response-vectors.json");
const INITDATA: &str = include_str!("../../../measured-boot/initdata/testdata/expected.json");
const MINI: &[u8] = include_bytes!("../../../measured-boot/initdata/testdata/mini-initdata.toml");

const fn refused(code: &'static str) -> Expected {
    Refused(Step::Evidence, code)
}

fn vectors(text: &str) -> Result<Vec<Value>, HarnessError> {
    let damaged = HarnessError::Vector {
        what: "a document of vectors",
    };
    let document: Value = serde_json::from_str(text).map_err(|_| HarnessError::Vector {
        what: "a document of vectors",
    })?;
    let list = document.get("vectors").or_else(|| document.get("files"));
    list.and_then(Value::as_array).cloned().ok_or(damaged)
}

fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    value[member].as_str().unwrap_or_default()
}

/// What a vector's `REPORT_DATA` must be, and what it is for another nonce.
fn binding(change: fn(&mut Value)) -> Outcome {
    let mut compared = 0;
    for mut vector in vectors(BINDING)? {
        change(&mut vector);
        // Other kinds of keys are for brokers of other guests.
        let Ok(key) = TeePublicKey::from_jwk(&vector["tee-pubkey"]) else {
            continue;
        };
        // Vectors of further devices leave the evidence out.
        let Some(additional) = vector["additional-evidence"].as_str() else {
            continue;
        };
        let nonce = Nonce::new(text(&vector, "nonce").to_owned())?;
        let algorithm = HashAlgorithm::from_name(text(&vector, "hash"))?;
        let bound = report_data(algorithm, &nonce, &key, additional)?;
        if hex::encode(bound) != text(&vector, "report_data_hex") {
            return Ok(Observed::refused(
                vec!["report_data".to_owned()],
                text(&vector, "name"),
            ));
        }
        compared += 1;
    }
    Ok(if compared >= 3 {
        Observed::Accepted
    } else {
        Observed::Broken(format!("only {compared} vectors were compared"))
    })
}

/// Opens the response of a vector, changed.
fn jwe(name: &str, change: fn(&mut Value)) -> Outcome {
    let vectors = vectors(JWE)?;
    let vector = vectors.iter().find(|vector| text(vector, "name") == name);
    let vector = vector.ok_or(HarnessError::Vector {
        what: "the vector of a JWE",
    })?;
    let secret = URL_SAFE_NO_PAD
        .decode(text(&vector["private_jwk"], "d"))
        .unwrap_or_default();
    let mut response = vector["response"].clone();
    change(&mut response);
    let opened = TeeKeyPair::from_secret_bytes(&secret).and_then(|key| {
        let response = JweResponse::parse(response.to_string().as_bytes())?;
        response.open(&key)
    });
    Ok(outcome(opened.map(|plain| {
        STANDARD.encode(&*plain) == text(vector, "plaintext_b64")
    })))
}

fn outcome(opened: Result<bool, KbsProtocolError>) -> Observed {
    match opened {
        Ok(true) => Observed::Accepted,
        Ok(false) => Observed::Broken("another content".to_owned()),
        Err(error) => unreadable(&error),
    }
}

fn with_another_key() -> Outcome {
    let (one, other) = (TeeKeyPair::generate()?, TeeKeyPair::generate()?);
    let sealed = JweResponse::seal(&one.public_key(), b"resource")?;
    Ok(outcome(sealed.open(&other).map(|_| true)))
}

fn flip_first(value: &mut Value, member: &str) {
    let old = text(value, member);
    let first = if old.starts_with('A') { "B" } else { "A" };
    let rest = old.get(1..).unwrap_or_default();
    value[member] = format!("{first}{rest}").into();
}

/// The digests of a document under each algorithm.
fn initdata(document: &[u8]) -> Outcome {
    let files = vectors(INITDATA)?;
    let expected = files
        .iter()
        .find(|file| text(file, "file") == "mini-initdata.toml")
        .ok_or(HarnessError::Vector {
            what: "the digests of initdata",
        })?;
    let initdata = match Initdata::parse_toml(document) {
        Ok(initdata) => initdata,
        Err(error) => return Ok(unreadable(&error)),
    };
    let name = initdata.algorithm().to_string();
    let expected = &expected[name.as_str()];
    let host_data = hex::encode(initdata.host_data());
    let mr_config_id = hex::encode(initdata.mr_config_id());
    let same = host_data == text(expected, "snp_host_data_32")
        && mr_config_id == text(expected, "tdx_mrconfigid_48");
    Ok(if same {
        Observed::Accepted
    } else {
        Observed::refused(vec!["host_data".to_owned()], host_data)
    })
}

pub(crate) fn cases() -> Vec<Case> {
    let case = |row, name, expected, run: fn() -> Outcome| {
        Case::local(row, name, expected, move |_| run())
    };
    vec![
        case(Row::Binding, "vectors of three hashes", Accepted, || {
            binding(|_| {})
        }),
        case(
            Row::Binding,
            "vectors with another nonce",
            refused("report_data"),
            || binding(|vector| vector["nonce"] = STANDARD.encode([7; 32]).into()),
        ),
        case(
            Row::Binding,
            "vectors with other evidence",
            refused("report_data"),
            || binding(|vector| vector["additional-evidence"] = "{\"gpu\":1}".into()),
        ),
        case(
            Row::Jwe,
            "a response of another implementation",
            Accepted,
            || jwe("p256", |_| {}),
        ),
        case(Row::Jwe, "an empty resource", Accepted, || {
            jwe("p256-empty", |_| {})
        }),
        case(Row::Jwe, "an altered tag", refused("RDT-KBP-012"), || {
            jwe("p256", |response| flip_first(response, "tag"))
        }),
        case(
            Row::Jwe,
            "an altered ciphertext",
            refused("RDT-KBP-012"),
            || jwe("p256", |response| flip_first(response, "ciphertext")),
        ),
        case(
            Row::Jwe,
            "an altered wrapped key",
            refused("RDT-KBP-012"),
            || jwe("p256", |response| flip_first(response, "encrypted_key")),
        ),
        case(
            Row::Jwe,
            "additional data that nobody sealed",
            refused("RDT-KBP-012"),
            || jwe("p256", |response| response["aad"] = "AAAA".into()),
        ),
        case(
            Row::Jwe,
            "a header in other order than it was sealed with",
            refused("RDT-KBP-012"),
            || {
                jwe(
                    "NEGATIVE protected header re-ordered: AES-GCM must fail",
                    |_| {},
                )
            },
        ),
        case(
            Row::Jwe,
            "another key",
            refused("RDT-KBP-012"),
            with_another_key,
        ),
        case(
            Row::Initdata,
            "the digests of another implementation",
            Accepted,
            || initdata(MINI),
        ),
        case(
            Row::Initdata,
            "one changed byte",
            refused("host_data"),
            || initdata(&[MINI, b" "].concat()),
        ),
    ]
}
