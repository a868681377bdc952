//! Project tasks: prepare the machine, build the guest, run the demo, the tests and the
//! benchmarks, write the reference pages.

#![forbid(unsafe_code)]

mod apt;
mod bench;
mod build;
mod demo;
mod docs;
mod fuzz;
mod guest;
mod paths;
mod peer;
mod printer;
mod reference;
mod root_disk;
mod setup;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::printer::Printer;

/// Project tasks of Redoubt.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", disable_version_flag = true)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Prepare the machine: packages, firmware, guest kernel, tools.
    Setup,
    /// Build the guest's kernel and initrd with a manifest of every file and reference values.
    Guest(guest::GuestOptions),
    /// Run an encrypted image in a measured, attested VM on this machine.
    Demo(demo::DemoOptions),
    /// Check formatting and lints, run the unit tests and the end-to-end tests.
    Test(test::TestOptions),
    /// Write the reference pages that are made from the code: errors, commands, configuration.
    Docs(docs::DocsOptions),
    /// Feed the parsers with hostile input, each for a while.
    Fuzz(fuzz::FuzzOptions),
    /// Measure against a peer or a floor in the same run.
    Bench(bench::BenchOptions),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let printer = Printer::new();
    let outcome = match arguments.task {
        Task::Setup => setup::run(&printer).map(|_| 0),
        Task::Guest(options) => guest::run_options(&printer, &options).map(|()| 0),
        Task::Demo(options) => demo::run(&printer, &options),
        Task::Test(options) => test::run(&printer, &options).map(|()| 0),
        Task::Docs(options) => docs::run(&printer, &options).map(|()| 0),
        Task::Fuzz(options) => fuzz::run(&printer, &options).map(|()| 0),
        Task::Bench(options) => bench::run(&printer, &options).map(|()| 0),
    };
    match outcome {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            printer.error(&error);
            ExitCode::FAILURE
        }
    }
}
