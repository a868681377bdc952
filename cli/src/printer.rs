//! The only place that prints: results to standard output, errors to standard error.

use std::io::{self, Write};

use redoubt_errors::{ErrorReport, OneLine};
use serde::Serialize;

use crate::failure::{CliError, Failure};

/// Prints for people or for programs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Printer {
    json: bool,
}

impl Printer {
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Prints a result: its text for people, its value as JSON for programs.
    pub(crate) fn result(
        self,
        value: &impl Serialize,
        text: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        if self.json {
            self.json(value)
        } else {
            self.text(&text())
        }
    }

    /// Prints a value as JSON.
    pub(crate) fn json(self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(value).map_err(CliError::Json)?;
        self.text(&text)
    }

    /// Prints text, with a line end if it has none.
    pub(crate) fn text(self, text: &str) -> Result<(), Failure> {
        let end = if text.ends_with('\n') { "" } else { "\n" };
        self.bytes(&[text.as_bytes(), end.as_bytes()].concat())
    }

    /// Writes bytes as they are.
    #[expect(
        clippy::unused_self,
        reason = "whoever prints must have been given a printer"
    )]
    pub(crate) fn bytes(self, bytes: &[u8]) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        match out.write_all(bytes).and_then(|()| out.flush()) {
            // A reader that has seen enough, such as `head`, is no error.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            outcome => outcome.map_err(|error| CliError::Output(error).into()),
        }
    }

    /// Prints a remark for people, beside the result.
    pub(crate) fn remark(self, text: &str) {
        if !self.json {
            // Without a standard error there is nobody to tell.
            let _ = writeln!(io::stderr(), "{}", redoubt_errors::flatten(text));
        }
    }

    /// Prints why the command failed, on one line.
    pub(crate) fn failure(self, failure: &Failure) {
        let text = if self.json {
            serde_json::to_string(&ErrorReport::of(failure.error())).unwrap_or_default()
        } else {
            OneLine(failure.error()).to_string()
        };
        let _ = writeln!(io::stderr(), "{text}");
    }
}
