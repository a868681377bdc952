//! The command line that containerd gives to a shim.
//!
//! containerd writes flags the way Go's `flag` package reads them: `-name value`,
//! `-name=value`, one or two dashes, and `-debug` without a value. The action is
//! the first word that is not a flag.

use std::ffi::OsString;

use redoubt_errors::{ErrorCode, UserError};

/// What containerd asks this process to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Action {
    /// Serve the task API on the inherited socket.
    #[default]
    Serve,
    /// Start a server, or name the one that already serves the sandbox.
    Start,
    /// Clean up after a server that is gone.
    Delete,
}

/// The parsed command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// containerd's namespace.
    pub namespace: String,
    /// The container's id.
    pub id: String,
    /// containerd's own socket.
    pub address: String,
    /// The binary that publishes events, for runtimes without ttRPC.
    pub publish_binary: String,
    /// The bundle folder, where containerd does not set the working directory.
    pub bundle: String,
    /// The address that the server listens on.
    pub socket: String,
    /// Log more.
    pub debug: bool,
    /// Print the version and leave.
    pub version: bool,
    /// Print what this runtime is and leave.
    pub info: bool,
    /// What to do.
    pub action: Action,
}

/// A command line that cannot be followed.
#[derive(Debug, PartialEq, Eq, thiserror::Error, displaydoc::Display)]
pub enum CliError {
    /// command line argument {0} is not valid UTF-8
    NotUtf8(usize),
    /// unknown flag {0}
    UnknownFlag(String),
    /// flag {0} needs a value
    MissingValue(&'static str),
    /// flag {name} takes true or false, not {value}
    NotABoolean {
        /// The flag.
        name: &'static str,
        /// What was given.
        value: String,
    },
    /// unknown action {0}
    UnknownAction(String),
    /// flag -{0} is required
    Required(&'static str),
    /// {flag} {value} may hold only letters, digits, '.', '_' and '-', and at most 128 of them
    BadIdentifier {
        /// The flag.
        flag: &'static str,
        /// What was given.
        value: String,
    },
}

impl UserError for CliError {
    fn code(&self) -> ErrorCode {
        ErrorCode(match self {
            Self::NotUtf8(_) => "RDT-SHIM-001",
            Self::UnknownFlag(_) => "RDT-SHIM-002",
            Self::MissingValue(_) => "RDT-SHIM-003",
            Self::NotABoolean { .. } => "RDT-SHIM-004",
            Self::UnknownAction(_) => "RDT-SHIM-005",
            Self::Required(_) => "RDT-SHIM-006",
            Self::BadIdentifier { .. } => "RDT-SHIM-007",
        })
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Required(_) => Some(
                "containerd starts this program; to run a container use ctr, nerdctl or crictl"
                    .to_owned(),
            ),
            _ => None,
        }
    }
}

/// Reads the arguments that follow the program's name.
pub fn parse(arguments: &[OsString]) -> Result<Flags, CliError> {
    let mut words = Vec::with_capacity(arguments.len());
    for (index, argument) in arguments.iter().enumerate() {
        words.push(argument.to_str().ok_or(CliError::NotUtf8(index + 1))?);
    }
    let mut flags = Flags::default();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let Some(flag) = flag_name(word) else {
            flags.action = parse_action(word)?;
            break;
        };
        let (name, inline) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (flag, None),
        };
        set_flag(&mut flags, name, inline, &mut words)?;
    }
    Ok(flags)
}

fn flag_name(word: &str) -> Option<&str> {
    let rest = word.strip_prefix("--").or_else(|| word.strip_prefix('-'))?;
    (!rest.is_empty()).then_some(rest)
}

fn parse_action(word: &str) -> Result<Action, CliError> {
    match word {
        "start" => Ok(Action::Start),
        "delete" => Ok(Action::Delete),
        "serve" => Ok(Action::Serve),
        other => Err(CliError::UnknownAction(other.to_owned())),
    }
}

fn set_flag<'a>(
    flags: &mut Flags,
    name: &str,
    inline: Option<&'a str>,
    rest: &mut impl Iterator<Item = &'a str>,
) -> Result<(), CliError> {
    let mut text = |known: &'static str| {
        inline
            .or_else(|| rest.next())
            .map(str::to_owned)
            .ok_or(CliError::MissingValue(known))
    };
    match name {
        "namespace" => flags.namespace = text("namespace")?,
        "id" => flags.id = text("id")?,
        "address" => flags.address = text("address")?,
        "publish-binary" => flags.publish_binary = text("publish-binary")?,
        "bundle" => flags.bundle = text("bundle")?,
        "socket" => flags.socket = text("socket")?,
        "debug" => flags.debug = boolean("debug", inline)?,
        "v" | "version" => flags.version = boolean("v", inline)?,
        "info" => flags.info = boolean("info", inline)?,
        other => return Err(CliError::UnknownFlag(other.to_owned())),
    }
    Ok(())
}

fn boolean(name: &'static str, inline: Option<&str>) -> Result<bool, CliError> {
    match inline {
        None | Some("true" | "1" | "t" | "T" | "TRUE" | "True") => Ok(true),
        Some("false" | "0" | "f" | "F" | "FALSE" | "False") => Ok(false),
        Some(value) => Err(CliError::NotABoolean {
            name,
            value: value.to_owned(),
        }),
    }
}

impl Flags {
    /// Checks what every action but `-v` and `-info` needs: a namespace and an id that
    /// can safely be part of a path.
    pub fn require_identity(&self) -> Result<(), CliError> {
        for (flag, value) in [("namespace", &self.namespace), ("id", &self.id)] {
            if value.is_empty() {
                return Err(CliError::Required(flag));
            }
            if !is_identifier(value) {
                return Err(CliError::BadIdentifier {
                    flag,
                    value: value.clone(),
                });
            }
        }
        Ok(())
    }
}

/// True for ids that name no other place when they become part of a path.
pub fn is_identifier(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !text.is_empty()
        && text.len() <= 128
        && text != "."
        && text != ".."
        && text.chars().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn containerd_16_start_line_is_understood() {
        let flags = parse(&words(
            "-namespace default -address /run/containerd/containerd.sock \
             -publish-binary /usr/bin/containerd -id demo -debug start",
        ))
        .unwrap();
        assert_eq!(flags.namespace, "default");
        assert_eq!(flags.id, "demo");
        assert_eq!(flags.address, "/run/containerd/containerd.sock");
        assert_eq!(flags.publish_binary, "/usr/bin/containerd");
        assert!(flags.debug);
        assert_eq!(flags.action, Action::Start);
    }

    #[test]
    fn delete_line_with_equals_signs_and_two_dashes_is_understood() {
        let flags = parse(&words(
            "--namespace=k8s.io --id=a -bundle=/b/a -debug=false delete",
        ))
        .unwrap();
        assert_eq!(
            (flags.namespace.as_str(), flags.bundle.as_str()),
            ("k8s.io", "/b/a")
        );
        assert!(!flags.debug);
        assert_eq!(flags.action, Action::Delete);
    }

    #[test]
    fn no_action_means_serve() {
        assert_eq!(
            parse(&words("-id a -namespace b -socket unix:///s"))
                .unwrap()
                .action,
            Action::Serve
        );
    }

    #[test]
    fn bad_lines_are_named() {
        assert_eq!(
            parse(&words("-frobnicate x")),
            Err(CliError::UnknownFlag("frobnicate".into()))
        );
        assert_eq!(parse(&words("-id")), Err(CliError::MissingValue("id")));
        assert_eq!(
            parse(&words("stop")),
            Err(CliError::UnknownAction("stop".into()))
        );
        assert!(matches!(
            parse(&words("-debug=maybe")),
            Err(CliError::NotABoolean { .. })
        ));
    }

    #[test]
    fn ids_that_leave_their_folder_are_refused() {
        for id in ["..", "a/b", "", ".", "a\n", &"x".repeat(129)] {
            let flags = Flags {
                namespace: "default".into(),
                id: id.into(),
                ..Flags::default()
            };
            assert!(flags.require_identity().is_err(), "{id:?}");
        }
    }

    proptest! {
        #[test]
        fn any_line_is_parsed_or_refused(line in proptest::collection::vec(".{0,20}", 0..12)) {
            let arguments: Vec<OsString> = line.into_iter().map(OsString::from).collect();
            let _ = parse(&arguments);
        }
    }
}
