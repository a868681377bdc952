//! The virtual machine as the task service sees it, and how it comes to be.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use redoubt_agent_api::stage::Stage;
use redoubt_launch_plan::{
    CONFIG_PATH_ANNOTATION, ConfigSearch, LaunchPlan, LoadedConfiguration, SandboxRequest,
};
use redoubt_sandbox::{GuestNetwork, LaunchRequest, Sandbox, VmExit, host_facts};
use tokio::sync::watch;
use ttrpc::asynchronous::Client;

use crate::error::{Result, ShimError};
use crate::runtime_options::RuntimeOptions;

/// What a sandbox is to be like.
#[derive(Clone, Debug)]
pub struct LaunchOrder {
    /// Id, annotations and limits.
    pub request: SandboxRequest,
    /// The pod's network namespace.
    pub netns: Option<PathBuf>,
    /// The container's control group on the host, as the specification has it.
    pub cgroups_path: String,
    /// containerd's options for this runtime.
    pub options: RuntimeOptions,
    /// When containerd asked for it.
    pub started: Instant,
}

/// A virtual machine whose agent answers.
#[derive(Clone)]
pub struct Launched {
    /// The machine.
    pub machine: Arc<dyn Machine>,
    /// How long creating a container may take.
    pub create_timeout: Duration,
    /// Log at debug level.
    pub debug: bool,
}

impl std::fmt::Debug for Launched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Launched").finish_non_exhaustive()
    }
}

/// A running virtual machine.
#[async_trait]
pub trait Machine: Send + Sync {
    /// The connection to its agent.
    fn agent(&self) -> Client;
    /// The process that stands for its containers on the host.
    fn pid(&self) -> u32;
    /// What the agent is to be told about the pod's network.
    fn network(&self) -> GuestNetwork;
    /// Tells, once, how it ended.
    fn ended(&self) -> watch::Receiver<Option<VmExit>>;
    /// Why work on it fails, once it is gone.
    fn gone(&self) -> Option<ShimError>;
    /// Notes a stage in the trail.
    fn record(&self, stage: Stage, detail: &str);
    /// Ends it and removes everything that belongs to it.
    async fn stop(&self) -> Result<()>;
}

/// Makes virtual machines.
#[async_trait]
pub trait Launcher: Send + Sync {
    /// Launches one and waits for its agent.
    async fn launch(&self, order: LaunchOrder) -> Result<Launched>;
}

#[async_trait]
impl Machine for Sandbox {
    fn agent(&self) -> Client {
        Sandbox::agent(self)
    }

    fn pid(&self) -> u32 {
        self.qemu_pid()
    }

    fn network(&self) -> GuestNetwork {
        Sandbox::network(self).clone()
    }

    fn ended(&self) -> watch::Receiver<Option<VmExit>> {
        self.vm_exit()
    }

    fn gone(&self) -> Option<ShimError> {
        self.vm_gone().map(ShimError::passed)
    }

    fn record(&self, stage: Stage, detail: &str) {
        self.trail().record(stage, detail);
    }

    async fn stop(&self) -> Result<()> {
        Sandbox::stop(self).await.map_err(ShimError::passed)
    }
}

/// Launches QEMU by the operator's configuration.
#[derive(Debug, Default)]
pub struct QemuLauncher;

#[async_trait]
impl Launcher for QemuLauncher {
    async fn launch(&self, order: LaunchOrder) -> Result<Launched> {
        let LaunchOrder {
            request,
            netns,
            cgroups_path,
            options,
            started,
        } = order;
        let plan = tokio::task::spawn_blocking(move || make_plan(&request, &options))
            .await
            .map_err(|error| ShimError::Internal(error.to_string()))??;
        let netns = netns.filter(|_| !plan.shim.disable_new_netns);
        let create_timeout = Duration::from_millis(plan.agent.create_container_timeout_ms);
        let debug = plan.shim.debug;
        let request = LaunchRequest {
            cgroups_path,
            started,
            ..LaunchRequest::new(plan, netns)
        };
        let sandbox = Sandbox::launch(request).await.map_err(ShimError::passed)?;
        Ok(Launched {
            machine: Arc::new(sandbox),
            create_timeout,
            debug,
        })
    }
}

/// Finds the configuration, reads the files that are measured, and plans. Reads files.
fn make_plan(request: &SandboxRequest, options: &RuntimeOptions) -> Result<LaunchPlan> {
    let search = ConfigSearch {
        annotation: request
            .annotations
            .get(CONFIG_PATH_ANNOTATION)
            .map(PathBuf::from),
        runtime_option: options.config_path.as_ref().map(PathBuf::from),
        environment: std::env::var_os("KATA_CONF_FILE").map(PathBuf::from),
    };
    if options.config_body.is_some() {
        tracing::warn!("ConfigBody of the runtime options is ignored; name a file in ConfigPath");
    }
    let LoadedConfiguration {
        configuration,
        warnings,
        files,
    } = redoubt_launch_plan::load(&search).map_err(ShimError::passed)?;
    tracing::info!(?files, "configuration read");
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    let files =
        redoubt_launch_plan::load_files(&configuration, request).map_err(ShimError::passed)?;
    let plan = redoubt_launch_plan::plan(&configuration, request, &host_facts(), &files)
        .map_err(ShimError::passed)?;
    plan.require_launchable().map_err(ShimError::passed)?;
    for warning in &plan.warnings {
        tracing::warn!("{warning}");
    }
    Ok(plan)
}
