//! Places of images on the command line.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use oci_spec::distribution::Reference;

use crate::errors::ImageError;

/// Where an image is or goes, as other tools spell it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageLocation {
    /// `oci:DIR[:TAG]`: a directory in OCI layout.
    Layout {
        /// The directory.
        path: PathBuf,
        /// The image in it, when it has several.
        tag: Option<String>,
    },
    /// `docker://HOST[:PORT]/NAME[:TAG]`: a registry.
    Registry {
        /// Host and port.
        registry: String,
        /// The repository.
        repository: String,
        /// The tag; none when only the digest shall name the image.
        tag: Option<String>,
    },
}

impl FromStr for ImageLocation {
    type Err = ImageError;

    fn from_str(text: &str) -> Result<Self, ImageError> {
        let invalid = |reason| ImageError::Location {
            text: text.to_owned(),
            reason,
        };
        if let Some(rest) = text.strip_prefix("oci:") {
            let (path, tag) = match rest.rsplit_once(':') {
                Some((path, tag)) if !tag.contains('/') => (path, Some(tag.to_owned())),
                _ => (rest, None),
            };
            if path.is_empty() || tag.as_deref() == Some("") {
                return Err(invalid("write oci:DIR or oci:DIR:TAG"));
            }
            return Ok(Self::Layout {
                path: path.into(),
                tag,
            });
        }
        if let Some(rest) = text.strip_prefix("docker://") {
            let reference: Reference = rest
                .parse()
                .map_err(|_| invalid("write docker://HOST:PORT/NAME:TAG"))?;
            if reference.digest().is_some() {
                return Err(invalid("a place to push to has no digest"));
            }
            return Ok(Self::Registry {
                registry: reference.resolve_registry().to_owned(),
                repository: reference.repository().to_owned(),
                tag: reference.tag().map(str::to_owned),
            });
        }
        Err(invalid("it must begin with oci: or docker://"))
    }
}

impl fmt::Display for ImageLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tag = match self {
            Self::Layout { path, tag } => {
                write!(f, "oci:{}", path.display())?;
                tag
            }
            Self::Registry {
                registry,
                repository,
                tag,
            } => {
                write!(f, "docker://{registry}/{repository}")?;
                tag
            }
        };
        tag.as_ref().map_or(Ok(()), |tag| write!(f, ":{tag}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_as_other_tools_write_them() {
        for (text, shown) in [
            ("oci:dir", "oci:dir"),
            ("oci:/a/b:v1", "oci:/a/b:v1"),
            ("oci:/a:b/c", "oci:/a:b/c"),
            (
                "docker://10.0.0.1:5000/app:v1",
                "docker://10.0.0.1:5000/app:v1",
            ),
            (
                "docker://localhost:5000/a/b",
                "docker://localhost:5000/a/b:latest",
            ),
        ] {
            let location: ImageLocation = text.parse().unwrap();
            assert_eq!(location.to_string(), shown);
        }
    }

    #[test]
    fn other_places_are_refused_with_the_right_spelling() {
        for text in [
            "",
            "oci:",
            "oci:dir:",
            "dir",
            "docker://",
            "docker-archive:x",
            "docker://host/UP",
        ] {
            assert!(
                matches!(
                    text.parse::<ImageLocation>(),
                    Err(ImageError::Location { .. })
                ),
                "{text}"
            );
        }
    }
}
