//! `redoubt measure`: launch digests before anything is launched.

#![expect(
    clippy::doc_markdown,
    reason = "doc comments of options are their help"
)]

mod parts;
mod sandbox;
mod sev;
mod shape;
mod snp;
mod tdx;

use clap::Subcommand;

pub(super) use sandbox::measurement_of;

use super::measure_pod::MeasurePod;
use crate::failure::Failure;
use crate::printer::Printer;

/// What to measure.
#[derive(Debug, Subcommand)]
pub(crate) enum Measure {
    /// Measure an SEV-SNP launch from its parts.
    Snp(snp::SnpArgs),
    /// Measure an SEV-ES launch from its parts.
    SevEs(sev::SevEsArgs),
    /// Measure an SEV launch from its parts.
    Sev(sev::SevArgs),
    /// Measure a TDX launch from its parts.
    Tdx(tdx::TdxArgs),
    /// Measure a sandbox as the shim will launch it.
    Sandbox(sandbox::MeasureSandbox),
    /// Measure the pods of a Kubernetes manifest as the shim will launch them.
    Pod(MeasurePod),
}

impl Measure {
    pub(super) fn run(self, printer: Printer) -> Result<(), Failure> {
        match self {
            Self::Snp(args) => args.run(printer),
            Self::SevEs(args) => args.run(printer),
            Self::Sev(args) => args.run(printer),
            Self::Tdx(args) => args.run(printer),
            Self::Sandbox(args) => args.run(printer),
            Self::Pod(args) => args.run(printer),
        }
    }
}
