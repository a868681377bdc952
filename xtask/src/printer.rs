//! The only place of this program that prints.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is the printer"
)]

use std::io::IsTerminal;
use std::time::Instant;

/// Prints sentences for people: progress on stderr, results on stdout.
#[derive(Debug)]
pub(crate) struct Printer {
    colour: bool,
    start: Instant,
}

impl Printer {
    pub(crate) fn new() -> Self {
        let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self {
            colour,
            start: Instant::now(),
        }
    }

    /// Says what is being done now, with the time since the program started.
    pub(crate) fn step(&self, text: &str) {
        let seconds = self.start.elapsed().as_secs_f64();
        if self.colour {
            eprintln!("\u{1b}[1m{seconds:7.1} s\u{1b}[0m  {text}");
        } else {
            eprintln!("{seconds:7.1} s  {text}");
        }
    }

    /// Says something that belongs to the step before it.
    pub(crate) fn note(&self, text: &str) {
        let _ = self;
        eprintln!("           {text}");
    }

    /// A line of the result.
    pub(crate) fn line(&self, text: &str) {
        let _ = self;
        println!("{text}");
    }

    pub(crate) fn error(&self, error: &anyhow::Error) {
        let mark = if self.colour {
            "\u{1b}[31merror\u{1b}[0m"
        } else {
            "error"
        };
        eprintln!("{mark}: {error:#}");
    }
}
