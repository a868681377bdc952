//! What the agent says on the guest's console.
//!
//! The console belongs to the host. Stages, fatal errors and the log's
//! messages go there; environment, arguments, output and keys never do.

#![expect(clippy::print_stdout, reason = "the console is this module's purpose")]

use redoubt_agent_api::stage::{FatalLine, Stage, StageLine};
use redoubt_errors::{ErrorReport, UserError};

/// Says that a stage of the pod's start was reached.
pub(crate) fn stage(stage: Stage, detail: &str) {
    println!("{}", StageLine::new(stage, detail));
}

/// Says why the guest gives up.
pub(crate) fn fatal(error: &dyn UserError) {
    let report = ErrorReport::of(error);
    println!("{}", FatalLine::new(&report.code, &report.message));
}
