//! Names that operators give: of tenants, policies and sets of reference values.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Longest name, in bytes.
const MAX_NAME_BYTES: usize = 63;

/// A name that is safe in a path, a database key and a log: it begins with a
/// letter or digit, and letters, digits, `_`, `-` and `.` follow.
fn is_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    text.len() <= MAX_NAME_BYTES
        && text
            .as_bytes()
            .first()
            .is_some_and(u8::is_ascii_alphanumeric)
        && text.bytes().all(plain)
}

macro_rules! name_type {
    ($(#[$attribute:meta])* $name:ident) => {
        $(#[$attribute])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(into = "String", try_from = "String")]
        pub struct $name(String);

        impl $name {
            /// Takes 1 to 63 letters, digits, `_`, `-` and `.`, beginning with a letter or digit.
            pub fn parse(text: &str) -> Option<Self> {
                is_name(text).then(|| Self(text.to_owned()))
            }

            /// The name.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = &'static str;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                Self::parse(&text)
                    .ok_or("a name has 1 to 63 letters, digits, '_', '-' and '.'")
            }
        }

        impl std::str::FromStr for $name {
            type Err = &'static str;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::try_from(text.to_owned())
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }
    };
}

name_type! {
    /// Whose resources, policies and reference values: tenants share nothing.
    Tenant
}
name_type! {
    /// The name of a release policy.
    PolicyName
}
name_type! {
    /// The name of a set of reference values that were imported together.
    ReferenceSetName
}

/// The tenant of addresses that name none, and the policy of resources that name none.
const DEFAULT: &str = "default";

impl Default for Tenant {
    fn default() -> Self {
        Self(DEFAULT.to_owned())
    }
}

impl Tenant {
    /// Whether this is the tenant of addresses that name none.
    pub fn is_default(&self) -> bool {
        self.0 == DEFAULT
    }
}

impl Default for PolicyName {
    fn default() -> Self {
        Self(DEFAULT.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe_in_paths_and_keys() {
        for good in ["a", "default", "team-1", "Release_1.2", &"x".repeat(63)] {
            assert_eq!(Tenant::parse(good).unwrap().as_str(), good);
        }
        for bad in [
            "",
            ".",
            "..",
            ".a",
            "-a",
            "a/b",
            "a b",
            "ä",
            "a\n",
            &"x".repeat(64),
        ] {
            assert!(PolicyName::parse(bad).is_none(), "{bad:?}");
            assert!(serde_json::from_value::<Tenant>(serde_json::json!(bad)).is_err());
        }
    }
}
