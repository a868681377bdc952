//! The helper process: one thread, one request, one answer.

mod detail;
mod executor;
pub(crate) mod protocol;
mod runtime;

use std::io;
use std::os::fd::OwnedFd;

use protocol::{Packet, Reply, Request};

/// The name (`argv[0]`) under which the agent's binary is the container helper.
pub const HELPER_NAME: &str = "redoubt-container-helper";

/// Serves one container operation and exits, if this process was started as the helper.
///
/// Must be the first statement of `main`, before any other thread exists and
/// before anything was read from standard input.
pub fn run_helper_if_asked() {
    if std::env::args_os()
        .next()
        .is_some_and(|name| name == HELPER_NAME)
    {
        std::process::exit(i32::from(serve().is_err()));
    }
}

/// Takes the request from standard input, a socket, and answers on it.
fn serve() -> io::Result<()> {
    let control = take_control_socket()?;
    let Packet { bytes, fds } = protocol::receive(&control)?;
    let reply = match serde_json::from_slice::<Request>(&bytes) {
        Ok(request) => answer(request, fds),
        Err(_unreadable) => Reply::failed("the helper cannot read the request"),
    };
    protocol::send(&control, &reply, &[])?;
    // Children become the agent's when this process exits. It must know them by then: it closes
    // its end when it does.
    let _end_of_stream = protocol::receive(&control);
    Ok(())
}

/// Moves the control socket away from the container's standard streams.
fn take_control_socket() -> io::Result<OwnedFd> {
    let control = rustix::io::fcntl_dupfd_cloexec(io::stdin(), 3)?;
    let null = std::fs::File::open("/dev/null")?;
    nix::unistd::dup2_stdin(&null)?;
    Ok(control)
}

fn answer(request: Request, fds: Vec<OwnedFd>) -> Reply {
    let details = detail::Details::capture();
    match runtime::run(request, fds) {
        Ok(pid) => Reply::Done { pid },
        Err(failure) => {
            let detail = details.and_then(|details| details.first());
            Reply::failed(&failure.with_detail(detail))
        }
    }
}
