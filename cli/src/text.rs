//! Text of several lines under construction.

use std::fmt;

/// Lines for people.
#[derive(Clone, Debug, Default)]
pub(crate) struct Text(String);

impl Text {
    /// Adds a line.
    pub(crate) fn line(&mut self, line: fmt::Arguments<'_>) {
        // Writing to a string has no way to fail.
        let _ = fmt::Write::write_fmt(&mut self.0, line);
        self.0.push('\n');
    }

    /// Adds several lines.
    pub(crate) fn block(&mut self, lines: &str) {
        for line in lines.lines() {
            self.line(format_args!("{line}"));
        }
    }

    /// Adds a heading after an empty line.
    pub(crate) fn heading(&mut self, heading: &str) {
        self.line(format_args!("\n{heading}"));
    }
}

impl From<Text> for String {
    fn from(text: Text) -> Self {
        text.0
    }
}
