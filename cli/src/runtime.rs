//! Asynchronous commands and their log.

use tracing_subscriber::EnvFilter;

use crate::failure::{CliError, Failure};

/// A runtime for asynchronous commands.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    runtime.map_err(|error| CliError::Runtime(error).into())
}

/// Threads that compute and wait for the disk, besides one for each CPU.
const SPARE_THREADS: usize = 1;

/// A runtime for a server that computes on threads apart. Few threads carry its
/// connections and few compute, since each thread's heap is memory of its own.
pub(crate) fn server_runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads((cpus / 4).max(1))
        .max_blocking_threads(cpus.saturating_add(SPARE_THREADS))
        .enable_all()
        .build();
    runtime.map_err(|error| CliError::Runtime(error).into())
}

/// Sends the log of a server to standard error; `RUST_LOG` chooses what of it.
pub(crate) fn log_to_stderr() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false);
    // A second call changes nothing, which is what it should do.
    let _ = subscriber.try_init();
}
