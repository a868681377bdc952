//! Real containers: libcontainer, namespaces, control groups, terminals and a busybox.
//!
//! Needs root and Debian's `busybox-static`. The program is its own container
//! helper, as the agent is, so it has its own `main`; it runs in a mount
//! namespace of its own with the unified hierarchy on `/sys/fs/cgroup`.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test program without the standard harness; a panic is a failed test"
)]

mod failures;
mod lab;
mod life;
mod signals;
mod streams;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    redoubt_containers::run_helper_if_asked();
    let arguments = Arguments::from_args();
    if !arguments.list
        && let Err(error) = lab::isolate()
    {
        eprintln!("cannot prepare the tests (they need root): {error}");
        return ExitCode::FAILURE;
    }
    let mut trials = Vec::new();
    for group in [life::TESTS, streams::TESTS, signals::TESTS, failures::TESTS] {
        for &(name, test) in group {
            trials.push(Trial::test(name, move || {
                lab::run(test);
                Ok(())
            }));
        }
    }
    for &(name, test) in life::ALONE {
        trials.push(Trial::test(name, move || {
            lab::run_alone(test);
            Ok(())
        }));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}
