//! The processes that were added to a container.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::ContainerError;
use crate::ids::ExecId;
use crate::process::Process;

/// How many ended processes whose status somebody took are remembered.
const MAX_TAKEN: usize = 64;
/// How many ended processes are remembered at all.
const MAX_ENDED: usize = 512;

/// Added processes by name. Probes add one every few seconds for as long as the container lives,
/// so ended ones are forgotten in time.
#[derive(Debug, Default)]
pub(super) struct Execs(BTreeMap<ExecId, Arc<Process>>);

impl Execs {
    pub(super) fn get(&self, id: &ExecId) -> Option<Arc<Process>> {
        self.0.get(id).cloned()
    }

    pub(super) fn all(&self) -> Vec<Arc<Process>> {
        self.0.values().cloned().collect()
    }

    /// Whether the name belongs to a process that still runs.
    pub(super) fn is_in_use(&self, id: &ExecId) -> bool {
        self.0.get(id).is_some_and(|process| !process.has_ended())
    }

    /// Fails if so many processes run that no other may be added.
    pub(super) fn check_limit(&self, limit: usize) -> Result<(), ContainerError> {
        let running = self
            .0
            .values()
            .filter(|process| !process.has_ended())
            .count();
        if running >= limit {
            return Err(ContainerError::TooMany {
                what: "processes in a container",
                limit,
            });
        }
        Ok(())
    }

    pub(super) fn insert(&mut self, id: ExecId, process: Arc<Process>) {
        self.0.insert(id, process);
        self.forget(Process::status_was_taken, MAX_TAKEN);
        self.forget(|_| true, MAX_ENDED);
    }

    /// Keeps the latest `keep` of the ended processes that `which` selects.
    fn forget(&mut self, which: impl Fn(&Process) -> bool, keep: usize) {
        let mut ended: Vec<_> = self
            .0
            .iter()
            .filter(|(_, process)| which(process))
            .filter_map(|(id, process)| Some((process.exit.now()?.at, id.clone())))
            .collect();
        ended.sort_unstable();
        let surplus = ended.len().saturating_sub(keep);
        for (_, id) in ended.into_iter().take(surplus) {
            self.0.remove(&id);
        }
    }
}
