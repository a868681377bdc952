//! `containerd-shim-kata-v2`, started by containerd.

#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use containerd_shim_protos::types::introspection::{RuntimeInfo, RuntimeVersion};
use protobuf::Message;
use redoubt_shim::cli::{self, Action, Flags};
use redoubt_shim::command::{self, delete, serve, start};

/// What this runtime is called in containerd's configuration.
const RUNTIME_NAME: &str = "io.containerd.kata.v2";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{}", command::last_line(&error));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let flags = cli::parse(&arguments)?;
    if flags.version {
        return print_version();
    }
    if flags.info {
        return print_info();
    }
    flags.require_identity()?;
    match flags.action {
        Action::Start => start::run(&flags),
        Action::Delete => runtime(1)?.block_on(delete::run(&flags)),
        Action::Serve => serve(&flags),
    }
}

fn serve(flags: &Flags) -> Result<()> {
    let runtime = runtime(2)?;
    let result = runtime.block_on(serve::run(flags));
    // Threads that wait for the guest must not keep the process.
    runtime.shutdown_background();
    if let Err(error) = &result {
        tracing::error!(error = command::last_line(error), "the shim ends");
    }
    result
}

fn runtime(threads: usize) -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()?)
}

fn print_version() -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "containerd-shim-kata-v2:")?;
    writeln!(stdout, "  Version:  {}", env!("CARGO_PKG_VERSION"))?;
    writeln!(stdout, "  Project:  Redoubt")?;
    Ok(())
}

/// containerd 2.x asks what a runtime is before it uses it.
fn print_info() -> Result<()> {
    let version = RuntimeVersion {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..RuntimeVersion::default()
    };
    let info = RuntimeInfo {
        name: RUNTIME_NAME.to_owned(),
        version: Some(version).into(),
        ..RuntimeInfo::default()
    };
    std::io::stdout()
        .lock()
        .write_all(&info.write_to_bytes()?)?;
    Ok(())
}
