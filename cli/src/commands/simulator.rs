//! `redoubt simulator`: identities of simulated SEV-SNP hosts.

use std::path::PathBuf;

use clap::Subcommand;
use serde::Serialize;

use crate::failure::Failure;
use crate::printer::Printer;

/// What to do about simulated SEV-SNP.
#[derive(Debug, Subcommand)]
pub(crate) enum SimulatorCommand {
    /// Make keys and certificates of a simulated host. They protect nothing.
    Init {
        /// Folder for the files.
        dir: PathBuf,
    },
}

#[derive(Serialize)]
struct Made {
    dir: PathBuf,
    /// The root certificate, for verifiers that shall accept this simulation.
    trust_anchor: PathBuf,
}

impl SimulatorCommand {
    pub(super) fn run(self, printer: Printer) -> Result<(), Failure> {
        let Self::Init { dir } = self;
        redoubt_snp_simulator::init(&dir)?;
        let made = Made {
            trust_anchor: dir.join("ark.pem"),
            dir,
        };
        printer.result(&made, || {
            format!(
                "simulated SEV-SNP identity in {}\n\
                 Verifiers accept it only where they are given {}.\n",
                made.dir.display(),
                made.trust_anchor.display()
            )
        })
    }
}
