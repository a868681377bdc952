//! Create: the sandbox if there is none yet, then the container in it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use containerd_shim_protos::api::{CreateTaskRequest, CreateTaskResponse};
use containerd_shim_protos::events::task::{TaskCreate, TaskIO};
use redoubt_agent_api::agent::{CopyFileRequest, CreateContainerRequest};
use redoubt_launch_plan::SandboxRequest;

use super::core::Core;
use crate::cli::is_identifier;
use crate::container::Container;
use crate::error::{Result, ShimError};
use crate::image;
use crate::machine::LaunchOrder;
use crate::oci::{self, ContainerKind, FileCopy, MountPlan, Spec};
use crate::pod::{Pod, SandboxFacts};
use crate::process::Process;
use crate::runtime_options::{self, Found, RuntimeOptions};
use crate::stdio::StdioPaths;

/// The largest file that is copied into the guest.
const MAX_COPY_BYTES: u64 = 1 << 20;
/// The largest `resolv.conf`.
const MAX_RESOLV_CONF_BYTES: u64 = 64 << 10;

/// Everything about a container that can be found out before anything is made.
struct Draft {
    id: String,
    bundle: PathBuf,
    kind: ContainerKind,
    config: Vec<u8>,
    spec: Spec,
    mounts: MountPlan,
    image: String,
    init: Process,
}

impl Core {
    pub(super) async fn create(
        self: Arc<Self>,
        request: CreateTaskRequest,
    ) -> Result<CreateTaskResponse> {
        let started = Instant::now();
        let _turn = self.creating.lock().await;
        if self.has_container(&request.id) {
            return Err(ShimError::ContainerExists(request.id));
        }
        if !request.checkpoint.is_empty() {
            return Err(ShimError::Checkpoint);
        }
        let options = read_options(&request)?;
        let draft = Draft::new(&request)?;
        let (pod, made_here) = self.pod_of(&draft, options, started).await?;
        if let Err(error) = create_in_guest(&pod, &draft).await {
            let error = pod.explain(error).await;
            if made_here {
                self.forget_pod();
                pod.stop().await;
            }
            return Err(error);
        }
        let pid = pod.machine.pid();
        let Draft {
            id,
            kind,
            bundle,
            init,
            ..
        } = draft;
        self.remember_container(Arc::new(Container::new(id, kind, bundle, Arc::new(init))));
        self.announce(request, pid);
        Ok(CreateTaskResponse {
            pid,
            ..CreateTaskResponse::default()
        })
    }

    /// The sandbox for a container, and whether it was made for it.
    async fn pod_of(
        self: &Arc<Self>,
        draft: &Draft,
        options: RuntimeOptions,
        started: Instant,
    ) -> Result<(Arc<Pod>, bool)> {
        let wanted = draft.kind.sandbox_id(&draft.id).to_owned();
        match (self.pod(), draft.kind.owns_machine()) {
            (Some(pod), true) => Err(ShimError::SecondSandbox {
                existing: pod.id.clone(),
                refused: wanted,
            }),
            (None, false) => Err(ShimError::NoSandbox(draft.id.clone())),
            (Some(pod), false) if pod.id == wanted => Ok((pod, false)),
            (Some(pod), false) => Err(ShimError::OtherSandbox {
                container: draft.id.clone(),
                wanted,
                served: pod.id.clone(),
            }),
            (None, true) => {
                let pod = Arc::new(self.launch(draft, options, started).await?);
                self.remember_pod(pod.clone());
                self.watch(&pod);
                Ok((pod, true))
            }
        }
    }

    async fn launch(
        &self,
        draft: &Draft,
        options: RuntimeOptions,
        started: Instant,
    ) -> Result<Pod> {
        let request =
            SandboxRequest::from_oci_spec(&draft.id, &draft.config).map_err(ShimError::passed)?;
        let order = LaunchOrder {
            request,
            netns: draft.spec.network_namespace().map(PathBuf::from),
            cgroups_path: draft.spec.cgroups_path().to_owned(),
            options,
            started,
        };
        let shutdown = self.shutdown_token();
        let work = async {
            let launched = self.launcher.launch(order).await?;
            if launched.debug {
                crate::logging::more();
            }
            Pod::set_up(launched, draft.sandbox_facts()).await
        };
        tokio::select! {
            pod = work => pod,
            // What was made so far is removed when the shim ends.
            () = shutdown.cancelled() => Err(ShimError::ShuttingDown),
        }
    }

    fn announce(&self, request: CreateTaskRequest, pid: u32) {
        self.events.send(&TaskCreate {
            container_id: request.id,
            bundle: request.bundle,
            rootfs: request.rootfs,
            io: Some(TaskIO {
                stdin: request.stdin,
                stdout: request.stdout,
                stderr: request.stderr,
                terminal: request.terminal,
                ..TaskIO::default()
            })
            .into(),
            pid,
            ..TaskCreate::default()
        });
    }
}

fn read_options(request: &CreateTaskRequest) -> Result<RuntimeOptions> {
    match runtime_options::parse(request.options.as_ref())? {
        Found::Options(options) => Ok(options),
        Found::Nothing => Ok(RuntimeOptions::default()),
        Found::Foreign(name) => {
            tracing::warn!(name, "runtime options of another runtime are ignored");
            Ok(RuntimeOptions::default())
        }
    }
}

impl Draft {
    fn new(request: &CreateTaskRequest) -> Result<Self> {
        if !is_identifier(&request.id) {
            let id = request.id.clone();
            return Err(ShimError::BadIdentifier {
                what: "container id",
                id,
            });
        }
        let bundle = PathBuf::from(&request.bundle);
        let config = oci::read_config(&bundle)?;
        let spec = oci::parse_spec(&config)?;
        let kind = oci::container_kind(&request.id, &spec)?;
        let mounts = oci::plan_mounts(&request.id, &spec.mounts)?;
        let image = image::image_reference(&kind, &spec)?;
        let init = Process::init(
            &request.id,
            StdioPaths {
                terminal: request.terminal,
                stdin: request.stdin.clone(),
                stdout: request.stdout.clone(),
                stderr: request.stderr.clone(),
            },
        )?;
        Ok(Self {
            id: request.id.clone(),
            bundle,
            kind,
            config,
            spec,
            mounts,
            image,
            init,
        })
    }

    fn sandbox_facts(&self) -> SandboxFacts {
        let resolv_conf = self
            .mounts
            .copies
            .iter()
            .find(|copy| copy.destination == "/etc/resolv.conf");
        SandboxFacts {
            id: self.id.clone(),
            hostname: self.spec.hostname.clone(),
            dns: resolv_conf
                .map(|copy| dns_lines(&copy.source))
                .unwrap_or_default(),
        }
    }
}

fn dns_lines(path: &Path) -> Vec<String> {
    match oci::read_bounded(path, MAX_RESOLV_CONF_BYTES) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            text.lines()
                .map(str::trim_end)
                .filter(|line| !line.is_empty())
                .map(str::to_owned)
                .collect()
        }
        Err(error) => {
            tracing::warn!(error = error.one_line(), "the pod gets no name servers");
            Vec::new()
        }
    }
}

async fn create_in_guest(pod: &Pod, draft: &Draft) -> Result<()> {
    let mut mounts = draft.mounts.clone();
    for copy in &draft.mounts.copies {
        if !copy_file(pod, copy).await? {
            tracing::info!(
                container = draft.id,
                mount = copy.destination,
                "the agent takes no files from the host; the image's own file stays"
            );
            mounts.skip(copy);
        }
    }
    let spec = oci::guest_spec(
        &draft.id,
        &draft.bundle,
        &draft.kind,
        &draft.spec,
        mounts.mounts,
    )?;
    let storage = image::guest_pull(&draft.id, &draft.image, &spec.Annotations);
    pod.agent
        .create_container(CreateContainerRequest {
            container_id: draft.id.clone(),
            exec_id: draft.id.clone(),
            storages: vec![storage],
            OCI: Some(spec).into(),
            ..CreateContainerRequest::default()
        })
        .await
}

/// Copies one file; false if the agent offers no copying.
async fn copy_file(pod: &Pod, copy: &FileCopy) -> Result<bool> {
    let data = oci::read_bounded(&copy.source, MAX_COPY_BYTES)?;
    let request = CopyFileRequest {
        path: copy.guest_path.clone(),
        file_size: i64::try_from(data.len()).unwrap_or(i64::MAX),
        file_mode: 0o100_644,
        dir_mode: 0o40_750,
        data,
        ..CopyFileRequest::default()
    };
    match pod.agent.copy_file(request).await {
        Ok(_) => Ok(true),
        Err(error) if error.is_unimplemented() => Ok(false),
        Err(error) => Err(error),
    }
}
