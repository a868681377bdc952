//! Reads configuration files: the crate's only I/O besides that of `files::load`.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::Configuration;
use super::error::ConfigError;
use super::merge::{ConfigSource, ConfigWarning};
use super::search::{Candidate, ConfigSearch, drop_in_order};

const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// A configuration with what it was read from.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadedConfiguration {
    /// The merged settings.
    pub configuration: Configuration,
    /// What was odd about the files.
    pub warnings: Vec<ConfigWarning>,
    /// The files in the order in which they were merged.
    pub files: Vec<PathBuf>,
}

/// Finds and reads the configuration file and the drop-ins of the `config.d` beside it.
pub fn load(search: &ConfigSearch) -> Result<LoadedConfiguration, ConfigError> {
    let candidates = search.candidates();
    for candidate in &candidates {
        match fs::canonicalize(&candidate.path) {
            Ok(resolved) => return load_from(candidate, &resolved),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !candidate.required => {}
            Err(cause) => {
                return Err(ConfigError::Read {
                    path: candidate.path.clone(),
                    origin: candidate.source.to_owned(),
                    cause,
                });
            }
        }
    }
    let tried: Vec<_> = candidates
        .iter()
        .map(|c| c.path.display().to_string())
        .collect();
    Err(ConfigError::NotFound {
        tried: tried.join(", "),
    })
}

fn load_from(candidate: &Candidate, resolved: &Path) -> Result<LoadedConfiguration, ConfigError> {
    if candidate.untrusted {
        check_owner(&candidate.path, resolved)?;
    }
    let mut files = vec![resolved.to_owned()];
    let drop_in_dir = resolved.with_file_name("config.d");
    files.extend(list_drop_ins(&drop_in_dir)?);
    let sources = files
        .iter()
        .map(|path| read(path, candidate.source))
        .collect::<Result<Vec<_>, _>>()?;
    let (configuration, warnings) = Configuration::from_sources(&sources)?;
    Ok(LoadedConfiguration {
        configuration,
        warnings,
        files,
    })
}

fn list_drop_ins(dir: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let unreadable = |cause| ConfigError::Read {
        path: dir.to_owned(),
        origin: "the configuration file beside it".to_owned(),
        cause,
    };
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(error)),
    };
    let names: Vec<PathBuf> = entries
        .map(|entry| entry.map(|e| e.path()))
        .collect::<Result<_, _>>()
        .map_err(unreadable)?;
    Ok(drop_in_order(names))
}

fn read(path: &Path, origin: &str) -> Result<ConfigSource, ConfigError> {
    let mut text = String::new();
    let limit = MAX_CONFIG_BYTES + 1;
    File::open(path)
        .and_then(|file| file.take(limit).read_to_string(&mut text))
        .map_err(|cause| ConfigError::Read {
            path: path.to_owned(),
            origin: origin.to_owned(),
            cause,
        })?;
    if text.len() as u64 > MAX_CONFIG_BYTES {
        return Err(ConfigError::TooLarge {
            path: path.to_owned(),
        });
    }
    Ok(ConfigSource {
        name: path.display().to_string(),
        text,
    })
}

/// A pod may choose among the operator's files, not bring its own.
fn check_owner(named: &Path, resolved: &Path) -> Result<(), ConfigError> {
    let trusted = named.is_absolute()
        && fs::metadata(resolved).is_ok_and(|file| file.uid() == 0 && file.mode() & 0o022 == 0);
    if trusted {
        Ok(())
    } else {
        Err(ConfigError::UntrustedPath {
            path: named.to_owned(),
        })
    }
}
