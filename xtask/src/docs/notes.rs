//! What the error page says beyond message and hint, kept by hand in `notes.toml`.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::Deserialize;

/// The notes on areas and codes.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Notes {
    pub(super) areas: BTreeMap<String, AreaNote>,
    pub(super) codes: BTreeMap<String, CodeNote>,
}

/// What all codes of an area have in common.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AreaNote {
    /// The area in a few words.
    pub(super) title: String,
    /// Which programs show these errors.
    pub(super) origin: String,
    /// When they happen.
    pub(super) when: String,
}

/// What one code needs beyond its message.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CodeNote {
    /// When it happens.
    pub(super) when: Option<String>,
    /// What to do, beyond the hint.
    #[serde(rename = "do")]
    pub(super) action: Option<String>,
}

impl Notes {
    /// The notes of this checkout.
    pub(super) fn load() -> Result<Self> {
        Self::parse(include_str!("notes.toml")).context("notes.toml")
    }

    /// Reads notes.
    pub(super) fn parse(text: &str) -> Result<Self> {
        Ok(toml::from_str(text)?)
    }
}
