//! Image references that pin a digest.

use std::fmt;

use oci_spec::distribution::Reference;

use crate::digest::Digest;
use crate::errors::ImageError;
use crate::signature::ImageIdentity;

/// `registry/name@sha256:…`, with or without a tag, which is not looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageReference {
    registry: String,
    repository: String,
    digest: Digest,
}

impl ImageReference {
    /// Reads a reference; one that pins no digest is refused.
    ///
    /// `docker.io` and `library/` are filled in as Docker does.
    pub fn parse(text: &str) -> Result<Self, ImageError> {
        let shown: String = text.chars().take(300).collect();
        let invalid = |reason: String| ImageError::ReferenceInvalid {
            reference: shown.clone(),
            reason,
        };
        if text.len() > 4096 {
            return Err(invalid("too long".to_owned()));
        }
        let reference: Reference = text.parse().map_err(|error| invalid(format!("{error}")))?;
        let digest = reference
            .digest()
            .ok_or_else(|| ImageError::ReferenceNotPinned {
                reference: shown.clone(),
            })?
            .parse()?;
        Ok(Self {
            registry: reference.resolve_registry().to_owned(),
            repository: reference.repository().to_owned(),
            digest,
        })
    }

    /// The same repository, another digest.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self {
            digest,
            ..self.clone()
        }
    }

    /// Host and port of the registry.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository in the registry.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The pinned digest.
    pub const fn digest(&self) -> Digest {
        self.digest
    }
}

/// A reference that may name an image by its tag alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnyReference {
    /// By digest.
    Pinned(ImageReference),
    /// By tag: which image that is, the registry decides.
    Tagged {
        /// Host and port of the registry.
        registry: String,
        /// The repository in the registry.
        repository: String,
        /// The tag.
        tag: String,
    },
}

impl AnyReference {
    /// Reads a reference; without tag and digest it means the tag `latest`.
    pub fn parse(text: &str) -> Result<Self, ImageError> {
        match ImageReference::parse(text) {
            Ok(pinned) => Ok(Self::Pinned(pinned)),
            Err(ImageError::ReferenceNotPinned { reference }) => {
                let parsed: Reference =
                    text.parse().map_err(|_| ImageError::ReferenceNotPinned {
                        reference: reference.clone(),
                    })?;
                Ok(Self::Tagged {
                    registry: parsed.resolve_registry().to_owned(),
                    repository: parsed.repository().to_owned(),
                    tag: parsed.tag().unwrap_or("latest").to_owned(),
                })
            }
            Err(error) => Err(error),
        }
    }

    /// Host and port of the registry.
    pub fn registry(&self) -> &str {
        match self {
            Self::Pinned(pinned) => pinned.registry(),
            Self::Tagged { registry, .. } => registry,
        }
    }

    /// The repository in the registry.
    pub fn repository(&self) -> &str {
        match self {
            Self::Pinned(pinned) => pinned.repository(),
            Self::Tagged { repository, .. } => repository,
        }
    }

    /// The name that signature policies know it by.
    pub fn identity(&self) -> ImageIdentity {
        match self {
            Self::Pinned(pinned) => ImageIdentity::of(pinned),
            Self::Tagged {
                registry,
                repository,
                tag,
            } => ImageIdentity::tagged(registry, repository, tag),
        }
    }
}

impl fmt::Display for AnyReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pinned(pinned) => pinned.fmt(f),
            Self::Tagged {
                registry,
                repository,
                tag,
            } => write!(f, "{registry}/{repository}:{tag}"),
        }
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}@{}", self.registry, self.repository, self.digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn a_pinned_reference_is_taken_apart() {
        for (text, registry, repository) in [
            (
                "registry.example:5000/a/b:v1@",
                "registry.example:5000",
                "a/b",
            ),
            ("10.0.0.1:5000/app@", "10.0.0.1:5000", "app"),
            ("busybox@", "index.docker.io", "library/busybox"),
            ("localhost:5000/app@", "localhost:5000", "app"),
        ] {
            let reference = ImageReference::parse(&format!("{text}{DIGEST}")).unwrap();
            assert_eq!(reference.registry(), registry);
            assert_eq!(reference.repository(), repository);
            assert_eq!(reference.digest().to_string(), DIGEST);
        }
    }

    #[test]
    fn a_reference_without_a_digest_is_refused_by_name() {
        for text in [
            "busybox",
            "registry.example/app:v1",
            "localhost:5000/app:latest",
        ] {
            assert!(
                matches!(
                    ImageReference::parse(text),
                    Err(ImageError::ReferenceNotPinned { .. })
                ),
                "{text}"
            );
        }
    }

    #[test]
    fn malformed_references_are_refused() {
        for text in [
            "",
            "UPPER/Case@sha256:00",
            "a b@sha256:00",
            "x@sha256:12",
            "x@md5:1234",
        ] {
            assert!(ImageReference::parse(text).is_err(), "{text}");
        }
        let long = format!("{}@{DIGEST}", "a".repeat(5000));
        assert!(ImageReference::parse(&long).is_err());
    }
}
