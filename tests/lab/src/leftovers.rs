//! What a pod left on the machine: processes, mounts, interfaces, namespaces, cgroups, state.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::command::{command, text_of};

/// Folders in which a sandbox keeps state while it lives.
const STATE_DIRS: [&str; 4] = [
    "/run/vc/sbs",
    "/run/vc/vm",
    "/run/containerd/s",
    "/run/netns",
];

/// Everything that a sandbox could leave behind, at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftovers {
    seen: BTreeSet<String>,
}

impl Leftovers {
    /// Takes the state of the machine now.
    pub fn now() -> Self {
        let mut seen = BTreeSet::new();
        seen.extend(processes());
        seen.extend(mounts());
        seen.extend(interfaces());
        for dir in STATE_DIRS {
            seen.extend(entries(Path::new(dir)));
        }
        cgroups(Path::new("/sys/fs/cgroup"), 0, &mut seen);
        Self { seen }
    }

    /// What is there now that was not there before.
    pub fn since(before: &Self) -> Vec<String> {
        Self::now().seen.difference(&before.seen).cloned().collect()
    }

    /// Like [`Self::since`], after giving processes that are ending `limit` to end.
    pub fn settled_since(before: &Self, limit: Duration) -> Vec<String> {
        let start = Instant::now();
        loop {
            let left = Self::since(before);
            if left.is_empty() || start.elapsed() > limit {
                return left;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Processes by the programs that belong to a sandbox.
fn processes() -> Vec<String> {
    let names = ["qemu-system-x86", "containerd-shim", "vhost-device-vs"];
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(Result::ok)
        .filter_map(|entry| {
            let pid = entry.file_name().to_string_lossy().parse::<u32>().ok()?;
            let name = fs::read_to_string(entry.path().join("comm")).ok()?;
            let name = name.trim();
            if has_ended(&entry.path()) {
                return None;
            }
            names
                .iter()
                .any(|known| name.starts_with(known))
                .then(|| format!("process {pid} {name}"))
        })
        .collect()
}

/// Whether only the exit status is left, for a parent that may never ask (a container's init).
fn has_ended(process: &Path) -> bool {
    let stat = fs::read_to_string(process.join("stat")).unwrap_or_default();
    // The state follows the name, which may hold anything but ends in the last parenthesis.
    let state = stat.rsplit(") ").next().unwrap_or_default();
    stat.is_empty() || state.starts_with('Z') || state.starts_with('X')
}

fn mounts() -> Vec<String> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    text.lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|target| format!("mount {target}"))
        .collect()
}

fn interfaces() -> Vec<String> {
    let mut found = links("this namespace", &["-o", "link"]);
    for namespace in entries(Path::new("/run/netns")) {
        let name = namespace.rsplit('/').next().unwrap_or_default().to_owned();
        found.extend(links(&name, &["-n", &name, "-o", "link"]));
    }
    found
}

fn links(namespace: &str, arguments: &[&str]) -> Vec<String> {
    let text = text_of(&mut command("ip", arguments)).unwrap_or_default();
    text.lines()
        .filter_map(|line| line.split(": ").nth(1))
        .map(|name| format!("interface {name} in {namespace}"))
        .collect()
}

fn entries(dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    entries
        .filter_map(Result::ok)
        .map(|entry| format!("entry {}", entry.path().display()))
        .collect()
}

fn cgroups(dir: &Path, depth: u32, seen: &mut BTreeSet<String>) {
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    for entry in entries.filter_map(Result::ok) {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            seen.insert(format!("cgroup {}", entry.path().display()));
            if depth < 6 {
                cgroups(&entry.path(), depth + 1, seen);
            }
        }
    }
}
