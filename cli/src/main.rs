//! The `redoubt` command: measure, explain, build, run the key broker.
//!
//! Each verb is a module of [`commands`]; what people read goes through
//! [`printer`], which is the only place that prints.

#![forbid(unsafe_code)]

mod commands;
mod explanation;
mod failure;
mod files;
mod in_file;
mod printer;
mod reference;
mod runtime;
mod text;
mod values;

use std::process::ExitCode;

use clap::Parser;

use commands::Command;
use printer::Printer;

const EXIT_CODES: &str = "\
Exit codes: 0 done, 1 files and other causes, 2 wrong usage, 3 configuration or launch plan,
4 firmware, digest, initdata or guest image, 5 evidence or simulation, 6 key broker, 20 images";

/// Confidential containers: know what will be launched, and what it will report.
#[derive(Debug, Parser)]
#[command(name = "redoubt", version, propagate_version = true, after_help = EXIT_CODES)]
struct Cli {
    /// Print JSON for programs, errors included.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let printer = Printer::new(cli.json);
    match cli.command.run(printer) {
        Ok(code) => code,
        Err(failure) => {
            printer.failure(&failure);
            failure.exit_code()
        }
    }
}
