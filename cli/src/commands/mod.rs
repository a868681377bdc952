//! The verbs, one module each.

mod collateral;
mod config;
mod event_log;
mod explain;
mod firmware;
mod id_block;
mod image;
mod initdata;
mod kbs;
mod measure;
mod measure_pod;
mod plan;
mod report;
mod sandbox;
mod simulator;
mod verify;

use std::process::ExitCode;

use clap::Subcommand;

use crate::failure::Failure;
use crate::printer::Printer;

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Compute the launch digest that a guest will report.
    #[command(subcommand)]
    Measure(measure::Measure),
    /// Explain what the shim will launch, and why.
    Plan(plan::Plan),
    /// Explain why a launch digest is not the expected one.
    Explain(Box<explain::Explain>),
    /// Sign and look into SEV-SNP ID blocks.
    #[command(subcommand)]
    IdBlock(id_block::IdBlockCommand),
    /// Build and look into initdata documents.
    #[command(subcommand)]
    Initdata(initdata::InitdataCommand),
    /// Look into firmware images.
    #[command(subcommand)]
    Firmware(firmware::FirmwareCommand),
    /// Read what TDX guests measured while they booted.
    #[command(subcommand)]
    EventLog(event_log::EventLogCommand),
    /// Describe and check configurations.
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Prepare simulated SEV-SNP, for tests.
    #[command(subcommand)]
    Simulator(simulator::SimulatorCommand),
    /// Judge evidence of a guest, offline.
    #[command(subcommand)]
    Verify(verify::Verify),
    /// Fetch, keep and pass on the collateral of verifications.
    #[command(subcommand)]
    Collateral(collateral::CollateralCommand),
    /// Read reports and quotes.
    #[command(subcommand)]
    Report(report::ReportCommand),
    /// Run the key broker.
    #[command(subcommand)]
    Kbs(kbs::KbsCommand),
    /// Encrypt container images.
    #[command(subcommand)]
    Image(image::ImageCommand),
}

impl Command {
    /// The exit code of a command that did its work; a verdict has several.
    pub(crate) fn run(self, printer: Printer) -> Result<ExitCode, Failure> {
        match self {
            Self::Verify(command) => return command.run(printer),
            Self::Collateral(command) => command.run(printer),
            Self::Report(command) => command.run(printer),
            Self::Measure(command) => command.run(printer),
            Self::Plan(command) => command.run(printer),
            Self::Explain(command) => command.run(printer),
            Self::IdBlock(command) => command.run(printer),
            Self::Initdata(command) => command.run(printer),
            Self::Firmware(command) => command.run(printer),
            Self::EventLog(command) => command.run(printer),
            Self::Config(command) => command.run(printer),
            Self::Simulator(command) => command.run(printer),
            Self::Kbs(command) => command.run(printer),
            Self::Image(command) => command.run(printer),
        }?;
        Ok(ExitCode::SUCCESS)
    }
}
