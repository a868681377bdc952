//! Names of archive entries, checked and taken apart.

use crate::errors::{EntryProblem, ImageError};
use crate::options::{AbsoluteNames, UnpackOptions};

/// A component of a path is at most this long on every file system.
const MAX_COMPONENT_BYTES: usize = 255;

/// A name inside the layer: components without empty ones, "." and "..".
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EntryName {
    components: Vec<Component>,
}

/// One step of a path, without separators.
pub(crate) type Component = Box<[u8]>;

impl EntryName {
    /// Checks the name of an entry.
    pub(crate) fn parse(name: &[u8], options: &UnpackOptions) -> Result<Self, EntryProblem> {
        let parsed = Self::clean(name, options, EntryProblem::Traversal)?;
        let absolute = name.starts_with(b"/") && !parsed.components.is_empty();
        if absolute && options.absolute_names == AbsoluteNames::Refuse {
            return Err(EntryProblem::AbsoluteName);
        }
        Ok(parsed)
    }

    /// Checks the target of a hard link; absolute ones begin at the layer's root.
    pub(crate) fn parse_target(name: &[u8], options: &UnpackOptions) -> Result<Self, EntryProblem> {
        Self::clean(name, options, EntryProblem::HardLinkEscape)
    }

    fn clean(
        name: &[u8],
        options: &UnpackOptions,
        traversal: EntryProblem,
    ) -> Result<Self, EntryProblem> {
        if name.is_empty() || name.contains(&0) {
            return Err(EntryProblem::InvalidName);
        }
        if name.len() > options.max_path_bytes {
            return Err(EntryProblem::NameTooLong);
        }
        let mut components = Vec::new();
        for component in name.split(|&byte| byte == b'/') {
            match component {
                b"" | b"." => {}
                b".." => return Err(traversal),
                _ if component.len() > MAX_COMPONENT_BYTES => {
                    return Err(EntryProblem::NameTooLong);
                }
                _ => components.push(component.into()),
            }
        }
        if components.len() > options.max_path_depth {
            return Err(EntryProblem::NameTooLong);
        }
        Ok(Self { components })
    }

    /// The directory's components and the last one; `None` for the root.
    pub(crate) fn split(&self) -> Option<(&[Component], &[u8])> {
        self.components
            .split_last()
            .map(|(last, parent)| (parent, &**last))
    }

    /// The name as one relative path; "." for the root.
    pub(crate) fn joined(&self) -> Vec<u8> {
        join(&self.components)
    }
}

pub(crate) fn join(components: &[Component]) -> Vec<u8> {
    if components.is_empty() {
        b".".to_vec()
    } else {
        components.join(&b'/')
    }
}

/// An error that names the entry, printable and of bounded length.
pub(crate) fn entry_error(name: &[u8], reason: EntryProblem) -> ImageError {
    ImageError::Entry {
        path: printable(name),
        reason,
    }
}

pub(crate) fn printable(name: &[u8]) -> String {
    const SHOWN: usize = 200;
    let text = String::from_utf8_lossy(&name[..name.len().min(SHOWN)]);
    let mut text = redoubt_errors::flatten(&text);
    if name.len() > SHOWN {
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(name: &[u8]) -> Result<Vec<u8>, EntryProblem> {
        EntryName::parse(name, &UnpackOptions::default()).map(|name| name.joined())
    }

    #[test]
    fn names_are_cleaned() {
        assert_eq!(parse(b"./usr//bin/./sh"), Ok(b"usr/bin/sh".to_vec()));
        assert_eq!(parse(b"usr/"), Ok(b"usr".to_vec()));
        assert_eq!(parse(b"./"), Ok(b".".to_vec()));
        assert_eq!(parse(b"/"), Ok(b".".to_vec()));
        assert_eq!(parse(b"..data/x"), Ok(b"..data/x".to_vec()));
    }

    #[test]
    fn names_that_could_leave_are_refused() {
        for name in [&b".."[..], b"../x", b"a/../b", b"a/..", b"/../x"] {
            assert_eq!(parse(name), Err(EntryProblem::Traversal));
        }
        assert_eq!(parse(b"/etc/passwd"), Err(EntryProblem::AbsoluteName));
        let inside = UnpackOptions {
            absolute_names: AbsoluteNames::InsideRoot,
            ..UnpackOptions::default()
        };
        assert_eq!(EntryName::parse(b"/etc", &inside).unwrap().joined(), b"etc");
    }

    #[test]
    fn oversized_and_impossible_names_are_refused() {
        assert_eq!(parse(b""), Err(EntryProblem::InvalidName));
        assert_eq!(parse(b"a\0b"), Err(EntryProblem::InvalidName));
        assert_eq!(parse(&[b'a'; 256]), Err(EntryProblem::NameTooLong));
        assert_eq!(
            parse("a/".repeat(257).as_bytes()),
            Err(EntryProblem::NameTooLong)
        );
        assert_eq!(
            parse("a/".repeat(3000).as_bytes()),
            Err(EntryProblem::NameTooLong)
        );
    }

    proptest! {
        #[test]
        fn a_checked_name_never_leaves(name in proptest::collection::vec(
            prop_oneof![Just(b'.'), Just(b'/'), any::<u8>()], 0..60)) {
            if let Ok(name) = parse(&name) {
                prop_assert!(!name.starts_with(b"/"));
                prop_assert!(name.split(|&byte| byte == b'/').all(|part| part != b".."));
            }
        }
    }
}
