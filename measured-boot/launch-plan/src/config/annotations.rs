//! Settings that a pod brings in its annotations, as far as the operator lets it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use regex::Regex;

use super::error::ConfigError;
use super::merge::{ConfigWarning, nearest};
use super::spec::{AnnotationGate, KeySpec};
use super::{Configuration, HypervisorSettings};

/// What the names of configuration annotations start with.
pub const ANNOTATION_PREFIX: &str = "io.katacontainers.config.";
/// The annotation that names a configuration file.
pub const CONFIG_PATH_ANNOTATION: &str = "io.katacontainers.config_path";

impl Configuration {
    /// The settings for one sandbox: these, with what its annotations may change.
    pub fn with_annotations(
        &self,
        annotations: &BTreeMap<String, String>,
    ) -> Result<(Self, Vec<ConfigWarning>), ConfigError> {
        let gate = Gate::new(&self.hypervisor)?;
        let mut configuration = self.clone();
        let mut warnings = Vec::new();
        for (annotation, value) in annotations {
            let Some(rest) = annotation.strip_prefix(ANNOTATION_PREFIX) else {
                continue;
            };
            let Some((group, name)) = rest.split_once('.') else {
                continue;
            };
            configuration.annotate(
                &gate,
                &Annotation {
                    full: annotation,
                    group,
                    name,
                    value,
                },
                &mut warnings,
            )?;
        }
        Ok((configuration, warnings))
    }

    fn annotate(
        &mut self,
        gate: &Gate,
        annotation: &Annotation<'_>,
        warnings: &mut Vec<ConfigWarning>,
    ) -> Result<(), ConfigError> {
        if annotation.group == "agent" && annotation.name == "policy" {
            return Err(ConfigError::UnmeasuredPolicy {
                annotation: annotation.full.to_owned(),
            });
        }
        let key = annotation.key();
        gate.check(annotation, key)?;
        let Some(key) = key else {
            warnings.push(ConfigWarning::Unknown {
                source: "annotation".to_owned(),
                key: annotation.full.to_owned(),
                nearest: nearest(annotation.name)
                    .and_then(|path| Self::keys().find(|key| key.path() == path))
                    .filter(|key| key.gate != AnnotationGate::Never)
                    .and_then(|key| Some((key.annotation_group(), key.annotation_names().next()?)))
                    .map(|(group, name)| format!("{ANNOTATION_PREFIX}{group}.{name}")),
            });
            return Ok(());
        };
        self.take(key, annotation)?;
        if let Some(reason) = key.unused {
            warnings.push(ConfigWarning::Unused {
                source: "annotation".to_owned(),
                key: annotation.full.to_owned(),
                reason,
            });
        }
        self.origins
            .insert(key.path(), format!("annotation {}", annotation.full));
        Ok(())
    }

    fn take(&mut self, key: &KeySpec, annotation: &Annotation<'_>) -> Result<(), ConfigError> {
        match (key.table, key.name) {
            ("hypervisor.qemu", "kernel_params") => {
                self.annotation_kernel_params = Some(annotation.value.to_owned());
                return Ok(());
            }
            ("hypervisor.qemu", "path") => self.check_hypervisor_path(annotation)?,
            _ => {}
        }
        if self.set_text(key, annotation.name, annotation.value) {
            return Ok(());
        }
        Err(ConfigError::AnnotationType {
            annotation: annotation.full.to_owned(),
            expected: key.type_name,
        })
    }

    fn check_hypervisor_path(&self, annotation: &Annotation<'_>) -> Result<(), ConfigError> {
        let path = Path::new(annotation.value);
        let listed = self
            .hypervisor
            .valid_hypervisor_paths
            .iter()
            .any(|pattern| glob_matches(pattern, annotation.value));
        if path == self.hypervisor.path || listed {
            return Ok(());
        }
        Err(ConfigError::PathNotAllowed {
            annotation: annotation.full.to_owned(),
            path: PathBuf::from(path),
            list: "valid_hypervisor_paths",
        })
    }
}

struct Annotation<'a> {
    full: &'a str,
    group: &'a str,
    name: &'a str,
    value: &'a str,
}

impl Annotation<'_> {
    fn key(&self) -> Option<&'static KeySpec> {
        Configuration::keys().find(|key| {
            key.annotation_group() == self.group
                && key.annotation_names().any(|name| name == self.name)
        })
    }
}

/// The operator's `enable_annotations`.
struct Gate(Vec<Regex>);

impl Gate {
    fn new(settings: &HypervisorSettings) -> Result<Self, ConfigError> {
        // An expression that matched anywhere in a name would let `kernel` open `kernel_params` too.
        let compile = |pattern: &String| {
            Regex::new(&format!("^(?:{pattern})$")).map_err(|_| ConfigError::Pattern {
                key: "hypervisor.qemu.enable_annotations",
                pattern: pattern.clone(),
            })
        };
        settings
            .enable_annotations
            .iter()
            .map(compile)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    fn check(&self, annotation: &Annotation<'_>, key: Option<&KeySpec>) -> Result<(), ConfigError> {
        let full = || annotation.full.to_owned();
        match (annotation.group, key.map(|key| key.gate)) {
            (_, Some(AnnotationGate::Never)) => {
                Err(ConfigError::OperatorOnly { annotation: full() })
            }
            ("hypervisor", _) if !self.0.iter().any(|regex| regex.is_match(annotation.name)) => {
                Err(ConfigError::NotEnabled {
                    annotation: full(),
                    name: annotation.name.to_owned(),
                })
            }
            _ => Ok(()),
        }
    }
}

/// Shell-like matching where `*` and `?` stay within one path component.
fn glob_matches(pattern: &str, path: &str) -> bool {
    let mut expression = String::from("^");
    for c in pattern.chars() {
        match c {
            '*' => expression.push_str("[^/]*"),
            '?' => expression.push_str("[^/]"),
            c => expression.push_str(&regex::escape(c.encode_utf8(&mut [0; 4]))),
        }
    }
    expression.push('$');
    Regex::new(&expression).is_ok_and(|regex| regex.is_match(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_glob_stays_within_one_component() {
        assert!(glob_matches("/opt/*/bin/qemu-?", "/opt/kata/bin/qemu-8"));
        assert!(!glob_matches("/opt/*/qemu", "/opt/kata/bin/qemu"));
        assert!(!glob_matches("/usr/bin/qemu.x", "/usr/bin/qemu-x"));
    }
}
