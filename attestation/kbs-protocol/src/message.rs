use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::shortened;
use crate::{
    HashAlgorithm, KbsProtocolError, MAX_REQUEST_BYTES, MAX_RESPONSE_BYTES, MAX_TOKEN_BYTES,
    MessageKind, Nonce, PROTOCOL_VERSION, Tee, TeePublicKey,
};

/// Body of `POST /auth`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AuthRequest {
    /// Protocol version, [`PROTOCOL_VERSION`].
    pub version: String,
    /// The kind of evidence that will follow.
    pub tee: Tee,
    /// Further parameters: today the hash algorithms that the guest knows.
    #[serde(rename = "extra-params", default)]
    pub extra_params: Value,
}

impl AuthRequest {
    /// Makes the request of a guest that can hash as [`HashAlgorithm`] does.
    pub fn new(tee: Tee) -> Self {
        let names = HashAlgorithm::ALL.map(|algorithm| Value::from(algorithm.name()));
        let mut extra = Map::new();
        extra.insert(
            "supported-hash-algorithms".to_owned(),
            Value::from(names.to_vec()),
        );
        Self {
            version: PROTOCOL_VERSION.to_owned(),
            tee,
            extra_params: Value::Object(extra),
        }
    }

    /// Reads a request. An unsupported version is reported before anything
    /// else, because a request of another version may look different.
    pub fn parse(body: &[u8]) -> Result<Self, KbsProtocolError> {
        let value: Value = parse_json(body, MessageKind::AuthRequest, MAX_REQUEST_BYTES)?;
        if let Some(version) = value.get("version").and_then(Value::as_str)
            && version != PROTOCOL_VERSION
        {
            return Err(KbsProtocolError::UnsupportedVersion {
                found: shortened(version),
                supported: PROTOCOL_VERSION,
            });
        }
        if let Some(name) = value.get("tee").and_then(Value::as_str) {
            name.parse::<Tee>()?;
        }
        serde_json::from_value(value).map_err(|source| KbsProtocolError::MalformedMessage {
            message: MessageKind::AuthRequest,
            source,
        })
    }
}

/// Answer to `POST /auth`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Challenge {
    /// The nonce that the evidence must cover.
    pub nonce: Nonce,
    /// `""`, or an object that may name the hash algorithm.
    #[serde(rename = "extra-params", default)]
    pub extra_params: Value,
}

impl Challenge {
    /// Makes a challenge without further parameters.
    pub fn new(nonce: Nonce) -> Self {
        Self {
            nonce,
            extra_params: Value::String(String::new()),
        }
    }

    /// Reads a challenge.
    pub fn parse(body: &[u8]) -> Result<Self, KbsProtocolError> {
        parse_json(body, MessageKind::Challenge, MAX_RESPONSE_BYTES)
    }

    /// The hash for the binding: the broker's choice, else SHA-384.
    pub fn hash_algorithm(&self) -> Result<HashAlgorithm, KbsProtocolError> {
        match self.extra_params.get("selected-hash-algorithm") {
            None | Some(Value::Null) => Ok(HashAlgorithm::Sha384),
            Some(Value::String(name)) => HashAlgorithm::from_name(name),
            Some(other) => Err(KbsProtocolError::UnsupportedHash(shortened(
                &other.to_string(),
            ))),
        }
    }
}

/// The init-data document in `POST /attest`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitDataMessage {
    /// `toml`, the only format there is.
    pub format: String,
    /// The document, byte for byte as it was measured.
    pub body: String,
}

impl InitDataMessage {
    /// The only format.
    pub const TOML: &'static str = "toml";

    /// Wraps a TOML document.
    pub fn toml(body: String) -> Self {
        Self {
            format: Self::TOML.to_owned(),
            body,
        }
    }
}

/// What the evidence covers: the nonce and the guest's public key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuntimeData {
    /// The challenge's nonce.
    pub nonce: Nonce,
    /// The key that resources will be encrypted to.
    #[serde(rename = "tee-pubkey")]
    pub tee_pubkey: TeePublicKey,
}

/// The evidence of the CPU and of further devices.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TeeEvidence<E = Value> {
    /// Evidence of the CPU; its form depends on the TEE.
    pub primary_evidence: E,
    /// `""`, or a JSON text that maps device names to evidence.
    #[serde(default)]
    pub additional_evidence: String,
}

/// Body of `POST /attest`, with evidence of any kind or of a known one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttestRequest<E = Value> {
    /// The measured init-data document, if there is one.
    #[serde(rename = "init-data", default)]
    pub init_data: Option<InitDataMessage>,
    /// What the evidence covers.
    #[serde(rename = "runtime-data")]
    pub runtime_data: RuntimeData,
    /// The evidence.
    #[serde(rename = "tee-evidence")]
    pub tee_evidence: TeeEvidence<E>,
}

impl AttestRequest {
    /// Reads a request, whatever its evidence is.
    pub fn parse(body: &[u8]) -> Result<Self, KbsProtocolError> {
        Self::parse_as(body)
    }
}

impl<E: DeserializeOwned> AttestRequest<E> {
    /// Reads a request with evidence of this kind, which costs less than to read
    /// any evidence first.
    pub fn parse_as(body: &[u8]) -> Result<Self, KbsProtocolError> {
        parse_json(body, MessageKind::AttestRequest, MAX_REQUEST_BYTES)
    }
}

/// Answer to `POST /attest`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttestResponse {
    /// The attestation token, a compact JWT.
    pub token: String,
}

impl AttestResponse {
    /// Reads an answer.
    pub fn parse(body: &[u8]) -> Result<Self, KbsProtocolError> {
        let response: Self = parse_json(body, MessageKind::AttestResponse, MAX_RESPONSE_BYTES)?;
        if response.token.len() > MAX_TOKEN_BYTES {
            return Err(KbsProtocolError::MalformedToken("it is too long"));
        }
        // The token goes into a header: nothing but base64url and dots may pass.
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if response.token.is_empty() || !response.token.bytes().all(plain) {
            return Err(KbsProtocolError::MalformedToken("it is not a compact JWT"));
        }
        Ok(response)
    }
}

impl std::fmt::Debug for AttestResponse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AttestResponse { token: .. }")
    }
}

/// Reads JSON of bounded size. Nesting is bounded by `serde_json` (128 levels).
pub(crate) fn parse_json<T: DeserializeOwned>(
    body: &[u8],
    message: MessageKind,
    limit_bytes: usize,
) -> Result<T, KbsProtocolError> {
    if body.len() > limit_bytes {
        return Err(KbsProtocolError::MessageTooLarge {
            message,
            size_bytes: body.len(),
            limit_bytes,
        });
    }
    serde_json::from_slice(body)
        .map_err(|source| KbsProtocolError::MalformedMessage { message, source })
}
