//! Containers in the guest: libcontainer in a fresh process, standard streams, statistics.
//!
//! Cloning a container's first process out of a program with threads is
//! unsound: the child may inherit a lock that nobody will ever release. So the
//! agent starts its own binary once more under the name [`HELPER_NAME`]; that
//! process has one thread, makes exactly one call to `libcontainer`, hands the
//! new process over and exits. The agent inherits the orphan:
//!
//! ```text
//! agent ── Reaper::spawn ──> helper ── libcontainer ──> init (stopped before exec)
//!   │  request + stdio fds ─>  │
//!   │ <─ pid (+ terminal fd)   │
//!   │  registers pid, opens a pidfd, closes the socket ──> helper exits
//!   └── init is now the agent's child; the Reaper collects its exit status
//! ```
//!
//! The first statement of the agent's `main` is [`run_helper_if_asked`]; then
//! it starts a [`Reaper`] and a [`ContainerManager`].

mod boot;
mod cgroup;
mod error;
mod exit;
mod helper;
mod ids;
mod io;
mod launch;
mod manager;
mod oom;
mod process;
mod reaper;
mod rootfs;
mod signal_mask;
mod spec;
mod stats;
mod sys;
mod sysctl;
mod terminal;

pub use boot::make_root_movable;
pub use error::ContainerError;
pub use exit::{ExitStatus, ExitWatch};
pub use helper::{HELPER_NAME, run_helper_if_asked};
pub use ids::{ContainerId, ExecId, ProcessId};
pub use io::{MAX_READ_BYTES, TerminalSize};
pub use manager::{ContainerManager, ContainerState, ManagerConfig};
pub use reaper::{Reaper, Spawned};
pub use stats::{
    BlkioEntry, BlkioStats, CgroupStats, CpuStats, HugetlbStats, MemoryData, MemoryStats,
    PidsStats, ThrottlingData, parse_flat_keyed, parse_io_stat,
};

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a mutex; the data behind it stays consistent even if a holder panicked,
/// because every critical section here replaces whole values.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
