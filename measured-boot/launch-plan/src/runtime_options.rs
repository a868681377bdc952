//! The options that containerd passes to the shim with a task.
//!
//! They are a protobuf message of any type. Kata's callers send
//! `runtimeoptions.v1.Options`, where field 2 names a configuration file;
//! others leave runc's options in place, which must not stop a sandbox.

use std::path::PathBuf;

/// Types whose field 2 is the path of a configuration file.
const OPTIONS_TYPES: [&str; 2] = ["runtimeoptions.v1.Options", "cri.runtimeoptions.v1.Options"];
const CONFIG_PATH_FIELD: u64 = 2;
const MAX_PATH_BYTES: usize = 4096;

/// What the shim needs to know of containerd's runtime options.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuntimeOptions {
    /// `ConfigPath`, where the options name one.
    pub config_path: Option<PathBuf>,
    /// A note for the log where the options were not used.
    pub note: Option<String>,
}

impl RuntimeOptions {
    /// Reads a message of any type; what cannot be used is noted, never an error.
    pub fn from_any(type_url: &str, value: &[u8]) -> Self {
        let name = type_url.rsplit('/').next().unwrap_or(type_url);
        if name.is_empty() || value.is_empty() {
            return Self::default();
        }
        if !OPTIONS_TYPES.contains(&name) {
            let note = format!("runtime options of type {name:?} are ignored");
            return Self {
                config_path: None,
                note: Some(note),
            };
        }
        match string_field(value, CONFIG_PATH_FIELD) {
            Ok(path) => Self {
                config_path: path.filter(|path| !path.is_empty()).map(PathBuf::from),
                note: None,
            },
            Err(Damaged) => Self {
                config_path: None,
                note: Some(format!(
                    "runtime options of type {name:?} are damaged and ignored"
                )),
            },
        }
    }
}

struct Damaged;

/// The last value of a string field in a protobuf message.
fn string_field(mut message: &[u8], wanted: u64) -> Result<Option<String>, Damaged> {
    let mut found = None;
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        let skipped = match tag & 7 {
            0 => {
                varint(&mut message)?;
                continue;
            }
            1 => 8,
            2 => usize::try_from(varint(&mut message)?).map_err(|_| Damaged)?,
            5 => 4,
            _ => return Err(Damaged),
        };
        let (value, rest) = message.split_at_checked(skipped).ok_or(Damaged)?;
        message = rest;
        if tag == wanted << 3 | 2 {
            let text = std::str::from_utf8(value).map_err(|_| Damaged)?;
            if text.len() > MAX_PATH_BYTES || text.contains('\0') {
                return Err(Damaged);
            }
            found = Some(text.to_owned());
        }
    }
    Ok(found)
}

fn varint(message: &mut &[u8]) -> Result<u64, Damaged> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = message.split_first().ok_or(Damaged)?;
        *message = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(Damaged)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_config_path_is_field_two() {
        let value = b"\x0a\x03abc\x12\x07/a.toml\x1a\x01x";
        let options = RuntimeOptions::from_any("runtimeoptions.v1.Options", value);
        assert_eq!(options.config_path, Some("/a.toml".into()));
        assert_eq!(options.note, None);
        let url = "type.googleapis.com/runtimeoptions.v1.Options";
        assert_eq!(
            RuntimeOptions::from_any(url, value).config_path,
            Some("/a.toml".into())
        );
    }

    #[test]
    fn options_of_another_type_are_noted_and_ignored() {
        let options = RuntimeOptions::from_any("containerd.runc.v1.Options", b"\x12\x02/x");
        assert_eq!(options.config_path, None);
        assert_eq!(
            options.note.as_deref(),
            Some("runtime options of type \"containerd.runc.v1.Options\" are ignored")
        );
        assert_eq!(RuntimeOptions::from_any("", b""), RuntimeOptions::default());
    }

    #[test]
    fn damaged_options_are_noted_and_ignored() {
        for value in [
            &b"\x12\x50/a"[..],
            b"\x12",
            b"\x17",
            b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\x12\x01\xff",
        ] {
            let options = RuntimeOptions::from_any("runtimeoptions.v1.Options", value);
            assert_eq!(options.config_path, None);
            assert!(options.note.is_some());
        }
    }
}
