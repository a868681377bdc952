//! Media types of OCI layers (image-spec, layer.md; `+encrypted` by ocicrypt).

use std::fmt;

/// How a layer's archive is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compression {
    /// A bare archive.
    None,
    /// gzip, one or more members.
    Gzip,
    /// Zstandard, one or more frames.
    Zstd,
}

/// A layer's media type, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LayerMediaType {
    /// The compression, below the encryption.
    pub compression: Compression,
    /// Whether the blob is encrypted.
    pub encrypted: bool,
    /// Whether the deprecated `nondistributable` form is used.
    pub nondistributable: bool,
}

const DISTRIBUTABLE: &str = "application/vnd.oci.image.layer.v1.tar";
const NONDISTRIBUTABLE: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar";

impl LayerMediaType {
    /// Reads a media type; `None` for anything that is not an OCI layer.
    pub fn parse(text: &str) -> Option<Self> {
        let (nondistributable, suffixes) = match text.strip_prefix(NONDISTRIBUTABLE) {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix(DISTRIBUTABLE)?),
        };
        let (suffixes, encrypted) = match suffixes.strip_suffix("+encrypted") {
            Some(rest) => (rest, true),
            None => (suffixes, false),
        };
        let compression = match suffixes {
            "" => Compression::None,
            "+gzip" => Compression::Gzip,
            "+zstd" => Compression::Zstd,
            _ => return None,
        };
        Some(Self {
            compression,
            encrypted,
            nondistributable,
        })
    }

    /// The same layer, encrypted or not.
    #[must_use]
    pub const fn with_encryption(self, encrypted: bool) -> Self {
        Self { encrypted, ..self }
    }
}

impl fmt::Display for LayerMediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.nondistributable {
            NONDISTRIBUTABLE
        } else {
            DISTRIBUTABLE
        })?;
        f.write_str(match self.compression {
            Compression::None => "",
            Compression::Gzip => "+gzip",
            Compression::Zstd => "+zstd",
        })?;
        f.write_str(if self.encrypted { "+encrypted" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_oci_layer_type_round_trips() {
        for base in [DISTRIBUTABLE, NONDISTRIBUTABLE] {
            for compression in ["", "+gzip", "+zstd"] {
                for encryption in ["", "+encrypted"] {
                    let text = format!("{base}{compression}{encryption}");
                    let parsed = LayerMediaType::parse(&text).unwrap();
                    assert_eq!(parsed.to_string(), text);
                    assert_eq!(parsed.encrypted, !encryption.is_empty());
                }
            }
        }
    }

    #[test]
    fn other_types_are_not_layers() {
        for text in [
            "",
            "application/vnd.oci.image.layer.v1.tar+encrypted+gzip",
            "application/vnd.oci.image.layer.v1.tar+gzip+encrypted+encrypted",
            "application/vnd.oci.image.layer.v1.tar+bzip2",
            "application/vnd.oci.image.config.v1+json",
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
        ] {
            assert_eq!(LayerMediaType::parse(text), None, "{text}");
        }
    }
}
