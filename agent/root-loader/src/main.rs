//! The first process of a guest whose root is a verified disk.
//!
//! The kernel cannot open such a disk alone: its drivers for virtio,
//! device-mapper and EROFS are modules. This program is all that the measured
//! initrd holds beside them. It takes the root hash from the measured command
//! line, has the kernel check every block of the disk against it, and starts
//! the agent from there. What the disk says about itself is not looked at.

mod device_mapper;
mod disk;
mod error;
mod modules;
mod parameter;
mod root;

use std::io::Write;
use std::process::ExitCode;

use redoubt_agent_api::stage::FatalLine;
use redoubt_errors::ErrorReport;

use crate::error::LoaderError;

fn main() -> ExitCode {
    let Err(error) = start_from_disk();
    say(&error);
    // Only the guest's first process may end the machine; any other one just fails.
    if std::process::id() == 1 {
        let _ = nix::sys::reboot::reboot(nix::sys::reboot::RebootMode::RB_POWER_OFF);
    }
    ExitCode::FAILURE
}

/// Ends in the agent's process.
fn start_from_disk() -> Result<std::convert::Infallible, LoaderError> {
    root::mount_kernel_file_systems()?;
    let params = parameter::of_this_guest()?;
    modules::load_all()?;
    let disk = disk::find(&params)?;
    let device = device_mapper::open_verified(&disk, &params)?;
    root::mount(&device)?;
    root::enter()?;
    root::run_agent()
}

/// Says why this guest does not start, where the shim reads it.
fn say(error: &LoaderError) {
    let report = ErrorReport::of(error);
    let mut console = std::io::stdout();
    let _ = writeln!(console, "{}", FatalLine::new(&report.code, &report.message));
    let _ = rustix::termios::tcdrain(&console);
}
