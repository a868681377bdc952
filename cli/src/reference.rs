//! Measurements, in the forms in which they are printed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, ValueEnum};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::failure::{CliError, Failure};
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
    /// A message to the reference value provider service (RVPS) of Trustee.
    Rvps,
}

/// How to print the result.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct OutputArgs {
    /// How to print the result.
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Print the launch digests alone, one a line; short for --format bare.
    #[arg(long, conflicts_with = "format")]
    bare: bool,
}

/// The launch digest of one shape, and all that went into it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Measurement {
    pub(crate) tee: &'static str,
    /// In hexadecimal.
    pub(crate) launch_digest: String,
    /// `HOST_DATA` in hexadecimal, where the caller gave initdata.
    pub(crate) host_data: Option<String>,
    pub(crate) inputs: Inputs,
}

/// What a launch digest depends on, and what is reported beside it.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Inputs {
    pub(crate) firmware_sha256: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) svsm_sha256: Option<String>,
    pub(crate) kernel_sha256: Option<String>,
    pub(crate) initrd_sha256: Option<String>,
    pub(crate) cmdline: Option<String>,
    /// With the trailing NUL, as in the kernel-hash table.
    pub(crate) cmdline_sha256: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) vcpus: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cpu_model: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) guest_features: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) vmm: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) guest_policy: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id_block: Option<IdBlockInput>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) initdata_sha256: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) simulated: bool,
}

/// An ID block that the launch agrees with.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct IdBlockInput {
    pub(crate) sha256: String,
    /// As the guest's report repeats it.
    pub(crate) id_key_digest: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) author_key_digest: Option<String>,
}

impl Inputs {
    /// The hash of a command line as it stands in the kernel-hash table.
    pub(crate) fn sha256_of_cmdline(cmdline: &str) -> String {
        hex::encode(
            Sha256::new_with_prefix(cmdline)
                .chain_update([0])
                .finalize(),
        )
    }
}

/// Reference values as the key broker imports them.
#[derive(Serialize)]
struct ReferenceValues<'a> {
    version: u32,
    values: &'a [Measurement],
}

/// A message to an RVPS: `payload` is the base64 of a map from name to values.
#[derive(Serialize)]
struct RvpsMessage {
    version: &'static str,
    #[serde(rename = "type")]
    kind: &'static str,
    payload: String,
}

/// The payload, by the name that Trustee's default policy asks for.
#[derive(Serialize)]
struct RvpsPayload<'a> {
    snp_launch_measurement: Vec<&'a str>,
}

impl OutputArgs {
    /// The form that was asked for, if any.
    pub(crate) fn format(self) -> Option<Format> {
        if self.bare {
            Some(Format::Bare)
        } else {
            self.format
        }
    }

    pub(crate) fn print(
        self,
        printer: Printer,
        measurements: &[Measurement],
    ) -> Result<(), Failure> {
        match self.format() {
            Some(Format::Bare) => printer.text(&bare(measurements)),
            Some(Format::Redoubt) => {
                check_reportable(measurements)?;
                printer.json(&ReferenceValues {
                    version: 1,
                    values: measurements,
                })
            }
            Some(Format::Rvps) => {
                check_reportable(measurements)?;
                printer.json(&rvps(measurements)?)
            }
            Some(Format::Json) => printer.json(&measurements),
            Some(Format::Table) => printer.text(&table(measurements)),
            None => printer.result(&measurements, || table(measurements)),
        }
    }
}

/// Only what a guest reports can be a reference value.
fn check_reportable(measurements: &[Measurement]) -> Result<(), CliError> {
    match measurements.iter().find(|m| m.tee != "snp") {
        Some(Measurement { tee, .. }) => Err(CliError::NotReportable { tee }),
        None => Ok(()),
    }
}

fn rvps(measurements: &[Measurement]) -> Result<RvpsMessage, CliError> {
    let payload = RvpsPayload {
        snp_launch_measurement: measurements
            .iter()
            .map(|m| m.launch_digest.as_str())
            .collect(),
    };
    let payload = serde_json::to_vec(&payload).map_err(CliError::Json)?;
    Ok(RvpsMessage {
        version: "0.1.0",
        kind: "sample",
        payload: STANDARD.encode(payload),
    })
}

fn bare(measurements: &[Measurement]) -> String {
    let lines: Vec<_> = measurements
        .iter()
        .map(|m| m.launch_digest.as_str())
        .collect();
    lines.join("\n")
}

/// The digests by number of vCPUs, then what they have in common.
pub(crate) fn table(measurements: &[Measurement]) -> String {
    let mut text = Text::default();
    text.line(format_args!("vCPUs  launch digest"));
    for measurement in measurements {
        let vcpus = measurement.inputs.vcpus;
        let vcpus = vcpus.map_or_else(|| "any".to_owned(), |vcpus| vcpus.to_string());
        text.line(format_args!("{vcpus:>5}  {}", measurement.launch_digest));
    }
    let Some(first) = measurements.first() else {
        return text.into();
    };
    let inputs = &first.inputs;
    let or_none = |value: &Option<String>| Some(value.as_deref().unwrap_or("none").to_owned());
    let host_data = first.host_data.as_deref().unwrap_or("any");
    text.heading("Made from");
    for (name, value) in [
        ("TEE", (first.tee != "snp").then(|| first.tee.to_owned())),
        (
            "HOST_DATA",
            (first.tee == "snp").then(|| host_data.to_owned()),
        ),
        ("firmware", Some(inputs.firmware_sha256.clone())),
        ("service module", inputs.svsm_sha256.clone()),
        ("kernel", or_none(&inputs.kernel_sha256)),
        ("initrd", or_none(&inputs.initrd_sha256)),
        ("command line", or_none(&inputs.cmdline)),
        ("CPU model", inputs.cpu_model.clone()),
        ("guest features", inputs.guest_features.clone()),
        ("monitor", inputs.vmm.clone()),
        ("guest policy", inputs.guest_policy.clone()),
        (
            "ID key",
            inputs.id_block.as_ref().map(|id| id.id_key_digest.clone()),
        ),
        ("TEE", inputs.simulated.then(|| "simulated".to_owned())),
    ] {
        if let Some(value) = value {
            text.line(format_args!("  {name:<16}{value}"));
        }
    }
    text.into()
}
