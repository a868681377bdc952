//! Places of images on the command line.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::errors::ImageError;
use crate::reference::AnyReference;

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
    /// `oci-archive:FILE[:TAG]`: such a directory as a tar file.
    Archive {
        /// The file.
        path: PathBuf,
        /// The image in it, when it has several.
        tag: Option<String>,
    },
    /// `docker://HOST[:PORT]/NAME[:TAG][@DIGEST]`: a registry.
    Registry(AnyReference),
}

/// `PATH[:TAG]`.
fn path_and_tag(text: &str) -> Option<(PathBuf, Option<String>)> {
    let (path, tag) = match text.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag.to_owned())),
        _ => (text, None),
    };
    let is_valid = !path.is_empty() && tag.as_deref() != Some("");
    is_valid.then(|| (path.into(), tag))
}

impl FromStr for ImageLocation {
    type Err = ImageError;

    fn from_str(text: &str) -> Result<Self, ImageError> {
        let invalid = |reason| ImageError::Location {
            text: text.to_owned(),
            reason,
        };
        if let Some(rest) = text.strip_prefix("oci:") {
            let (path, tag) =
                path_and_tag(rest).ok_or_else(|| invalid("write oci:DIR or oci:DIR:TAG"))?;
            return Ok(Self::Layout { path, tag });
        }
        if let Some(rest) = text.strip_prefix("oci-archive:") {
            let (path, tag) = path_and_tag(rest)
                .ok_or_else(|| invalid("write oci-archive:FILE or oci-archive:FILE:TAG"))?;
            return Ok(Self::Archive { path, tag });
        }
        if let Some(rest) = text.strip_prefix("docker://") {
            return AnyReference::parse(rest)
                .map(Self::Registry)
                .map_err(|_| invalid("write docker://HOST:PORT/NAME:TAG"));
        }
        Err(invalid(
            "it must begin with oci:, oci-archive: or docker://",
        ))
    }
}

impl fmt::Display for ImageLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, path, tag) = match self {
            Self::Layout { path, tag } => ("oci", path, tag),
            Self::Archive { path, tag } => ("oci-archive", path, tag),
            Self::Registry(reference) => return write!(f, "docker://{reference}"),
        };
        write!(f, "{scheme}:{}", path.display())?;
        tag.as_ref().map_or(Ok(()), |tag| write!(f, ":{tag}"))
    }
}

impl ImageLocation {
    /// Host and port of the registry, if it is one.
    pub fn registry(&self) -> Option<&str> {
        match self {
            Self::Registry(reference) => Some(reference.registry()),
            Self::Layout { .. } | Self::Archive { .. } => None,
        }
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
            ("oci-archive:a.tar:v1", "oci-archive:a.tar:v1"),
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
            "oci-archive:",
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
