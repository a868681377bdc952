//! Evidence and handshakes: verifications over raw signatures, and a broker under load.

mod broker;
mod guests;
mod signatures;

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::build;
use crate::paths::Paths;
use crate::printer::Printer;

/// Options of this benchmark.
#[derive(Debug, Args)]
pub(crate) struct AttestationOptions {
    /// How many handshakes the broker is put through.
    #[arg(long, default_value_t = 2048)]
    handshakes: usize,
    /// How many clients come at the same time.
    #[arg(long, default_value_t = 64)]
    clients: usize,
    /// The `redoubt` program to measure, instead of one that is built now.
    #[arg(long, value_name = "FILE")]
    redoubt: Option<PathBuf>,
}

/// Runs both parts.
pub(super) fn run(printer: &Printer, options: &AttestationOptions) -> Result<()> {
    let paths = Paths::find()?;
    let redoubt = if let Some(path) = &options.redoubt {
        path.clone()
    } else {
        printer.step("building shim and command line");
        build::host_programs(&paths)?;
        paths.binary("redoubt")
    };
    signatures::run(printer, &paths.root)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(guests::run(printer, &redoubt, options))
}
