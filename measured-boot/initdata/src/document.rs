//! The document: text, algorithm and entries.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256, Sha384, Sha512};

use crate::error::InitdataError;
use crate::gzip::MAX_DOCUMENT_BYTES;
use crate::{annotation, disk, render};

/// The only version of the document format.
pub const VERSION: &str = "0.1.0";

/// The hash that makes the document's digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// SHA-256, which fills `HOST_DATA` exactly.
    Sha256,
    /// SHA-384, which fills `MRCONFIGID` exactly.
    Sha384,
    /// SHA-512, always truncated.
    Sha512,
}

impl Algorithm {
    /// The digest of a document's bytes in its full length.
    pub fn digest(self, document: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha256 => Sha256::digest(document).to_vec(),
            Self::Sha384 => Sha384::digest(document).to_vec(),
            Self::Sha512 => Sha512::digest(document).to_vec(),
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        })
    }
}

impl FromStr for Algorithm {
    type Err = InitdataError;

    fn from_str(name: &str) -> Result<Self, InitdataError> {
        match name {
            "sha256" => Ok(Self::Sha256),
            "sha384" => Ok(Self::Sha384),
            "sha512" => Ok(Self::Sha512),
            _ => Err(InitdataError::Algorithm {
                algorithm: name.to_owned(),
            }),
        }
    }
}

/// A checked initdata document. Its digest covers the text exactly as it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Initdata {
    text: String,
    algorithm: Algorithm,
    entries: BTreeMap<String, String>,
}

/// The document's fields; what else it holds is covered by the digest and not used.
#[derive(Deserialize)]
struct Fields {
    version: String,
    algorithm: String,
    #[serde(default)]
    data: BTreeMap<String, String>,
}

impl Initdata {
    /// Reads a document's text.
    pub fn parse_toml(document: &[u8]) -> Result<Self, InitdataError> {
        if document.len() > MAX_DOCUMENT_BYTES {
            return Err(InitdataError::DocumentTooLarge);
        }
        let text = std::str::from_utf8(document).map_err(|error| InitdataError::NotText {
            offset: error.valid_up_to(),
        })?;
        let fields: Fields = toml::from_str(text).map_err(|error| toml_error(text, &error))?;
        if fields.version != VERSION {
            return Err(InitdataError::Version {
                version: fields.version,
            });
        }
        fields.data.keys().try_for_each(|name| check_name(name))?;
        Ok(Self {
            algorithm: fields.algorithm.parse()?,
            entries: fields.data,
            text: text.to_owned(),
        })
    }

    /// Writes a document with these entries.
    pub fn build(
        algorithm: Algorithm,
        entries: BTreeMap<String, String>,
    ) -> Result<Self, InitdataError> {
        entries.keys().try_for_each(|name| check_name(name))?;
        let text = render::document(algorithm, &entries);
        if text.len() > MAX_DOCUMENT_BYTES {
            return Err(InitdataError::DocumentTooLarge);
        }
        Ok(Self {
            text,
            algorithm,
            entries,
        })
    }

    /// The document's bytes, which the digest covers.
    pub fn toml_bytes(&self) -> &[u8] {
        self.text.as_bytes()
    }

    /// The document's text.
    pub fn toml_text(&self) -> &str {
        &self.text
    }

    /// The hash that makes the digest.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The entry with this name.
    pub fn entry(&self, name: &str) -> Option<&str> {
        self.entries.get(name).map(String::as_str)
    }

    /// All entries by name.
    pub fn entries(&self) -> &BTreeMap<String, String> {
        &self.entries
    }

    /// The digest in its full length.
    pub fn digest(&self) -> Vec<u8> {
        self.algorithm.digest(self.toml_bytes())
    }

    /// The digest as SEV-SNP reports it in `HOST_DATA`: cut or padded with zeros to 32 bytes.
    pub fn host_data(&self) -> [u8; 32] {
        fitted(&self.digest())
    }

    /// The digest as TDX reports it in `MRCONFIGID`: cut or padded with zeros to 48 bytes.
    pub fn mr_config_id(&self) -> [u8; 48] {
        fitted(&self.digest())
    }

    /// The annotation's value, if it stays within what Kubernetes allows.
    pub fn to_annotation(&self) -> Result<String, InitdataError> {
        annotation::encode(self.toml_bytes())
    }

    /// Reads an annotation's value.
    pub fn from_annotation(value: &str) -> Result<Self, InitdataError> {
        Self::parse_toml(&annotation::decode(value)?)
    }

    /// The disk image for the guest.
    pub fn to_disk_image(&self) -> Vec<u8> {
        disk::pack(self.toml_bytes())
    }

    /// Reads a disk image.
    pub fn from_disk_image(image: &[u8]) -> Result<Self, InitdataError> {
        Self::parse_toml(&disk::unpack(image)?)
    }
}

/// Entries become files in the guest, so that a name must not lead elsewhere.
fn check_name(name: &str) -> Result<(), InitdataError> {
    let plain = !matches!(name, "" | "." | "..")
        && name.len() <= 255
        && !name.chars().any(|c| c == '/' || c.is_control());
    if plain {
        Ok(())
    } else {
        Err(InitdataError::EntryName {
            name: name.to_owned(),
        })
    }
}

/// A digest as a TEE's field of `N` bytes holds it: cut, or padded with zeros.
pub fn fitted<const N: usize>(digest: &[u8]) -> [u8; N] {
    let mut field = [0; N];
    field
        .iter_mut()
        .zip(digest)
        .for_each(|(to, from)| *to = *from);
    field
}

fn toml_error(text: &str, error: &toml::de::Error) -> InitdataError {
    let at = error.span().map_or(0, |span| span.start);
    let before = text.get(..at).unwrap_or(text);
    InitdataError::Toml {
        line: before.matches('\n').count() + 1,
        message: error.message().to_owned(),
    }
}
