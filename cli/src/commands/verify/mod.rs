//! `redoubt verify`: judge evidence, offline.

mod common;
mod evidence;
mod options;
mod snp;
mod tdx;

use std::process::ExitCode;

use clap::Subcommand;
use redoubt_verifier::Verdict;

use crate::failure::Failure;
use crate::printer::Printer;

pub(super) use options::product;

const EXIT_CODES: &str = "\
Exit codes: 0 verified, 10 partially verified (authentic, but something had no expectation),
20 not verified, 30 unusable input, 2 wrong usage";

/// Evidence to judge. Nothing is fetched: see `redoubt collateral`.
#[derive(Debug, Subcommand)]
pub(crate) enum Verify {
    /// Judge an attestation report of SEV-SNP.
    #[command(after_help = EXIT_CODES)]
    Snp(Box<snp::SnpArgs>),
    /// Judge a quote of TDX.
    #[command(after_help = EXIT_CODES)]
    Tdx(Box<tdx::TdxArgs>),
    /// Judge evidence as a key broker receives it.
    #[command(after_help = EXIT_CODES)]
    Evidence(Box<evidence::EvidenceArgs>),
}

impl Verify {
    /// Prints the verdict; the exit code says its state.
    pub(super) fn run(self, printer: Printer) -> Result<ExitCode, Failure> {
        let verdict = match self {
            Self::Snp(args) => args.verdict(),
            Self::Tdx(args) => args.verdict(),
            Self::Evidence(args) => args.verdict(),
        };
        let verdict: Verdict = verdict.map_err(Failure::unusable_input)?;
        printer.result(&verdict, || verdict.to_string())?;
        Ok(ExitCode::from(verdict.state.exit_code()))
    }
}
