//! The agent's state, shared by all calls.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use redoubt_agent_policy::{PolicyEngine, PolicyRequest};
use redoubt_containers::{ContainerId, ContainerManager, ManagerConfig, Reaper};

use crate::error::Result;
use crate::images::Images;
use crate::lifecycle::Slot;
use crate::params::Parameters;
use crate::sandbox::Sandbox;
use crate::storage::Storages;
use crate::trust::Trust;

/// Where the agent keeps its files.
#[derive(Clone, Debug)]
pub(crate) struct Folders {
    /// What the pod's containers share. Policies know this path.
    pub(crate) sandbox: PathBuf,
    /// Files that the host copied. Policies know this path.
    pub(crate) shared: PathBuf,
    /// Root file systems of containers, by their ids; nothing else is in it.
    pub(crate) bundles: PathBuf,
    /// Layers of images.
    pub(crate) images: PathBuf,
    /// The container engine's own files.
    pub(crate) containers: PathBuf,
}

impl Folders {
    /// The same tree below another root.
    pub(crate) fn below(root: &Path) -> Self {
        Self {
            sandbox: root.join("run/kata-containers/sandbox"),
            shared: root.join("run/kata-containers/shared/containers"),
            bundles: root.join("run/redoubt/bundles"),
            images: root.join("run/redoubt/images"),
            containers: root.join("run/redoubt/containers"),
        }
    }
}

impl Default for Folders {
    fn default() -> Self {
        Self::below(Path::new("/"))
    }
}

/// Everything that calls work on.
#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) trust: Trust,
    pub(crate) images: Images,
    pub(crate) containers: ContainerManager,
    sandbox: Mutex<Option<Sandbox>>,
    storages: Mutex<Storages>,
    slots: Mutex<BTreeMap<ContainerId, Slot>>,
    pub(crate) folders: Folders,
    /// A policy that `SetPolicy` put in the place of the one of initdata.
    replaced_policy: RwLock<Option<Arc<PolicyEngine>>>,
}

impl Agent {
    /// Prepares image store and container engine.
    pub(crate) fn new(
        trust: Trust,
        parameters: &Parameters,
        reaper: Reaper,
        folders: Folders,
    ) -> Result<Self> {
        let config = ManagerConfig {
            state_dir: folders.containers.clone(),
            ..ManagerConfig::default()
        };
        Ok(Self {
            images: Images::open(&folders.images, &trust, parameters)?,
            containers: ContainerManager::new(config, reaper)?,
            trust,
            sandbox: Mutex::default(),
            storages: Mutex::new(Storages::below(folders.sandbox.clone())),
            slots: Mutex::default(),
            folders,
            replaced_policy: RwLock::default(),
        })
    }

    /// Fails unless the policy allows the request.
    pub(crate) fn gate(&self, request: &impl PolicyRequest) -> Result<()> {
        let replaced = self
            .replaced_policy
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        match replaced {
            Some(policy) => policy.check(request)?,
            None => self.trust.policy.check(request)?,
        };
        Ok(())
    }

    /// Puts another policy in force; the images of the measured one stay the only ones allowed.
    pub(crate) fn replace_policy(&self, rego: &str) -> Result<()> {
        let policy = if self.trust.is_confidential() {
            PolicyEngine::new(rego)?
        } else {
            PolicyEngine::lenient(rego)?
        };
        let mut current = self
            .replaced_policy
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *current = Some(Arc::new(policy));
        Ok(())
    }

    pub(crate) fn sandbox(&self) -> MutexGuard<'_, Option<Sandbox>> {
        self.sandbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn storages(&self) -> MutexGuard<'_, Storages> {
        self.storages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn slots(&self) -> MutexGuard<'_, BTreeMap<ContainerId, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
