//! Making and removing containers.

use std::fs;
use std::path::{Path, PathBuf};

use redoubt_agent_api::agent::{CreateContainerRequest, ExecProcessRequest, StringUser};
use redoubt_containers::{ContainerId, ProcessId};

use crate::agent::{Agent, RootSource};
use crate::error::{AgentError, Result};
use crate::images::{self, GUEST_PULL};
use crate::pause;
use crate::sandbox;
use crate::spec::{GuestParts, runtime_process, runtime_spec};

/// Where the root file systems of containers are.
const BUNDLES: &str = "/run/kata-containers";

impl Agent {
    /// Makes a container from a request that the policy has allowed.
    pub(crate) async fn create_container(&self, request: &CreateContainerRequest) -> Result<()> {
        let id = ContainerId::parse(&request.container_id)?;
        refuse_what_is_not_supported(request)?;
        let resolv_conf = match self.sandbox().as_ref() {
            Some(sandbox) => sandbox.resolv_conf.clone(),
            None => return Err(AgentError::NoSandbox),
        };
        for storage in request
            .storages
            .iter()
            .filter(|storage| storage.driver != GUEST_PULL)
        {
            sandbox::add_storage(storage)?;
        }
        let bundle = Path::new(BUNDLES).join(id.as_str());
        let (root, source) = self.root_file_system(request, &bundle).await?;
        let created = self
            .create_in(&id, request, &source, root, &bundle, resolv_conf)
            .await;
        if created.is_err() {
            self.release_root(&id, &source);
        } else {
            self.roots().insert(id, source);
        }
        created
    }

    async fn create_in(
        &self,
        id: &ContainerId,
        request: &CreateContainerRequest,
        source: &RootSource,
        root: PathBuf,
        bundle: &Path,
        resolv_conf: Option<String>,
    ) -> Result<()> {
        let spec = request
            .OCI
            .as_ref()
            .ok_or_else(|| AgentError::request("there is no OCI specification"))?;
        let parts = GuestParts {
            root: root.to_string_lossy().into_owned(),
            resolv_conf,
        };
        let spec = match source {
            RootSource::Image(_) => runtime_spec(spec, &parts)?,
            RootSource::Pause(_) => runtime_spec(&pause::with_own_process(spec), &parts)?,
        };
        self.containers.create(id, spec, bundle).await?;
        Ok(())
    }

    async fn root_file_system(
        &self,
        request: &CreateContainerRequest,
        bundle: &Path,
    ) -> Result<(PathBuf, RootSource)> {
        let storage = images::guest_pull_storage(request)?
            .ok_or_else(|| AgentError::request("no storage brings the root file system"))?;
        fs::create_dir_all(bundle).map_err(AgentError::file("create", bundle))?;
        if storage.source == pause::REFERENCE {
            let root = pause::root_file_system(bundle)?;
            return Ok((root, RootSource::Pause(bundle.to_owned())));
        }
        let reference = images::agreed_reference(request, storage)?;
        images::check_allowed(&self.trust, &reference)?;
        let (root, _image) = self
            .images
            .root_file_system(&request.container_id, &reference, bundle)
            .await?;
        Ok((root, RootSource::Image(bundle.to_owned())))
    }

    /// Adds a process to a running container.
    pub(crate) async fn exec(&self, request: &ExecProcessRequest) -> Result<()> {
        refuse_string_user(request.string_user.as_ref())?;
        let id = ProcessId::from_request(&request.container_id, &request.exec_id)?;
        let process = request
            .process
            .as_ref()
            .ok_or_else(|| AgentError::request("there is no process"))?;
        self.containers.exec(&id, runtime_process(process)?).await?;
        Ok(())
    }

    /// Ends a container and removes its root file system.
    pub(crate) async fn remove_container(&self, id: &ContainerId) -> Result<()> {
        self.containers.remove(id).await?;
        let source = self.roots().remove(id);
        if let Some(source) = source {
            self.release_root(id, &source);
        }
        Ok(())
    }

    /// Ends everything in the sandbox.
    pub(crate) async fn destroy_sandbox(&self) -> Result<()> {
        let ended = self.containers.destroy_all().await;
        let roots = std::mem::take(&mut *self.roots());
        for (id, source) in &roots {
            self.release_root(id, source);
        }
        *self.sandbox() = None;
        Ok(ended?)
    }

    fn release_root(&self, id: &ContainerId, source: &RootSource) {
        let bundle = match source {
            RootSource::Image(bundle) => {
                if let Err(error) = self.images.release(id.as_str(), bundle) {
                    tracing::warn!(container = %id, %error, "cannot unmount a root file system");
                }
                bundle
            }
            RootSource::Pause(bundle) => {
                pause::release(bundle);
                bundle
            }
        };
        let _ = fs::remove_dir_all(bundle);
    }
}

fn refuse_what_is_not_supported(request: &CreateContainerRequest) -> Result<()> {
    refuse_string_user(request.string_user.as_ref())?;
    if !request.devices.is_empty() {
        return Err(AgentError::request(
            "devices are not supported in this guest",
        ));
    }
    if !request.shared_mounts.is_empty() {
        return Err(AgentError::request(
            "mounts shared between containers are not supported",
        ));
    }
    if [request.stdin_port, request.stdout_port, request.stderr_port]
        .iter()
        .any(|port| *port != 0)
    {
        return Err(AgentError::request(
            "streams over ports of their own are not supported",
        ));
    }
    Ok(())
}

fn refuse_string_user(user: Option<&StringUser>) -> Result<()> {
    match user {
        Some(user) if !user.uid.is_empty() || !user.gid.is_empty() => Err(AgentError::request(
            "users by name are not supported: name them by number",
        )),
        _ => Ok(()),
    }
}
