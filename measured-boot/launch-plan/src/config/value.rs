//! Types of configuration values: how they are read from TOML and from annotations.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::plan::{Accelerator, NetworkModel};

/// A type that a configuration key can have.
pub(crate) trait SettingValue: Sized {
    /// What a value must be, for messages and documentation.
    const TYPE: &'static str;

    /// Reads a TOML value. `key` is the spelling used: a suffix `_ms` changes the unit of timeouts.
    fn from_toml(value: &toml::Value, key: &str) -> Option<Self>;

    /// Reads an annotation's text.
    fn from_text(text: &str, key: &str) -> Option<Self>;

    /// The value as a person would write it.
    fn show(&self) -> String;
}

/// A span of time, written in seconds, or in milliseconds under a key that ends in `_ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeout {
    /// The span in milliseconds.
    pub ms: u64,
}

impl Timeout {
    /// A timeout of whole seconds.
    pub const fn seconds(seconds: u32) -> Self {
        Self {
            ms: seconds as u64 * 1000,
        }
    }
}

fn parse_integer<T: TryFrom<i64>>(value: &toml::Value) -> Option<T> {
    T::try_from(value.as_integer()?).ok()
}

impl SettingValue for bool {
    const TYPE: &'static str = "true or false";

    fn from_toml(value: &toml::Value, _key: &str) -> Option<Self> {
        value.as_bool()
    }

    fn from_text(text: &str, _key: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl SettingValue for u32 {
    const TYPE: &'static str = "a whole number";

    fn from_toml(value: &toml::Value, _key: &str) -> Option<Self> {
        parse_integer(value)
    }

    fn from_text(text: &str, _key: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl SettingValue for u64 {
    const TYPE: &'static str = "a whole number";

    fn from_toml(value: &toml::Value, _key: &str) -> Option<Self> {
        parse_integer(value)
    }

    fn from_text(text: &str, _key: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl SettingValue for f64 {
    const TYPE: &'static str = "a number";

    fn from_toml(value: &toml::Value, _key: &str) -> Option<Self> {
        let number = match value {
            toml::Value::Float(number) => *number,
            toml::Value::Integer(number) => f64::from(i32::try_from(*number).ok()?),
            _ => return None,
        };
        (number.is_finite() && number >= 0.0).then_some(number)
    }

    fn from_text(text: &str, _key: &str) -> Option<Self> {
        text.parse()
            .ok()
            .filter(|number: &f64| number.is_finite() && *number >= 0.0)
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl SettingValue for String {
    const TYPE: &'static str = "text";

    fn from_toml(value: &toml::Value, _key: &str) -> Option<Self> {
        value.as_str().map(str::to_owned)
    }

    fn from_text(text: &str, _key: &str) -> Option<Self> {
        Some(text.to_owned())
    }

    fn show(&self) -> String {
        format!("{self:?}")
    }
}

impl SettingValue for PathBuf {
    const TYPE: &'static str = "a path";

    fn from_toml(value: &toml::Value, _key: &str) -> Option<Self> {
        Self::from_text(value.as_str()?, "")
    }

    fn from_text(text: &str, _key: &str) -> Option<Self> {
        (!text.contains('\0')).then(|| PathBuf::from(text))
    }

    fn show(&self) -> String {
        format!("{:?}", self.display().to_string())
    }
}

impl SettingValue for Vec<String> {
    const TYPE: &'static str = "a list of texts";

    fn from_toml(value: &toml::Value, _key: &str) -> Option<Self> {
        value
            .as_array()?
            .iter()
            .map(|item| item.as_str().map(str::to_owned))
            .collect()
    }

    fn from_text(text: &str, _key: &str) -> Option<Self> {
        let items = text
            .split(';')
            .map(str::trim)
            .filter(|item| !item.is_empty());
        Some(items.map(str::to_owned).collect())
    }

    fn show(&self) -> String {
        format!("{self:?}")
    }
}

impl SettingValue for Timeout {
    const TYPE: &'static str = "a time in whole seconds above 0";

    fn from_toml(value: &toml::Value, key: &str) -> Option<Self> {
        Self::scaled(parse_integer(value)?, key)
    }

    fn from_text(text: &str, key: &str) -> Option<Self> {
        Self::scaled(text.parse().ok()?, key)
    }

    fn show(&self) -> String {
        format!("{}", self.ms / 1000)
    }
}

impl Timeout {
    fn scaled(number: u32, key: &str) -> Option<Self> {
        let timeout = if key.ends_with("_ms") {
            Self {
                ms: u64::from(number),
            }
        } else {
            Self::seconds(number)
        };
        (timeout.ms > 0).then_some(timeout)
    }
}

/// How much the agent logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// As much as it thinks right.
    Default,
    /// Errors.
    Error,
    /// Warnings too.
    Warn,
    /// What happens too.
    Info,
    /// What is helpful when something goes wrong.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    const ALL: [Self; 6] = [
        Self::Default,
        Self::Error,
        Self::Warn,
        Self::Info,
        Self::Debug,
        Self::Trace,
    ];

    /// The level's name; empty for the default.
    pub fn name(self) -> &'static str {
        match self {
            Self::Default => "",
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

impl SettingValue for LogLevel {
    const TYPE: &'static str = "\"error\", \"warn\", \"info\", \"debug\" or \"trace\"";

    fn from_toml(value: &toml::Value, key: &str) -> Option<Self> {
        Self::from_text(value.as_str()?, key)
    }

    fn from_text(text: &str, _key: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.name() == text)
    }

    fn show(&self) -> String {
        format!("{:?}", self.name())
    }
}

impl SettingValue for Accelerator {
    const TYPE: &'static str = "\"kvm\" or \"tcg\"";

    fn from_toml(value: &toml::Value, key: &str) -> Option<Self> {
        Self::from_text(value.as_str()?, key)
    }

    fn from_text(text: &str, _key: &str) -> Option<Self> {
        match text {
            "kvm" => Some(Self::Kvm),
            "tcg" => Some(Self::Tcg),
            _ => None,
        }
    }

    fn show(&self) -> String {
        format!("{:?}", self.to_string())
    }
}

impl SettingValue for NetworkModel {
    const TYPE: &'static str = "\"tcfilter\" or \"none\"";

    fn from_toml(value: &toml::Value, key: &str) -> Option<Self> {
        Self::from_text(value.as_str()?, key)
    }

    fn from_text(text: &str, _key: &str) -> Option<Self> {
        match text {
            "tcfilter" => Some(Self::TcFilter),
            "none" => Some(Self::None),
            _ => None,
        }
    }

    fn show(&self) -> String {
        match self {
            Self::TcFilter => "\"tcfilter\"".to_owned(),
            Self::None => "\"none\"".to_owned(),
        }
    }
}
