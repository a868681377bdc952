//! The agent's state, shared by all calls.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use redoubt_agent_policy::{PolicyEngine, PolicyRequest};
use redoubt_containers::{ContainerId, ContainerManager, ManagerConfig, Reaper};

use crate::error::Result;
use crate::images::Images;
use crate::params::Parameters;
use crate::sandbox::Sandbox;
use crate::trust::Trust;

/// Where the root file system of a container comes from, and how it is undone.
#[derive(Clone, Debug)]
pub(crate) enum RootSource {
    /// A pulled image.
    Image(PathBuf),
    /// The agent's own pause program.
    Pause(PathBuf),
}

/// Everything that calls work on.
#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) trust: Trust,
    pub(crate) images: Images,
    pub(crate) containers: ContainerManager,
    sandbox: Mutex<Option<Sandbox>>,
    roots: Mutex<BTreeMap<ContainerId, RootSource>>,
    /// A policy that `SetPolicy` put in the place of the one of initdata.
    replaced_policy: RwLock<Option<Arc<PolicyEngine>>>,
}

impl Agent {
    /// Prepares image store and container engine.
    pub(crate) fn new(trust: Trust, parameters: &Parameters, reaper: Reaper) -> Result<Self> {
        Ok(Self {
            images: Images::open(&trust, parameters)?,
            containers: ContainerManager::new(ManagerConfig::default(), reaper)?,
            trust,
            sandbox: Mutex::default(),
            roots: Mutex::default(),
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

    pub(crate) fn roots(&self) -> MutexGuard<'_, BTreeMap<ContainerId, RootSource>> {
        self.roots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
