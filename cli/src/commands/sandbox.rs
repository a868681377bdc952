//! Options that describe a sandbox, and the plan that the shim would make for it.

use std::path::PathBuf;

use clap::Args;
use redoubt_initdata::{ANNOTATION, Initdata};
use redoubt_launch_plan::{
    CONFIG_PATH_ANNOTATION, ConfigSearch, HostFacts, LaunchPlan, SandboxRequest, load,
    load_measured_files, plan,
};

use crate::failure::Failure;
use crate::files;
use crate::printer::Printer;
use crate::values::Pair;

/// Name of a sandbox that is only planned.
pub(super) const SANDBOX_ID: &str = "measured";

/// A sandbox by configuration, annotations and OCI specification.
#[derive(Debug, Args)]
pub(crate) struct SandboxArgs {
    /// Configuration file; without one it is searched as the shim does.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Annotation of the pod; may be given several times.
    #[arg(long = "annotation", value_name = "NAME=VALUE")]
    annotations: Vec<Pair>,
    /// OCI specification (`config.json`) of the sandbox.
    #[arg(long, value_name = "FILE")]
    oci_spec: Option<PathBuf>,
    /// Initdata document to pass as an annotation.
    #[arg(long, value_name = "FILE")]
    pub(super) initdata: Option<PathBuf>,
}

impl SandboxArgs {
    /// Makes the plan, for a host that offers what the configuration asks for.
    ///
    /// Nothing that a host offers is measured, so that the digest is the same.
    pub(super) fn plan(&self, printer: Printer) -> Result<LaunchPlan, Failure> {
        self.plan_of(self.request()?, printer)
    }

    /// The same for a request that came from elsewhere; the options' annotations go over its own.
    pub(super) fn plan_of(
        &self,
        mut request: SandboxRequest,
        printer: Printer,
    ) -> Result<LaunchPlan, Failure> {
        self.annotate(&mut request)?;
        let search = ConfigSearch {
            annotation: request
                .annotations
                .get(CONFIG_PATH_ANNOTATION)
                .map(PathBuf::from),
            runtime_option: None,
            environment: std::env::var_os("KATA_CONF_FILE").map(PathBuf::from),
        };
        let search = match &self.config {
            Some(config) => ConfigSearch {
                runtime_option: Some(config.clone()),
                ..ConfigSearch::default()
            },
            None => search,
        };
        let loaded = load(&search)?;
        for warning in &loaded.warnings {
            printer.remark(&format!("warning: {warning}"));
        }
        let measured = load_measured_files(&loaded.configuration, &request)?;
        let plan = plan(
            &loaded.configuration,
            &request,
            &HostFacts::assumed_snp(),
            &measured,
        )?;
        for warning in &plan.warnings {
            printer.remark(&format!("warning: {warning}"));
        }
        Ok(plan)
    }

    fn request(&self) -> Result<SandboxRequest, Failure> {
        Ok(match &self.oci_spec {
            Some(path) => SandboxRequest::from_oci_spec(SANDBOX_ID, &files::read(path)?)?,
            None => SandboxRequest {
                sandbox_id: SANDBOX_ID.to_owned(),
                ..SandboxRequest::default()
            },
        })
    }

    fn annotate(&self, request: &mut SandboxRequest) -> Result<(), Failure> {
        for Pair { name, value } in &self.annotations {
            request.annotations.insert(name.clone(), value.clone());
        }
        if let Some(path) = &self.initdata {
            let document = Initdata::parse_toml(&files::read(path)?)?;
            request
                .annotations
                .insert(ANNOTATION.to_owned(), document.to_annotation()?);
        }
        Ok(())
    }
}
