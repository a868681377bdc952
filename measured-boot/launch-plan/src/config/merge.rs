//! Merges a configuration file and its drop-ins into settings.

use std::fmt;

use super::Configuration;
use super::error::ConfigError;
use super::spec::KeySpec;

/// One file's name and text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigSource {
    /// The file's name, for messages.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// Something odd about a configuration that does not stop a launch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigWarning {
    /// A key or table that does not exist.
    Unknown {
        /// Where it was found.
        source: String,
        /// The key with its table.
        key: String,
        /// The known key that looks most like it.
        nearest: Option<String>,
    },
    /// A key that exists for compatibility, set to something else than its default.
    Unused {
        /// Where it was found.
        source: String,
        /// The key with its table.
        key: String,
        /// Why it has no effect.
        reason: &'static str,
    },
    /// A key given in two spellings.
    TwoSpellings {
        /// Where they were found.
        source: String,
        /// The spelling that is used.
        used: String,
        /// The spelling that is not.
        dropped: String,
    },
}

impl fmt::Display for ConfigWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown {
                source,
                key,
                nearest: Some(nearest),
            } => {
                write!(f, "{source}: unknown key {key}; did you mean {nearest}?")
            }
            Self::Unknown {
                source,
                key,
                nearest: None,
            } => {
                write!(f, "{source}: unknown key {key}")
            }
            Self::Unused {
                source,
                key,
                reason,
            } => {
                write!(f, "{source}: {key} has no effect: {reason}")
            }
            Self::TwoSpellings {
                source,
                used,
                dropped,
            } => {
                write!(
                    f,
                    "{source}: {dropped} is ignored, because {used} is given too"
                )
            }
        }
    }
}

impl Configuration {
    /// Merges files in the order given: the base file, then its drop-ins.
    ///
    /// A later file replaces single keys of an earlier one, lists as a whole.
    pub fn from_sources(
        sources: &[ConfigSource],
    ) -> Result<(Self, Vec<ConfigWarning>), ConfigError> {
        let mut configuration = Self::default();
        let mut warnings = Vec::new();
        for source in sources {
            configuration.merge(source, &mut warnings)?;
        }
        Ok((configuration, warnings))
    }

    fn merge(
        &mut self,
        source: &ConfigSource,
        warnings: &mut Vec<ConfigWarning>,
    ) -> Result<(), ConfigError> {
        let tree: toml::Table = source
            .text
            .parse()
            .map_err(|error| toml_error(source, &error))?;
        let mut leaves = Vec::new();
        collect(&mut leaves, "", &tree);
        let unknown = leaves.iter().filter(|(path, _)| find(path).is_none());
        warnings.extend(unknown.map(|(path, _)| ConfigWarning::Unknown {
            source: source.name.clone(),
            key: path.clone(),
            nearest: nearest(path),
        }));
        for key in Self::keys() {
            self.merge_key(key, source, &leaves, warnings)?;
        }
        Ok(())
    }

    /// Takes over one key from one file, whichever of its spellings is used there.
    fn merge_key(
        &mut self,
        key: &KeySpec,
        source: &ConfigSource,
        leaves: &[(String, &toml::Value)],
        warnings: &mut Vec<ConfigWarning>,
    ) -> Result<(), ConfigError> {
        let own = key.path();
        let spellings = std::iter::once(own.as_str()).chain(key.spellings.iter().copied());
        let mut used: Option<&str> = None;
        for spelling in spellings {
            let Some((_, value)) = leaves.iter().find(|(path, _)| path == spelling) else {
                continue;
            };
            if let Some(used) = used {
                warnings.push(ConfigWarning::TwoSpellings {
                    source: source.name.clone(),
                    used: used.to_owned(),
                    dropped: spelling.to_owned(),
                });
                continue;
            }
            used = Some(spelling);
            if !self.set_toml(key, spelling, value) {
                return Err(ConfigError::WrongType {
                    file: source.name.clone(),
                    key: spelling.to_owned(),
                    expected: key.type_name,
                    found: found(value),
                });
            }
            warn_if_unused(key, spelling, source, value, warnings);
            self.origins.insert(own.clone(), source.name.clone());
        }
        Ok(())
    }
}

fn warn_if_unused(
    key: &KeySpec,
    spelling: &str,
    source: &ConfigSource,
    value: &toml::Value,
    warnings: &mut Vec<ConfigWarning>,
) {
    let Some(reason) = key.unused else { return };
    let text = match value {
        toml::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    // Kata's templates spell out many keys with values that change nothing.
    let says_nothing = matches!(text.as_str(), "" | "0" | "false" | "[]");
    if says_nothing || text == (key.default)() {
        return;
    }
    warnings.push(ConfigWarning::Unused {
        source: source.name.clone(),
        key: spelling.to_owned(),
        reason,
    });
}

/// Lists the tree's values with their paths; a table that is itself a key's value is not entered.
fn collect<'a>(leaves: &mut Vec<(String, &'a toml::Value)>, prefix: &str, table: &'a toml::Table) {
    for (name, value) in table {
        let path = if prefix.is_empty() {
            name.clone()
        } else {
            format!("{prefix}.{name}")
        };
        match value {
            toml::Value::Table(table) if find(&path).is_none() => collect(leaves, &path, table),
            value => leaves.push((path, value)),
        }
    }
}

/// The key with this path in any of its spellings.
fn find(path: &str) -> Option<&'static KeySpec> {
    Configuration::keys().find(|key| key.path() == path || key.spellings.contains(&path))
}

/// The known key that looks most like `path`: one with a similar name, in whatever table.
pub(crate) fn nearest(path: &str) -> Option<String> {
    let name = |path: &str| path.rsplit('.').next().unwrap_or(path).to_owned();
    let wanted = name(path);
    Configuration::keys()
        .map(|key| {
            let similarity = strsim::jaro_winkler(&wanted, key.name)
                + 0.01 * strsim::jaro_winkler(path, &key.path());
            (similarity, key)
        })
        .filter(|(similarity, _)| *similarity > 0.85)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, key)| key.path())
}

fn found(value: &toml::Value) -> String {
    let mut text = value.to_string();
    if text.chars().count() > 40 {
        text = text.chars().take(40).collect::<String>() + "…";
    }
    text
}

fn toml_error(source: &ConfigSource, error: &toml::de::Error) -> ConfigError {
    let at = error.span().map_or(0, |span| span.start);
    let before = source.text.get(..at).unwrap_or(&source.text);
    ConfigError::Toml {
        file: source.name.clone(),
        line: before.matches('\n').count() + 1,
        message: error.message().to_owned(),
    }
}
