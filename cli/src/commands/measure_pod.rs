//! `redoubt measure pod`: launch digests of pods before they exist.

use std::path::PathBuf;

use clap::Args;
use redoubt_launch_plan::LaunchPlan;
use redoubt_pod_shape::{Manifest, Workload};
use serde::Serialize;

use super::measure::measurement_of;
use super::sandbox::{SANDBOX_ID, SandboxArgs};
use crate::failure::{CliError, Failure};
use crate::files;
use crate::printer::Printer;
use crate::reference::{self, Format, Measurement, OutputArgs};
use crate::text::Text;

/// A pod by Kubernetes manifest or OCI specification.
#[derive(Debug, Args)]
pub(crate) struct PodArgs {
    /// Kubernetes manifest with pods or workloads.
    #[arg(value_name = "FILE", conflicts_with = "oci_spec")]
    manifest: Option<PathBuf>,
    /// Only this workload of the manifest, as NAME or KIND/NAME.
    #[arg(long, value_name = "NAME", requires = "manifest")]
    workload: Option<String>,
    #[command(flatten)]
    sandbox: SandboxArgs,
}

/// A pod that was planned, and what it is called.
#[derive(Debug)]
pub(super) struct PlannedPod {
    /// Kind and name, where a manifest gave them.
    pub(super) workload: Option<String>,
    pub(super) plan: LaunchPlan,
}

impl PodArgs {
    /// The initdata document that was given.
    pub(super) fn initdata(&self) -> Option<&PathBuf> {
        self.sandbox.initdata.as_ref()
    }

    /// Plans every pod that was asked for; at least one.
    pub(super) fn plans(&self, printer: Printer) -> Result<Vec<PlannedPod>, Failure> {
        let Some(path) = &self.manifest else {
            return Ok(vec![PlannedPod {
                workload: None,
                plan: self.sandbox.plan(printer)?,
            }]);
        };
        let manifest = Manifest::parse(&files::read(path)?)?;
        self.chosen(&manifest)?
            .into_iter()
            .map(|workload| {
                for remark in &workload.remarks {
                    printer.remark(&format!("warning: {remark}"));
                }
                let request = workload.sandbox_request(SANDBOX_ID)?;
                Ok(PlannedPod {
                    workload: Some(workload.to_string()),
                    plan: self.sandbox.plan_of(request, printer)?,
                })
            })
            .collect()
    }

    fn chosen<'a>(&self, manifest: &'a Manifest) -> Result<Vec<&'a Workload>, Failure> {
        let Some(name) = &self.workload else {
            return Ok(manifest.workloads.iter().collect());
        };
        let chosen: Vec<_> = manifest
            .workloads
            .iter()
            .filter(|workload| is_called(workload, name))
            .collect();
        if chosen.is_empty() {
            let found: Vec<_> = manifest.workloads.iter().map(ToString::to_string).collect();
            return Err(CliError::NoSuchWorkload {
                name: name.clone(),
                found: found.join(", "),
            }
            .into());
        }
        Ok(chosen)
    }
}

fn is_called(workload: &Workload, name: &str) -> bool {
    match name.split_once('/') {
        Some((kind, name)) => {
            workload.kind.name().eq_ignore_ascii_case(kind) && workload.name == name
        }
        None => workload.name == name,
    }
}

/// A pod whose digest is computed.
#[derive(Debug, Args)]
pub(crate) struct MeasurePod {
    #[command(flatten)]
    pod: PodArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// A measurement with the workload that it is for.
#[derive(Serialize)]
struct PodMeasurement {
    #[serde(skip_serializing_if = "Option::is_none")]
    workload: Option<String>,
    memory_mib: u32,
    #[serde(flatten)]
    measurement: Measurement,
}

impl MeasurePod {
    pub(super) fn run(self, printer: Printer) -> Result<(), Failure> {
        let mut pods = Vec::new();
        for PlannedPod { workload, plan } in self.pod.plans(printer)? {
            pods.push(PodMeasurement {
                workload,
                memory_mib: plan.memory_mib,
                measurement: measurement_of(&plan).ok_or(CliError::NotMeasured)?,
            });
        }
        match self.output.format() {
            None => printer.result(&pods, || table(&pods)),
            Some(Format::Table) => printer.text(&table(&pods)),
            Some(Format::Json) => printer.json(&pods),
            Some(_) => {
                let measurements: Vec<_> = pods.into_iter().map(|pod| pod.measurement).collect();
                self.output.print(printer, &measurements)
            }
        }
    }
}

fn table(pods: &[PodMeasurement]) -> String {
    let mut text = Text::default();
    for (index, pod) in pods.iter().enumerate() {
        if index > 0 {
            text.line(format_args!(""));
        }
        if let Some(workload) = &pod.workload {
            let memory_mib = pod.memory_mib;
            text.line(format_args!("{workload} ({memory_mib} MiB of memory)"));
        }
        text.block(&reference::table(std::slice::from_ref(&pod.measurement)));
    }
    text.into()
}
