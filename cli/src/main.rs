//! The `redoubt` command: measure, explain, build, run the key broker.
//!
//! Each verb is a module of [`commands`]; what people read goes through
//! [`printer`], which is the only place that prints.

#![forbid(unsafe_code)]

mod commands;
mod failure;
mod files;
mod printer;
mod reference;
mod runtime;
mod text;
mod values;

use std::process::ExitCode;

use clap::Parser;

use commands::Command;
use printer::Printer;

/// Confidential containers: know what will be launched, and what it will report.
#[derive(Debug, Parser)]
#[command(name = "redoubt", version, propagate_version = true)]
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
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            printer.failure(&failure);
            failure.exit_code()
        }
    }
}
