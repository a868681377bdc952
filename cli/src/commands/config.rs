//! `redoubt config`: the keys of configuration.toml, and what a file says.

use std::path::PathBuf;

use clap::Subcommand;
use redoubt_launch_plan::{AnnotationGate, ConfigSearch, Configuration, KeySpec, load, reference};
use serde::Serialize;

use crate::failure::Failure;
use crate::printer::Printer;
use crate::text::Text;

/// What to do about configurations.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Describe every key, as Markdown.
    Reference,
    /// Read a configuration with its drop-ins and show what it sets.
    Show {
        /// Configuration file; without one it is searched as the shim does.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
}

impl ConfigCommand {
    pub(super) fn run(self, printer: Printer) -> Result<(), Failure> {
        match self {
            Self::Reference => {
                let keys: Vec<_> = Configuration::keys().map(Described::of).collect();
                printer.result(&keys, reference)
            }
            Self::Show { config } => show(printer, config),
        }
    }
}

#[derive(Serialize)]
struct Described {
    key: String,
    r#type: &'static str,
    default: String,
    spellings: &'static [&'static str],
    annotation: &'static str,
    meaning: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    unused_because: Option<&'static str>,
}

impl Described {
    fn of(spec: &KeySpec) -> Self {
        Self {
            key: spec.path(),
            r#type: spec.type_name,
            default: (spec.default)(),
            spellings: spec.spellings,
            annotation: match spec.gate {
                AnnotationGate::Never => "no",
                AnnotationGate::Gated => "where-enabled",
                AnnotationGate::Always => "yes",
            },
            meaning: spec.doc.trim(),
            unused_because: spec.unused,
        }
    }
}

#[derive(Serialize)]
struct Shown {
    files: Vec<PathBuf>,
    warnings: Vec<String>,
    values: Vec<Setting>,
}

#[derive(Serialize)]
struct Setting {
    key: String,
    value: String,
    /// The file that set it; nothing for a default.
    source: Option<String>,
}

fn show(printer: Printer, config: Option<PathBuf>) -> Result<(), Failure> {
    let search = ConfigSearch {
        annotation: None,
        runtime_option: config,
        environment: std::env::var_os("KATA_CONF_FILE").map(PathBuf::from),
    };
    let loaded = load(&search)?;
    let configuration = &loaded.configuration;
    let values = Configuration::keys()
        .filter(|key| key.unused.is_none())
        .map(|key| Setting {
            key: key.path(),
            value: configuration.show(key),
            source: configuration.origin(&key.path()).map(str::to_owned),
        });
    let shown = Shown {
        values: values.collect(),
        warnings: loaded.warnings.iter().map(ToString::to_string).collect(),
        files: loaded.files,
    };
    printer.result(&shown, || text(&shown))
}

fn text(shown: &Shown) -> String {
    let mut text = Text::default();
    for value in &shown.values {
        let source = value.source.as_deref().unwrap_or("default");
        text.line(format_args!("{} = {}  ({source})", value.key, value.value));
    }
    for warning in &shown.warnings {
        text.line(format_args!("warning: {warning}"));
    }
    text.into()
}
