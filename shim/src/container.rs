//! A container: its first process and those added to it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{Result, ShimError};
use crate::oci::ContainerKind;
use crate::process::Process;

/// A container that containerd knows.
#[derive(Debug)]
pub struct Container {
    /// containerd's id.
    pub id: String,
    /// The part it plays.
    pub kind: ContainerKind,
    /// Its bundle.
    pub bundle: PathBuf,
    /// Its first process.
    pub init: Arc<Process>,
    execs: Mutex<BTreeMap<String, Arc<Process>>>,
}

impl Container {
    /// A container with its first process.
    pub fn new(id: String, kind: ContainerKind, bundle: PathBuf, init: Arc<Process>) -> Self {
        Self {
            id,
            kind,
            bundle,
            init,
            execs: Mutex::default(),
        }
    }

    /// A process by containerd's id for it; the first one without an id.
    pub fn process(&self, exec_id: &str) -> Result<Arc<Process>> {
        if exec_id.is_empty() {
            return Ok(self.init.clone());
        }
        self.execs()
            .get(exec_id)
            .cloned()
            .ok_or_else(|| ShimError::NoSuchExec {
                container: self.id.clone(),
                exec: exec_id.to_owned(),
            })
    }

    /// Adds a process.
    pub fn add(&self, process: Arc<Process>) -> Result<()> {
        let mut execs = self.execs();
        if execs.contains_key(&process.exec_id) || process.exec_id == self.id {
            return Err(ShimError::ExecExists(process.exec_id.clone()));
        }
        execs.insert(process.exec_id.clone(), process);
        Ok(())
    }

    /// Forgets a process.
    pub fn forget(&self, exec_id: &str) {
        self.execs().remove(exec_id);
    }

    /// All processes, the first one last: the order in which their ends are told.
    pub fn processes(&self) -> Vec<Arc<Process>> {
        self.execs()
            .values()
            .cloned()
            .chain([self.init.clone()])
            .collect()
    }

    fn execs(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Process>>> {
        self.execs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
