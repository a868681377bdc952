//! Identifiers that become a directory name.

use std::fmt;

use crate::error::SandboxError;

/// Longest identifier, in bytes: containerd's own limit. With it every socket of
/// the state directory stays below the 108 bytes of a unix socket path.
const MAX_LEN: usize = 76;

/// A sandbox's identifier, known to be a safe directory name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SandboxId(String);

impl SandboxId {
    /// Checks an identifier from outside.
    pub fn new(id: &str) -> Result<Self, SandboxError> {
        let safe = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let starts_well = id
            .bytes()
            .next()
            .is_some_and(|byte| byte.is_ascii_alphanumeric());
        if id.len() <= MAX_LEN && starts_well && id.bytes().all(safe) {
            Ok(Self(id.to_owned()))
        } else {
            Err(SandboxError::BadId(id.chars().take(MAX_LEN + 1).collect()))
        }
    }

    /// The identifier as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SandboxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_containerd_and_kubernetes_pass() {
        for id in [
            "demo",
            "a",
            "Pod_1.2-x",
            &"0123456789abcdef".repeat(4),
            &"a".repeat(76),
        ] {
            assert_eq!(SandboxId::new(id).unwrap().as_str(), id);
        }
    }

    #[test]
    fn ids_that_could_leave_the_state_root_are_refused() {
        for id in [
            "",
            ".",
            "..",
            "../x",
            "a/b",
            ".hidden",
            "-rf",
            "a b",
            "a\0b",
            "ä",
            &"a".repeat(77),
        ] {
            assert!(
                matches!(SandboxId::new(id), Err(SandboxError::BadId(_))),
                "{id:?}"
            );
        }
    }
}
