//! `redoubt plan`: what the shim will launch, in sentences.

use clap::Args;

use super::sandbox::SandboxArgs;
use crate::failure::Failure;
use crate::printer::Printer;

/// A sandbox whose plan is explained.
#[derive(Debug, Args)]
pub(crate) struct Plan {
    #[command(flatten)]
    sandbox: SandboxArgs,
}

impl Plan {
    pub(super) fn run(self, printer: Printer) -> Result<(), Failure> {
        let plan = self.sandbox.plan(printer)?;
        printer.result(&plan, || plan.explain())
    }
}
