//! Making and removing containers.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use redoubt_agent_api::agent::{
    CreateContainerRequest, CreateSandboxRequest, ExecProcessRequest, StringUser,
};
use redoubt_agent_api::oci;
use redoubt_containers::{ContainerError, ContainerId, ContainerState, ProcessId};

use crate::agent::Agent;
use crate::error::{AgentError, Result};
use crate::identity::{GUEST_PULL, ImageIdentity};
use crate::images;
use crate::mounts::{self, Pins};
use crate::pause;
use crate::sandbox::Sandbox;
use crate::spec::{fill_from_image, runtime_process, runtime_spec};

/// The most containers that exist or are being made at a time.
const MAX_CONTAINERS: usize = 256;

/// What stands under a container's name, from its request until it is removed.
#[derive(Debug)]
pub(crate) enum Slot {
    /// A request is being worked on; if the sandbox ended meanwhile, it fails.
    Making {
        /// Whether the sandbox ended.
        is_doomed: bool,
    },
    /// A container and what was made for it.
    Ready(Made),
}

/// What was made for one container, so that exactly this is undone.
#[derive(Debug)]
pub(crate) struct Made {
    bundle: PathBuf,
    has_bundle: bool,
    root: Option<RootKind>,
    pins: Pins,
    storages: Vec<PathBuf>,
}

#[derive(Clone, Copy, Debug)]
enum RootKind {
    /// A pulled image.
    Image,
    /// The agent's own pause program.
    Pause,
}

impl Agent {
    /// Makes a container from a request that the policy has allowed.
    ///
    /// Goes on to its end, or undoes itself, if the caller stops waiting.
    pub(crate) async fn create_container(
        self: Arc<Self>,
        request: CreateContainerRequest,
    ) -> Result<()> {
        to_the_end(Box::pin(async move {
            let id = ContainerId::parse(&request.container_id)?;
            refuse_what_is_not_supported(&request)?;
            let identity = ImageIdentity::of(&request)?;
            if let ImageIdentity::Registry(reference) = &identity {
                images::check_allowed(&self.trust, reference)?;
            }
            mounts::check(&request.OCI.Mounts)?;
            self.reserve(&id)?;
            let mut made = Made::nothing(self.folders.bundles.join(id.as_str()));
            let result = self.make(&id, &request, &identity, &mut made).await;
            self.settle(id, made, result).await
        }))
        .await
    }

    /// Takes a name, before anything is made under it.
    fn reserve(&self, id: &ContainerId) -> Result<()> {
        let mut slots = self.slots();
        if slots.contains_key(id) {
            return Err(ContainerError::AlreadyExists(id.clone()).into());
        }
        if slots.len() >= MAX_CONTAINERS {
            return Err(ContainerError::TooMany {
                what: "containers",
                limit: MAX_CONTAINERS,
            }
            .into());
        }
        slots.insert(id.clone(), Slot::Making { is_doomed: false });
        Ok(())
    }

    /// Makes the container and notes in `made` what is to be undone.
    async fn make(
        &self,
        id: &ContainerId,
        request: &CreateContainerRequest,
        identity: &ImageIdentity,
        made: &mut Made,
    ) -> Result<()> {
        let resolv_conf = match self.sandbox().as_ref() {
            Some(sandbox) => sandbox.resolv_conf.clone(),
            None => return Err(AgentError::NoSandbox),
        };
        let spec = request
            .OCI
            .as_ref()
            .ok_or_else(|| AgentError::request("there is no OCI specification"))?;
        for storage in &request.storages {
            if storage.driver != GUEST_PULL {
                let place = self.storages().take(storage)?;
                made.storages.push(place);
            }
        }
        made.make_bundle()?;
        let (root, mut spec) = self.root_file_system(id, spec, identity, made).await?;
        if let Some(file) = resolv_conf.filter(|_| matches!(identity, ImageIdentity::Registry(_))) {
            mounts::add_name_servers(&mut spec.Mounts, &file);
        }
        let shared = [self.folders.sandbox.clone(), self.folders.shared.clone()];
        made.pins = Pins::make(&mut spec.Mounts, &shared, &made.bundle)?;
        let spec = runtime_spec(&spec, &root)?;
        self.containers.create(id, spec, &made.bundle).await?;
        Ok(())
    }

    /// Mounts the root file system and completes the specification with what belongs to it.
    async fn root_file_system(
        &self,
        id: &ContainerId,
        spec: &oci::Spec,
        identity: &ImageIdentity,
        made: &mut Made,
    ) -> Result<(PathBuf, oci::Spec)> {
        match identity {
            ImageIdentity::Pause => {
                made.root = Some(RootKind::Pause);
                let root = pause::root_file_system(&made.bundle)?;
                Ok((root, pause::with_own_process(spec)))
            }
            ImageIdentity::Registry(reference) => {
                let (root, image) = self
                    .images
                    .root_file_system(id.as_str(), reference, &made.bundle)
                    .await?;
                made.root = Some(RootKind::Image);
                let mut spec = spec.clone();
                fill_from_image(&mut spec, &image.config)?;
                Ok((root, spec))
            }
        }
    }

    /// Keeps what was made, or undoes it and frees the name.
    async fn settle(&self, id: ContainerId, made: Made, result: Result<()>) -> Result<()> {
        let error = if let Err(error) = result {
            error
        } else {
            let mut slots = self.slots();
            if let Some(slot @ Slot::Making { is_doomed: false }) = slots.get_mut(&id) {
                *slot = Slot::Ready(made);
                return Ok(());
            }
            AgentError::NoSandbox
        };
        if matches!(error, AgentError::NoSandbox) {
            // It may exist: the sandbox ended while it was made.
            let _ = self.containers.remove(&id).await;
        }
        let mut made = made;
        for place in made.storages.drain(..).rev() {
            self.storages().give_back(&place);
        }
        self.release(&id, made);
        self.slots().remove(&id);
        Err(error)
    }

    /// Undoes mounts and folders of a container; storages stay with the sandbox.
    fn release(&self, id: &ContainerId, mut made: Made) {
        made.pins.release();
        match made.root {
            Some(RootKind::Image) => {
                if let Err(error) = self.images.release(id.as_str(), &made.bundle) {
                    tracing::warn!(container = %id, %error, "cannot unmount a root file system");
                }
            }
            Some(RootKind::Pause) => pause::release(&made.bundle),
            None => {}
        }
        if made.has_bundle {
            // Only if it is empty: what is still mounted in it is not the agent's to delete.
            let _ = fs::remove_dir(&made.bundle);
        }
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

    /// Ends a container and removes its root file system. With a number of seconds the
    /// answer comes in that time; the removal goes on.
    pub(crate) async fn remove_container(
        self: Arc<Self>,
        id: ContainerId,
        seconds: u32,
    ) -> Result<()> {
        let container = id.to_string();
        let removal = to_the_end(Box::pin(async move { self.remove_now(&id).await }));
        if seconds == 0 {
            return removal.await;
        }
        tokio::time::timeout(Duration::from_secs(seconds.into()), removal)
            .await
            .unwrap_or(Err(AgentError::RemoveTimeout { container, seconds }))
    }

    async fn remove_now(&self, id: &ContainerId) -> Result<()> {
        if matches!(self.slots().get(id), Some(Slot::Making { .. })) {
            return Err(ContainerError::WrongState {
                action: "remove",
                id: id.clone(),
                state: ContainerState::Creating,
            }
            .into());
        }
        self.containers.remove(id).await?;
        let slot = self.slots().remove(id);
        if let Some(Slot::Ready(made)) = slot {
            self.release(id, made);
        }
        Ok(())
    }

    /// Makes the sandbox.
    pub(crate) fn create_sandbox(&self, request: &CreateSandboxRequest) -> Result<()> {
        let mut sandbox = self.sandbox();
        if sandbox.is_some() {
            return Err(AgentError::SandboxExists);
        }
        let mut storages = self.storages();
        *sandbox = Some(Sandbox::create(request, &self.folders, &mut storages)?);
        Ok(())
    }

    /// Ends everything in the sandbox.
    pub(crate) async fn destroy_sandbox(self: Arc<Self>) -> Result<()> {
        to_the_end(Box::pin(async move {
            *self.sandbox() = None;
            for slot in self.slots().values_mut() {
                if let Slot::Making { is_doomed } = slot {
                    *is_doomed = true;
                }
            }
            let ended = self.containers.destroy_all().await;
            let ready: Vec<(ContainerId, Made)> = {
                let mut slots = self.slots();
                let (ready, making) = std::mem::take(&mut *slots)
                    .into_iter()
                    .partition(|(_, slot)| matches!(slot, Slot::Ready(_)));
                *slots = making;
                let ready: BTreeMap<ContainerId, Slot> = ready;
                ready
                    .into_iter()
                    .filter_map(|(id, slot)| match slot {
                        Slot::Ready(made) => Some((id, made)),
                        Slot::Making { .. } => None,
                    })
                    .collect()
            };
            for (id, made) in ready {
                self.release(&id, made);
            }
            self.storages().clear();
            Ok(ended?)
        }))
        .await
    }
}

impl Made {
    fn nothing(bundle: PathBuf) -> Self {
        Self {
            bundle,
            has_bundle: false,
            root: None,
            pins: Pins::default(),
            storages: Vec::new(),
        }
    }

    fn make_bundle(&mut self) -> Result<()> {
        let parent = self.bundle.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(parent)
            .and_then(|()| fs::create_dir(&self.bundle))
            .map_err(AgentError::file("create", &self.bundle))?;
        self.has_bundle = true;
        Ok(())
    }
}

type Operation = Pin<Box<dyn Future<Output = Result<()>> + Send>>;

/// Runs an operation to its end even if the caller stops waiting.
async fn to_the_end(operation: Operation) -> Result<()> {
    tokio::spawn(operation)
        .await
        .unwrap_or(Err(AgentError::Unexpected))
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
    if request.sandbox_pidns {
        return Err(AgentError::request(
            "a process namespace that the pod's containers share is not supported",
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

#[cfg(test)]
mod tests;
