//! Benchmarks that print a ratio against a floor or a peer measured in the same run.

mod attestation;
mod measure;
mod pull;
mod start;

use std::time::Duration;

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::printer::Printer;

/// Options of the benchmarks.
#[derive(Debug, Args)]
pub(crate) struct BenchOptions {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// `ctr run` to the workload's first byte, over a bare QEMU boot of the same guest.
    Start {
        /// How many times each side is measured.
        #[arg(long, default_value_t = 5)]
        rounds: usize,
    },
    /// `redoubt measure snp` over only hashing the same files, and over sev-snp-measure.
    Measure {
        /// How many times each side is measured.
        #[arg(long, default_value_t = 25)]
        rounds: usize,
    },
    /// `redoubt image pull` over skopeo with umoci and over the bare floor.
    Pull(pull::PullOptions),
    /// Verifications over raw signatures, and a key broker with many guests.
    Attestation(attestation::AttestationOptions),
}

/// Runs one benchmark.
pub(crate) fn run(printer: &Printer, options: &BenchOptions) -> Result<()> {
    match &options.bench {
        Bench::Start { rounds } => start::run(printer, (*rounds).max(1)),
        Bench::Measure { rounds } => measure::run(printer, (*rounds).max(1)),
        Bench::Pull(options) => pull::run(printer, options),
        Bench::Attestation(options) => attestation::run(printer, options),
    }
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
