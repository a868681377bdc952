//! Stable error codes, hints, and the one-line form of an error chain.
//!
//! Every error that a user can meet implements [`UserError`]. Its `Display`
//! says what went wrong without repeating its source; [`OneLine`] joins the
//! chain at the edge of the program, where a person reads it:
//!
//! ```text
//! [RDT-FW-004] firmware /usr/share/OVMF.fd has no kernel-hash section (hint: use an AmdSev build)
//! ```

#![forbid(unsafe_code)]

use std::error::Error;
use std::fmt;

use serde::{Deserialize, Serialize};

/// A stable identifier of one way to fail, `RDT-<AREA>-<NNN>`.
///
/// A code is never given a second meaning; `docs/errors.md` lists all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct ErrorCode(pub &'static str);

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// An error that reaches a user's own screen.
pub trait UserError: Error + Send + Sync + 'static {
    /// The stable code of this failure.
    fn code(&self) -> ErrorCode;

    /// What the user can do next, where there is something to do.
    fn hint(&self) -> Option<String> {
        None
    }
}

/// Shows an error with its code, its causes and its hint on one line.
#[derive(Clone, Copy)]
pub struct OneLine<'a>(pub &'a dyn UserError);

impl fmt::Debug for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {}", self.0.code(), flatten(&self.0.to_string()))?;
        let mut source = self.0.source();
        while let Some(cause) = source {
            write!(f, ": {}", flatten(&cause.to_string()))?;
            source = cause.source();
        }
        if let Some(hint) = self.0.hint() {
            write!(f, " (hint: {})", flatten(&hint))?;
        }
        Ok(())
    }
}

/// The serialised form of an error, for `--json` output and for the wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorReport {
    /// The stable code.
    pub code: String,
    /// The message with its causes, on one line.
    pub message: String,
    /// What to do next.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub hint: Option<String>,
}

impl ErrorReport {
    /// Collects the code, the chain of causes and the hint of an error.
    pub fn of(error: &dyn UserError) -> Self {
        let mut message = flatten(&error.to_string());
        let mut source = error.source();
        while let Some(cause) = source {
            message.push_str(": ");
            message.push_str(&flatten(&cause.to_string()));
            source = cause.source();
        }
        Self {
            code: error.code().0.to_owned(),
            message,
            hint: error.hint(),
        }
    }
}

/// Makes text safe for one terminal line: control characters become spaces.
///
/// Text from a guest, a registry or a broker may end in an error message; it
/// must not be able to move the cursor or start a second line.
pub fn flatten(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Outer(std::io::Error);

    impl fmt::Display for Outer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("cannot read firmware /f.fd")
        }
    }

    impl Error for Outer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }

    impl UserError for Outer {
        fn code(&self) -> ErrorCode {
            ErrorCode("RDT-FW-001")
        }

        fn hint(&self) -> Option<String> {
            Some("check the path".to_owned())
        }
    }

    #[test]
    fn one_line_joins_code_chain_and_hint() {
        let error = Outer(std::io::Error::other("disk\non fire\u{1b}[2J"));
        assert_eq!(
            OneLine(&error).to_string(),
            "[RDT-FW-001] cannot read firmware /f.fd: disk on fire [2J (hint: check the path)"
        );
    }

    #[test]
    fn report_keeps_the_parts_apart() {
        let report = ErrorReport::of(&Outer(std::io::Error::other("gone")));
        assert_eq!(report.code, "RDT-FW-001");
        assert_eq!(report.message, "cannot read firmware /f.fd: gone");
        assert_eq!(report.hint.as_deref(), Some("check the path"));
    }
}
