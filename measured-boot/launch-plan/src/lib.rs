//! Configuration, annotations and the launch plan with its readers.
//!
//! [`plan`] turns configuration, request, host facts and files into a
//! [`LaunchPlan`]: plain data, by a pure function. The QEMU arguments, the
//! launch digest, the explanation and the simulated launch are read from it,
//! so that what is measured cannot drift from what is launched.
//!
//! Files are read in two places only: [`load`] for configurations and
//! [`load_files`] for what is measured.

#![forbid(unsafe_code)]

mod acpi_run;
mod config;
mod error;
mod files;
mod hex_bytes;
mod host;
mod plan;
mod qemu;
mod request;
mod resources;

pub use config::{
    ANNOTATION_PREFIX, AgentSettings, AnnotationGate, CONFIG_PATH_ANNOTATION, Candidate,
    ConfigError, ConfigSearch, ConfigSource, ConfigWarning, Configuration, FactorySettings,
    HypervisorSettings, ImageSettings, KeySpec, LoadedConfiguration, LogLevel, RuntimeSettings,
    Timeout, load, reference,
};
pub use error::PlanError;
pub use files::{
    FirmwareFile, MeasuredFile, MeasuredFiles, load_files, load_measured_files, measure_initrd,
    measure_kernel, read_firmware,
};
pub use host::{HostFacts, SnpHost};
pub use plan::{
    Accelerator, AgentPlan, IdBlockPlan, InitdataPlan, LaunchPlan, MemoryBacking, NetworkModel,
    Origin, Protection, QuoteService, ShimPlan, SimulatedLaunch, SnpLaunchPlan, TdxLaunchPlan,
    VsockPlan, plan,
};
pub use request::{ResourceLimits, SandboxRequest};
pub use resources::{
    AcpiRunResources, ConsoleResource, LaunchResources, NetworkInterface, QmpResource,
    VsockResource,
};
