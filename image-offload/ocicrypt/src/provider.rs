//! Provider packets: private options wrapped with a key of the key broker.
//!
//! Version 1 has `kid`, `wrapped_data`, `iv` and `wrap_type`; version 2 adds
//! `version` (`0.1.0`), `provider`, `provider_settings` and `annotations`.
//! Only the provider `kbs` hands out the wrapping key itself; the others
//! unwrap in a key-management service.

use aes::Aes256;
use aes_gcm::aead::{Aead, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce};
use ctr::Ctr128BE;
use ctr::cipher::{KeyIvInit, StreamCipher};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::base64_text;
use crate::errors::OcicryptError;
use crate::options::{MAX_DOCUMENT_BYTES, PrivateOptions};

/// How a packet's private options are wrapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WrapType {
    /// AES-256-GCM: 12-byte nonce, 16-byte tag at the end.
    #[serde(rename = "A256GCM")]
    A256Gcm,
    /// AES-256-CTR: 16-byte counter block, no integrity of its own.
    #[serde(rename = "A256CTR")]
    A256Ctr,
}

/// Which form of the packet is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PacketVersion {
    /// Without a version; every reader knows it.
    #[default]
    V1,
    /// Version `0.1.0`, which names its provider.
    V2,
}

/// A layer's private options wrapped with the broker key `kid`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderPacket {
    kid: String,
    wrapped: Vec<u8>,
    iv: Vec<u8>,
    wrap_type: WrapType,
}

#[derive(Serialize, Deserialize)]
struct PacketDocument {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    provider: Option<String>,
    kid: String,
    wrapped_data: String,
    #[serde(default)]
    iv: Option<String>,
    #[serde(default)]
    wrap_type: Option<WrapType>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    provider_settings: Option<serde_json::Map<String, serde_json::Value>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    annotations: Option<serde_json::Map<String, serde_json::Value>>,
}

/// Longest key id: a path of three short segments needs far less.
const MAX_KID_BYTES: usize = 1024;
const PACKET_VERSION: &str = "0.1.0";
const BROKER: &str = "kbs";

impl ProviderPacket {
    /// Reads the JSON document of either version.
    pub fn parse(json: &[u8]) -> Result<Self, OcicryptError> {
        let invalid = |reason| OcicryptError::PacketInvalid { reason };
        if json.len() > 4 * MAX_DOCUMENT_BYTES {
            return Err(invalid("too large"));
        }
        let document: PacketDocument =
            serde_json::from_slice(json).map_err(|_| invalid("not the expected JSON"))?;
        match (document.version.as_deref(), document.provider.as_deref()) {
            (None, None) | (Some(PACKET_VERSION), Some(BROKER)) => {}
            (Some(PACKET_VERSION), Some(provider)) => {
                let provider = provider.chars().take(64).collect();
                return Err(OcicryptError::UnknownProvider { provider });
            }
            (Some(PACKET_VERSION), None) => return Err(invalid("no provider")),
            (Some(_), _) => return Err(invalid("unknown version")),
            (None, Some(_)) => return Err(invalid("a provider without a version")),
        }
        if document.kid.is_empty() || document.kid.len() > MAX_KID_BYTES {
            return Err(invalid("the key id is empty or too long"));
        }
        if document.kid.chars().any(char::is_control) {
            return Err(invalid("the key id has control characters"));
        }
        let wrap_type = document.wrap_type.ok_or_else(|| invalid("no wrap_type"))?;
        let iv = document
            .iv
            .as_deref()
            .and_then(base64_text::decode)
            .ok_or_else(|| invalid("no iv in base64"))?;
        let iv_length = match wrap_type {
            WrapType::A256Gcm => 12,
            WrapType::A256Ctr => 16,
        };
        if iv.len() != iv_length {
            return Err(invalid("the iv has the wrong length for its wrap_type"));
        }
        let wrapped = base64_text::decode(&document.wrapped_data)
            .ok_or_else(|| invalid("wrapped_data is not base64"))?;
        if wrapped.is_empty() || wrapped.len() > MAX_DOCUMENT_BYTES + 16 {
            return Err(invalid("wrapped_data is empty or too large"));
        }
        Ok(Self {
            kid: document.kid,
            wrapped: wrapped.to_vec(),
            iv: iv.to_vec(),
            wrap_type,
        })
    }

    /// Writes the JSON document.
    pub fn to_json(&self, version: PacketVersion) -> Result<Vec<u8>, OcicryptError> {
        let is_v2 = version == PacketVersion::V2;
        serde_json::to_vec(&PacketDocument {
            version: is_v2.then(|| PACKET_VERSION.to_owned()),
            provider: is_v2.then(|| BROKER.to_owned()),
            provider_settings: is_v2.then(serde_json::Map::new),
            annotations: is_v2.then(serde_json::Map::new),
            kid: self.kid.clone(),
            wrapped_data: base64_text::encode(&self.wrapped),
            iv: Some(base64_text::encode(&self.iv)),
            wrap_type: Some(self.wrap_type),
        })
        .map_err(|_| OcicryptError::PacketInvalid {
            reason: "cannot be written",
        })
    }

    /// Wraps private options with AES-256-GCM.
    pub fn wrap(kid: &str, key: &[u8], private: &PrivateOptions) -> Result<Self, OcicryptError> {
        let key = broker_key(kid, key)?;
        let mut iv = [0; 12];
        getrandom::fill(&mut iv).map_err(|_| OcicryptError::Random)?;
        let wrapped = Aes256Gcm::new(&(*key).into())
            .encrypt(&Nonce::from(iv), private.to_json().as_slice())
            .map_err(|_| OcicryptError::PacketInvalid {
                reason: "too large to wrap",
            })?;
        Ok(Self {
            kid: kid.to_owned(),
            wrapped,
            iv: iv.to_vec(),
            wrap_type: WrapType::A256Gcm,
        })
    }

    /// Opens the packet with the key that [`ProviderPacket::kid`] names.
    pub fn unwrap(&self, key: &[u8]) -> Result<PrivateOptions, OcicryptError> {
        let key = broker_key(&self.kid, key)?;
        let wrong_key = || OcicryptError::WrongKey {
            kid: self.kid.clone(),
        };
        let opened = match self.wrap_type {
            WrapType::A256Gcm => {
                let iv = <[u8; 12]>::try_from(self.iv.as_slice()).map_err(|_| wrong_key())?;
                let opened = Aes256Gcm::new(&(*key).into())
                    .decrypt(&Nonce::from(iv), self.wrapped.as_slice())
                    .map_err(|_| wrong_key())?;
                Zeroizing::new(opened)
            }
            WrapType::A256Ctr => {
                let iv = <[u8; 16]>::try_from(self.iv.as_slice()).map_err(|_| wrong_key())?;
                let mut opened = Zeroizing::new(self.wrapped.clone());
                Ctr128BE::<Aes256>::new(&(*key).into(), &iv.into()).apply_keystream(&mut opened);
                opened
            }
        };
        // Counter mode cannot tell a wrong key; unreadable options can.
        PrivateOptions::parse(&opened).map_err(|error| match self.wrap_type {
            WrapType::A256Gcm => error,
            WrapType::A256Ctr => wrong_key(),
        })
    }

    /// The id of the wrapping key, such as `kbs:///repo/type/tag`.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// How the private options are wrapped.
    pub const fn wrap_type(&self) -> WrapType {
        self.wrap_type
    }
}

fn broker_key(kid: &str, key: &[u8]) -> Result<Zeroizing<[u8; 32]>, OcicryptError> {
    <[u8; 32]>::try_from(key)
        .map(Zeroizing::new)
        .map_err(|_| OcicryptError::KeyLength {
            kid: kid.to_owned(),
            length: key.len(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cipher::LayerEncryptor;

    const KID: &str = "kbs:///default/key/1";

    fn private() -> PrivateOptions {
        LayerEncryptor::generate().unwrap().finish().private
    }

    #[test]
    fn a_packet_opens_with_its_key_only() {
        let private = private();
        let packet = ProviderPacket::wrap(KID, &[5; 32], &private).unwrap();
        for version in [PacketVersion::V1, PacketVersion::V2] {
            let read = ProviderPacket::parse(&packet.to_json(version).unwrap()).unwrap();
            assert_eq!(read, packet);
        }
        assert_eq!(packet.kid(), KID);
        assert_eq!(
            *packet.unwrap(&[5; 32]).unwrap().to_json(),
            *private.to_json()
        );
        assert_eq!(
            packet.unwrap(&[6; 32]).unwrap_err(),
            OcicryptError::WrongKey {
                kid: KID.to_owned()
            }
        );
        assert_eq!(
            packet.unwrap(&[5; 31]).unwrap_err(),
            OcicryptError::KeyLength {
                kid: KID.to_owned(),
                length: 31
            }
        );
    }

    #[test]
    fn a_counter_mode_packet_reports_a_wrong_key() {
        let private = private();
        let mut wrapped = private.to_json().to_vec();
        Ctr128BE::<Aes256>::new(&[5; 32].into(), &[1; 16].into()).apply_keystream(&mut wrapped);
        let packet = ProviderPacket {
            kid: KID.to_owned(),
            wrapped,
            iv: vec![1; 16],
            wrap_type: WrapType::A256Ctr,
        };
        assert_eq!(
            *packet.unwrap(&[5; 32]).unwrap().to_json(),
            *private.to_json()
        );
        assert!(matches!(
            packet.unwrap(&[6; 32]),
            Err(OcicryptError::WrongKey { .. })
        ));
    }

    fn parse(json: &str) -> Result<ProviderPacket, OcicryptError> {
        ProviderPacket::parse(json.as_bytes())
    }

    #[test]
    fn version_two_is_read_for_the_broker_and_refused_for_others() {
        let rest =
            r#""kid":"k","wrapped_data":"AAAA","iv":"AAAAAAAAAAAAAAAA","wrap_type":"A256GCM""#;
        assert!(parse(&format!(
            r#"{{"version":"0.1.0","provider":"kbs","provider_settings":{{}},"annotations":{{}},{rest}}}"#
        ))
        .is_ok());
        assert_eq!(
            parse(&format!(
                r#"{{"version":"0.1.0","provider":"aliyun",{rest}}}"#
            )),
            Err(OcicryptError::UnknownProvider {
                provider: "aliyun".to_owned()
            })
        );
        assert!(parse(&format!(r#"{{"version":"0.2.0","provider":"kbs",{rest}}}"#)).is_err());
        assert!(parse(&format!(r#"{{"provider":"kbs",{rest}}}"#)).is_err());
    }

    #[test]
    fn malformed_packets_are_refused() {
        for json in [
            "",
            "[]",
            r#"{"kid":"k"}"#,
            r#"{"kid":"","wrapped_data":"AAAA","iv":"AAAAAAAAAAAAAAAA","wrap_type":"A256GCM"}"#,
            r#"{"kid":"a\nb","wrapped_data":"AAAA","iv":"AAAAAAAAAAAAAAAA","wrap_type":"A256GCM"}"#,
            r#"{"kid":"k","wrapped_data":"","iv":"AAAAAAAAAAAAAAAA","wrap_type":"A256GCM"}"#,
            r#"{"kid":"k","wrapped_data":"AAAA","iv":"AAAA","wrap_type":"A256GCM"}"#,
            r#"{"kid":"k","wrapped_data":"AAAA","iv":"AAAAAAAAAAAAAAAA","wrap_type":"A256CTR"}"#,
            r#"{"kid":"k","wrapped_data":"AAAA","iv":"AAAAAAAAAAAAAAAA","wrap_type":"A128GCM"}"#,
            r#"{"kid":"k","wrapped_data":"AAAA","iv":"AAAAAAAAAAAAAAAA"}"#,
            r#"{"kid":"k","wrapped_data":"A*AA","iv":"AAAAAAAAAAAAAAAA","wrap_type":"A256GCM"}"#,
        ] {
            assert!(parse(json).is_err(), "{json}");
        }
    }
}
