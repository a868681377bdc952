//! A network namespace for each test; needs root.

use std::future::Future;
use std::panic::resume_unwind;
use std::process::Command;
use std::thread;

use nix::sched::{CloneFlags, unshare};

/// Runs a test in an empty namespace, which ends with the test's thread.
pub(super) fn run_empty<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    let outcome = thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(test());
    })
    .join();
    if let Err(panic) = outcome {
        resume_unwind(panic);
    }
}

/// Runs a test in a namespace with two interfaces, connected with each other: `a0`, with the
/// hardware address [`super::MAC`], and `b0`.
pub(super) fn run<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    run_empty(move || {
        add_pair();
        test()
    });
}

pub(super) fn add_pair() {
    ip("link add a0 address 02:00:00:00:00:0a type veth peer name b0 address 02:00:00:00:00:0b");
    ip("link set b0 up");
}

/// What `ip` prints; it is a child of this thread and so in its namespace.
pub(super) fn ip(arguments: &str) -> String {
    let output = Command::new("ip")
        .args(arguments.split_whitespace())
        .output()
        .unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments}: {complaint}");
    String::from_utf8(output.stdout).unwrap()
}

/// The words of a line that `ip` prints, without what does not matter here.
pub(super) fn lines(arguments: &str) -> Vec<String> {
    let text = ip(arguments);
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut lines: Vec<_> = text.lines().map(words).collect();
    lines.sort();
    lines
}
