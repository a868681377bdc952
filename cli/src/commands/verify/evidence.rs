//! `redoubt verify evidence`.

use std::path::PathBuf;

use clap::Args;
use redoubt_evidence::Evidence;
use redoubt_verifier::Verdict;

use super::common::CommonArgs;
use super::snp::SnpRules;
use super::tdx::TdxRules;
use crate::failure::Failure;
use crate::files;

/// Evidence in a key broker's JSON to judge.
#[derive(Debug, Args)]
pub(crate) struct EvidenceArgs {
    /// The evidence, or the attestation request that carries it.
    file: PathBuf,
    #[command(flatten)]
    common: CommonArgs,
    #[command(flatten)]
    snp: SnpRules,
    #[command(flatten)]
    tdx: TdxRules,
}

impl EvidenceArgs {
    pub(super) fn verdict(&self) -> Result<Verdict, Failure> {
        match Evidence::parse_kbs_json(&files::read(&self.file)?)? {
            Evidence::Snp(evidence) => self.snp.verdict(*evidence, &self.common),
            Evidence::Tdx(evidence) => self.tdx.verdict(&evidence, &self.common),
        }
    }
}
