//! Whether a process would notice a signal, by what the kernel shows of it.

use std::fs;
use std::path::Path;

/// How often a process is looked at: it may be between two of its waits.
const LOOKS: u32 = 3;

/// Whether a process handles a signal, blocks it or waits for it.
///
/// Programs such as small init processes block signals and take them one by
/// one. While they wait the kernel does not show the signal as blocked, so
/// that the system call counts as well. A process that cannot be looked at
/// is taken to notice.
pub(crate) fn notices(pid: i32, signal: i32) -> bool {
    let tasks = format!("/proc/{pid}/task");
    (0..LOOKS).any(|_| {
        let Ok(tasks) = fs::read_dir(&tasks) else {
            return true;
        };
        tasks
            .filter_map(Result::ok)
            .any(|task| task_notices(&task.path(), signal))
    })
}

fn task_notices(task: &Path, signal: i32) -> bool {
    let Ok(call) = fs::read_to_string(task.join("syscall")) else {
        return true;
    };
    if waits_for_signals(&call) {
        return true;
    }
    // After the system call: whoever left its wait since then shows the signal as blocked.
    fs::read_to_string(task.join("status")).map_or(true, |status| catches(&status, signal))
}

/// Whether a `/proc/<pid>/syscall` text (proc(5)) shows a wait for signals.
fn waits_for_signals(text: &str) -> bool {
    text.split(' ')
        .next()
        .and_then(|number| number.parse().ok())
        == Some(libc::SYS_rt_sigtimedwait)
}

/// Whether a `/proc/<pid>/status` text shows that the process handles or blocks a signal.
fn catches(status: &str, signal: i32) -> bool {
    ["SigCgt:", "SigBlk:"]
        .iter()
        .any(|mask| holds(status, mask, signal))
}

fn holds(status: &str, name: &str, signal: i32) -> bool {
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    match (mask, u32::try_from(signal - 1)) {
        (Some(mask), Ok(bit)) => mask.checked_shr(bit).is_some_and(|rest| rest & 1 == 1),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handlers_and_blocks_are_read_from_the_status_file() {
        let with = "Name:\tx\nSigIgn:\t0000000000000000\nSigCgt:\t0000000000004000\n";
        let without = "Name:\tx\nSigIgn:\t0000000000004000\nSigCgt:\t0000000000000001\n";
        assert!(catches(with, libc::SIGTERM));
        assert!(!catches(without, libc::SIGTERM));
        assert!(catches(without, libc::SIGHUP));
        assert!(catches("SigCgt:\t8000000000000000\n", 64));
        let blocks = "SigBlk:\t0000000000004000\nSigCgt:\t0000000000000000\n";
        assert!(catches(blocks, libc::SIGTERM));
        assert!(!catches(blocks, libc::SIGINT));
    }

    #[test]
    fn broken_status_texts_name_no_handler() {
        for text in ["", "SigCgt:", "SigCgt:\tzz", "SigCgt:\tfffffffffffffffff"] {
            assert!(!catches(text, libc::SIGTERM), "{text:?}");
        }
        assert!(!catches("SigCgt:\tffffffffffffffff", 0));
        assert!(!catches("SigCgt:\tffffffffffffffff", 65));
    }

    #[test]
    fn a_wait_for_signals_is_known_by_its_system_call() {
        assert!(waits_for_signals(
            "128 0x7ff 0x0 0x0 0x8 0x0 0x0 0x7ffe 0x7f2\n"
        ));
        for text in ["", "running\n", "-1 0x7ffe 0x7f2\n", "1280 0x0\n"] {
            assert!(!waits_for_signals(text), "{text:?}");
        }
    }

    #[test]
    fn a_process_that_takes_signals_one_by_one_notices_them() {
        use nix::sys::signal::{SigSet, Signal};
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(!notices(own, libc::SIGURG));
        let (tell, told) = std::sync::mpsc::channel();
        // It waits until the test's process ends.
        std::thread::spawn(move || {
            let mut urgent = SigSet::empty();
            urgent.add(Signal::SIGURG);
            urgent.thread_block().unwrap();
            tell.send(()).unwrap();
            urgent.wait()
        });
        told.recv().unwrap();
        // Before its wait and in it.
        for _ in 0..50 {
            assert!(notices(own, libc::SIGURG));
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }
}
