//! `redoubt measure tdx`: MRTD and RTMRs from a launch's parts.

mod acpi;
mod boot;
mod generation;
mod inputs;
mod output;

use std::path::PathBuf;

use clap::Args;
use redoubt_event_log::{EventLog, Rtmr};
use redoubt_firmware::Firmware;
use redoubt_initdata::Initdata;
use redoubt_launch_digest::check_vcpus;
use redoubt_tdx_measurement::{
    EventLayout, MeasuredEvent, Platform, TdxError, mrtd, rtmr0_events, rtmr0_events_from_log,
};

use self::boot::Boot;
use self::generation::GenerationArgs;
use self::inputs::{TdxInputs, sha256};
use self::output::TdxMeasurement;
use crate::failure::Failure;
use crate::files;
use crate::in_file::NameFile;
use crate::printer::Printer;
use crate::reference::OutputArgs;

/// Events of registers, or why they cannot be predicted.
type Prediction = Result<Vec<MeasuredEvent>, &'static str>;

/// The parts of a TDX launch by QEMU and KVM.
#[derive(Debug, Args)]
pub(crate) struct TdxArgs {
    /// OVMF image with TDX metadata.
    #[arg(long, value_name = "FILE")]
    firmware: PathBuf,
    /// Guest kernel with an EFI stub; RTMR1 and RTMR2 depend on it.
    #[arg(long, value_name = "FILE")]
    kernel: Option<PathBuf>,
    /// Initial RAM disk.
    #[arg(long, value_name = "FILE", requires = "kernel")]
    initrd: Option<PathBuf>,
    /// Kernel command line.
    #[arg(long, value_name = "TEXT", requires = "kernel")]
    append: Option<String>,
    /// The guest's memory in MiB; RTMR0 depends on it.
    #[arg(long, value_name = "MIB")]
    memory: Option<u64>,
    /// Number of vCPUs, to compare with the ACPI tables.
    #[arg(long, value_name = "N")]
    vcpus: Option<u32>,
    /// QEMU's ACPI tables: a directory with tables, rsdp and table-loader, or the tables alone.
    #[arg(long, value_name = "PATH", requires = "memory")]
    acpi_tables: Option<PathBuf>,
    /// Event log of a guest of the same shape, to take RTMR0 from; for firmware since 2025.05.
    #[arg(long, value_name = "FILE", requires = "memory", conflicts_with_all = ["acpi_tables", "vcpus"])]
    event_log: Option<PathBuf>,
    /// Initdata document whose digest the host passes as MRCONFIGID.
    #[arg(long, value_name = "FILE")]
    initdata: Option<PathBuf>,
    #[command(flatten)]
    generation: GenerationArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl TdxArgs {
    pub(super) fn run(self, printer: Printer) -> Result<(), Failure> {
        let path = &self.firmware;
        let image = files::read(path)?;
        let firmware = Firmware::parse(&image).in_file(path)?;
        let version = firmware.version();
        let generation = self.generation.resolve(&version);
        let mrtd = mrtd(&firmware, generation.page_order).in_file(path)?;
        if let Some(vcpus) = self.vcpus {
            check_vcpus(&(vcpus..=vcpus))?;
        }
        let mut inputs = TdxInputs::new(&image, version, generation);
        inputs.memory_mib = self.memory;
        inputs.vcpus = self.vcpus;
        let mr_config_id = self.mr_config_id(&mut inputs)?;
        let rtmr0 = self.rtmr0(&firmware, generation.layout, &mut inputs)?;
        let boot = match &self.kernel {
            None => Err("it depends on the kernel: give --kernel"),
            Some(kernel) => Boot {
                kernel,
                initrd: self.initrd.as_deref(),
                cmdline: self.append.as_deref().unwrap_or_default(),
            }
            .events(generation, &mut inputs)?,
        };
        let mut measurement = TdxMeasurement::new(mrtd, mr_config_id, inputs);
        measurement.predict(&[Rtmr::Rtmr0], rtmr0);
        measurement.predict(&[Rtmr::Rtmr1, Rtmr::Rtmr2], boot);
        output::print(&[measurement], printer, self.output.format())
    }

    fn mr_config_id(&self, inputs: &mut TdxInputs) -> Result<Option<[u8; 48]>, Failure> {
        let Some(path) = &self.initdata else {
            return Ok(None);
        };
        let bytes = files::read(path)?;
        inputs.initdata_sha256 = Some(sha256(&bytes));
        let document = Initdata::parse_toml(&bytes).in_file(path)?;
        Ok(Some(document.mr_config_id()))
    }

    fn rtmr0(
        &self,
        firmware: &Firmware,
        layout: EventLayout,
        inputs: &mut TdxInputs,
    ) -> Result<Prediction, Failure> {
        let Some(memory_mib) = self.memory else {
            return Ok(Err("it depends on the guest's memory: give --memory"));
        };
        if let Some(path) = &self.event_log {
            let bytes = files::read(path)?;
            inputs.event_log_sha256 = Some(sha256(&bytes));
            let log = EventLog::parse(&bytes).in_file(path)?;
            let events = rtmr0_events_from_log(firmware, memory_mib, &log).in_file(path)?;
            return Ok(Ok(events));
        }
        let Some(path) = &self.acpi_tables else {
            return Ok(Err(
                "it depends on QEMU's ACPI tables: give --acpi-tables, or the --event-log of a \
                 guest of the same shape",
            ));
        };
        let tables = acpi::read(path, inputs)?;
        if let Some(vcpus) = self.vcpus {
            tables.check_vcpus(vcpus).in_file(path)?;
        }
        let platform = Platform {
            memory_mib,
            acpi: tables.digests(),
        };
        match rtmr0_events(firmware, &platform, layout) {
            Err(TdxError::UnpredictableLayout { .. }) => Ok(Err(
                "firmware since 2025.05 measures SMBIOS tables and settings of QEMU as well: give \
                 the --event-log of a guest of the same shape",
            )),
            outcome => Ok(Ok(outcome.in_file(&self.firmware)?)),
        }
    }
}
