//! Removes what a lab left behind whose owner was killed.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::command::{command, run};

/// Where labs have their folders, and how those are called.
const PARENT: &str = "/var/tmp";
const PREFIX: &str = "redoubt-lab-";

/// The folder of the lab of one process.
pub(crate) fn lab_dir(owner: u32) -> PathBuf {
    Path::new(PARENT).join(format!("{PREFIX}{owner}"))
}

/// The start of the names of a lab's network namespaces.
pub(crate) fn namespace_prefix(owner: u32) -> String {
    format!("rdt-{owner}-")
}

/// Ends and removes every lab whose owner no longer runs.
pub(crate) fn sweep() {
    let Ok(entries) = fs::read_dir(PARENT) else {
        return;
    };
    for entry in entries.filter_map(Result::ok) {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name
            .strip_prefix(PREFIX)
            .and_then(|pid| pid.parse::<u32>().ok());
        if let Some(owner) = owner
            && !Path::new("/proc").join(owner.to_string()).exists()
        {
            remove(owner);
        }
    }
}

fn remove(owner: u32) {
    let dir = lab_dir(owner);
    kill_users_of(&dir);
    let namespaces = fs::read_dir("/run/netns")
        .into_iter()
        .flatten()
        .filter_map(Result::ok);
    for namespace in namespaces {
        let name = namespace.file_name().to_string_lossy().into_owned();
        if name.starts_with(&namespace_prefix(owner)) {
            let _ = run(&mut command("ip", &["netns", "delete", &name]));
        }
    }
    let _ = fs::remove_dir_all(dir);
}

/// Ends the processes that have a file of the lab on their command line.
fn kill_users_of(dir: &Path) {
    let needle = format!("{}/", dir.display());
    let Ok(entries) = fs::read_dir("/proc") else {
        return;
    };
    for entry in entries.filter_map(Result::ok) {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else {
            continue;
        };
        let Ok(line) = fs::read(entry.path().join("cmdline")) else {
            continue;
        };
        if String::from_utf8_lossy(&line).contains(&needle) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
    std::thread::sleep(Duration::from_millis(100));
}
