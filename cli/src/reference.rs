//! Measurements, in the forms in which they are printed.

use clap::ValueEnum;
use redoubt_launch_digest::LaunchDigest;
use serde::Serialize;

use crate::failure::Failure;
use crate::printer::Printer;
use crate::text::Text;

/// How measurements are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// The launch digests alone, one a line.
    Bare,
    /// Everything, for programs.
    Json,
    /// Reference values for Redoubt's key broker.
    Redoubt,
}

/// The launch digest of one shape, and all that went into it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Measurement {
    pub(crate) tee: &'static str,
    pub(crate) launch_digest: LaunchDigest,
    /// `HOST_DATA` in hexadecimal, where the caller gave initdata.
    pub(crate) host_data: Option<String>,
    pub(crate) inputs: Inputs,
}

/// What a launch digest depends on.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Inputs {
    pub(crate) firmware_sha256: String,
    pub(crate) kernel_sha256: Option<String>,
    pub(crate) initrd_sha256: Option<String>,
    pub(crate) cmdline: Option<String>,
    pub(crate) vcpus: u32,
    pub(crate) cpu_model: String,
    pub(crate) guest_features: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) guest_policy: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) initdata_sha256: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) simulated: bool,
}

/// Reference values as the key broker imports them.
#[derive(Serialize)]
struct ReferenceValues<'a> {
    version: u32,
    values: &'a [Measurement],
}

pub(crate) fn print(
    printer: Printer,
    format: Option<Format>,
    measurements: &[Measurement],
) -> Result<(), Failure> {
    match format {
        Some(Format::Bare) => printer.text(&bare(measurements)),
        Some(Format::Redoubt) => printer.json(&ReferenceValues {
            version: 1,
            values: measurements,
        }),
        Some(Format::Json) => printer.json(&measurements),
        Some(Format::Table) => printer.text(&table(measurements)),
        None => printer.result(&measurements, || table(measurements)),
    }
}

fn bare(measurements: &[Measurement]) -> String {
    let lines: Vec<_> = measurements
        .iter()
        .map(|m| m.launch_digest.to_string())
        .collect();
    lines.join("\n")
}

/// The digests by number of vCPUs, then what they have in common.
pub(crate) fn table(measurements: &[Measurement]) -> String {
    let mut text = Text::default();
    text.line(format_args!("vCPUs  launch digest"));
    for measurement in measurements {
        let vcpus = measurement.inputs.vcpus;
        text.line(format_args!("{vcpus:>5}  {}", measurement.launch_digest));
    }
    let Some(first) = measurements.first() else {
        return text.into();
    };
    let inputs = &first.inputs;
    let or_none = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".to_owned());
    text.heading("Made from");
    let mut row = |name: &str, value: &str| text.line(format_args!("  {name:<16}{value}"));
    row("HOST_DATA", first.host_data.as_deref().unwrap_or("any"));
    row("firmware", &inputs.firmware_sha256);
    row("kernel", &or_none(&inputs.kernel_sha256));
    row("initrd", &or_none(&inputs.initrd_sha256));
    row("command line", &or_none(&inputs.cmdline));
    row("CPU model", &inputs.cpu_model);
    row("guest features", &inputs.guest_features);
    if let Some(policy) = &inputs.guest_policy {
        row("guest policy", policy);
    }
    if inputs.simulated {
        row("TEE", "simulated");
    }
    text.into()
}
