//! What is known about each configuration key, and the macro that declares them.

use std::collections::BTreeMap;

/// Who may set a key through a pod annotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnnotationGate {
    /// Nobody: the key belongs to the host's operator.
    Never,
    /// Pods, where `enable_annotations` names the key.
    Gated,
    /// Every pod.
    Always,
}

/// Everything that is known about one key.
#[derive(Clone, Copy, Debug)]
pub struct KeySpec {
    /// The table that holds the key, `hypervisor.qemu`.
    pub table: &'static str,
    /// The key's name.
    pub name: &'static str,
    /// What a value must be.
    pub type_name: &'static str,
    /// What the key does.
    pub doc: &'static str,
    /// Other places and names under which the key is accepted, table included.
    pub spellings: &'static [&'static str],
    /// Who may set it by annotation.
    pub gate: AnnotationGate,
    /// Names of the annotation where they differ from the key's.
    pub annotations: &'static [&'static str],
    /// Why the key is accepted without having an effect; `None` if it has one.
    pub unused: Option<&'static str>,
    /// The default as text.
    pub default: fn() -> String,
}

impl KeySpec {
    /// Table and name joined by a dot.
    pub fn path(&self) -> String {
        format!("{}.{}", self.table, self.name)
    }

    /// The part of the annotation's name between `config.` and the key.
    pub(crate) fn annotation_group(&self) -> &'static str {
        self.table.split('.').next().unwrap_or(self.table)
    }

    /// The names that follow the group in the key's annotations.
    pub(crate) fn annotation_names(&self) -> impl Iterator<Item = &'static str> {
        let own = self.annotations.is_empty().then_some(self.name);
        own.into_iter().chain(self.annotations.iter().copied())
    }
}

/// Where each key's value came from, by the key's path.
pub(crate) type Origins = BTreeMap<String, String>;

/// Declares a table of the configuration file once: from it come the typed
/// settings with their defaults, the parser, the documentation and the list of
/// names for hints.
macro_rules! settings {
    (
        $(#[$meta:meta])+
        $settings:ident, $table:literal;
        $(
            $(#[doc = $doc:literal])+
            $name:ident: $kind:ty = $default:expr, $gate:ident
            $(, also [$($spelling:literal),+])?
            $(, annotation [$($annotation:literal),+])?;
        )+
        unused {
            $(
                $unused:literal: $shape:ident = $unused_default:literal, $unused_gate:ident
                $(, also [$($unused_spelling:literal),+])?
                $(, annotation [$($unused_annotation:literal),+])?,
                $reason:literal;
            )*
        }
    ) => {
        $(#[$meta])+
        #[derive(Clone, Debug, PartialEq)]
        pub struct $settings {
            $($(#[doc = $doc])+ pub $name: $kind,)+
        }

        impl Default for $settings {
            fn default() -> Self {
                Self { $($name: $default,)+ }
            }
        }

        impl $settings {
            /// The table's keys, those with an effect first.
            pub fn keys() -> &'static [KeySpec] {
                static KEYS: &[KeySpec] = &[
                $(KeySpec {
                    table: $table,
                    name: stringify!($name),
                    type_name: <$kind as SettingValue>::TYPE,
                    doc: concat!($($doc),+),
                    spellings: &[$($($spelling),+)?],
                    gate: AnnotationGate::$gate,
                    annotations: &[$($($annotation),+)?],
                    unused: None,
                    default: || {
                        let value: $kind = $default;
                        value.show()
                    },
                },)+
                $(KeySpec {
                    table: $table,
                    name: $unused,
                    type_name: Shape::$shape.name(),
                    doc: "",
                    spellings: &[$($($unused_spelling),+)?],
                    gate: AnnotationGate::$unused_gate,
                    annotations: &[$($($unused_annotation),+)?],
                    unused: Some($reason),
                    default: || $unused_default.to_owned(),
                },)*
                ];
                KEYS
            }

            /// Takes over a TOML value; false if it has the wrong type.
            pub(crate) fn set_toml(&mut self, name: &str, spelling: &str, value: &toml::Value) -> bool {
                match name {
                    $(stringify!($name) => match SettingValue::from_toml(value, spelling) {
                        Some(value) => {
                            self.$name = value;
                            true
                        }
                        None => false,
                    },)+
                    $($unused => Shape::$shape.admits(value),)*
                    _ => false,
                }
            }

            /// Takes over an annotation's text; false if it has the wrong type.
            pub(crate) fn set_text(&mut self, name: &str, spelling: &str, text: &str) -> bool {
                match name {
                    $(stringify!($name) => match SettingValue::from_text(text, spelling) {
                        Some(value) => {
                            self.$name = value;
                            true
                        }
                        None => false,
                    },)+
                    _ => Self::keys().iter().any(|key| key.name == name),
                }
            }

            /// A value as a person would write it.
            pub(crate) fn show(&self, name: &str) -> String {
                match name {
                    $(stringify!($name) => SettingValue::show(&self.$name),)+
                    _ => String::new(),
                }
            }
        }
    };
}

pub(crate) use settings;

/// Types of keys without an effect: they are still checked.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shape {
    Bool,
    Number,
    Text,
    List,
    Tables,
}

impl Shape {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Bool => "true or false",
            Self::Number => "a number",
            Self::Text => "text",
            Self::List => "a list",
            Self::Tables => "tables",
        }
    }

    pub(crate) fn admits(self, value: &toml::Value) -> bool {
        match self {
            Self::Bool => value.is_bool(),
            Self::Number => value.is_integer() || value.is_float(),
            Self::Text => value.is_str(),
            Self::List => value.is_array(),
            Self::Tables => value.is_array() || value.is_table(),
        }
    }
}
