use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::KbsProtocolError;
use crate::error::shortened;

/// The name of a resource: repository, type and tag.
///
/// Each part has 1 to 255 letters, digits, `_`, `-` and `.`, and is neither
/// `.` nor `..`, so that it is a safe file name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct ResourcePath {
    repository: String,
    kind: String,
    tag: String,
}

impl ResourcePath {
    const MAX_PART_BYTES: usize = 255;

    /// Reads `<repository>/<type>/<tag>`.
    pub fn parse(path: &str) -> Result<Self, KbsProtocolError> {
        let refuse = || KbsProtocolError::InvalidResourcePath(shortened(path));
        let mut parts = path.split('/');
        let (Some(repository), Some(kind), Some(tag), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(refuse());
        };
        if ![repository, kind, tag].into_iter().all(is_safe_part) {
            return Err(refuse());
        }
        Ok(Self {
            repository: repository.to_owned(),
            kind: kind.to_owned(),
            tag: tag.to_owned(),
        })
    }

    /// Reads `kbs://[host[:port]]/<repository>/<type>/<tag>`.
    ///
    /// A host is read and not used: a guest asks the broker that its measured
    /// configuration names, never one that an image names. Plugins
    /// (`kbs+<plugin>`) and queries are refused.
    pub fn from_uri(uri: &str) -> Result<Self, KbsProtocolError> {
        let refuse = || KbsProtocolError::InvalidResourceUri(shortened(uri));
        let rest = uri.strip_prefix("kbs://").ok_or_else(refuse)?;
        let (host, path) = rest.split_once('/').ok_or_else(refuse)?;
        let host_is_plain = host
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'[' | b']'));
        if !host_is_plain {
            return Err(refuse());
        }
        Self::parse(path).map_err(|_| refuse())
    }

    /// The repository.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The type.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The tag.
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// The parts in order, as policies see them.
    pub fn parts(&self) -> [&str; 3] {
        [&self.repository, &self.kind, &self.tag]
    }

    /// The first-class address, `kbs:///<repository>/<type>/<tag>`.
    pub fn uri(&self) -> String {
        format!("kbs:///{self}")
    }
}

fn is_safe_part(part: &str) -> bool {
    let safe = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    !part.is_empty()
        && part.len() <= ResourcePath::MAX_PART_BYTES
        && part != "."
        && part != ".."
        && part.bytes().all(safe)
}

impl fmt::Display for ResourcePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.repository, self.kind, self.tag)
    }
}

impl FromStr for ResourcePath {
    type Err = KbsProtocolError;

    fn from_str(path: &str) -> Result<Self, Self::Err> {
        Self::parse(path)
    }
}

impl TryFrom<String> for ResourcePath {
    type Error = KbsProtocolError;

    fn try_from(path: String) -> Result<Self, Self::Error> {
        Self::parse(&path)
    }
}

impl From<ResourcePath> for String {
    fn from(path: ResourcePath) -> Self {
        path.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn path_and_address_name_the_same_resource() {
        let path = ResourcePath::parse("default/image-key/my_tag.1").unwrap();
        assert_eq!(path.parts(), ["default", "image-key", "my_tag.1"]);
        assert_eq!(ResourcePath::from_uri(&path.uri()).unwrap(), path);
        let with_host = "kbs://broker.example:8080/default/image-key/my_tag.1";
        assert_eq!(ResourcePath::from_uri(with_host).unwrap(), path);
    }

    #[test]
    fn anything_but_three_safe_parts_is_refused() {
        let long = format!("a/b/{}", "c".repeat(256));
        for path in [
            "",
            "a",
            "a/b",
            "a/b/c/d",
            "/a/b/c",
            "a/b/c/",
            "a//c",
            "a/../c",
            "a/b/..",
            "./b/c",
            "a/b/c?x=1",
            "a/b/c#f",
            "a/b%2f/c",
            "a\\b/c/d",
            "a/b/c\0",
            "a/b/ü",
            "a/b/c d",
            &long,
        ] {
            let parsed = ResourcePath::parse(path);
            assert!(
                matches!(parsed, Err(KbsProtocolError::InvalidResourcePath(_))),
                "{path:?}"
            );
        }
    }

    #[test]
    fn other_addresses_are_refused() {
        for uri in [
            "kbs:/a/b/c",
            "kbs://a/b/c",
            "kbs+vault:///a/b/c",
            "KBS:///a/b/c",
            "http:///a/b/c",
            "kbs:///a/b/c?x=y",
            "kbs://user@host/a/b/c",
            "kbs:///a/b",
            "a/b/c",
            "",
        ] {
            let parsed = ResourcePath::from_uri(uri);
            assert!(
                matches!(parsed, Err(KbsProtocolError::InvalidResourceUri(_))),
                "{uri:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn whatever_parses_prints_back_and_stays_inside_a_directory(path in ".{0,40}") {
            if let Ok(parsed) = ResourcePath::parse(&path) {
                prop_assert_eq!(parsed.to_string(), path);
                let file = std::path::Path::new("/root-of-resources");
                let joined = parsed.parts().iter().fold(file.to_owned(), |dir, part| dir.join(part));
                prop_assert!(joined.components().all(|part| !matches!(
                    part, std::path::Component::ParentDir | std::path::Component::CurDir)));
                prop_assert_eq!(joined.components().count(), 5);
            }
        }
    }
}
