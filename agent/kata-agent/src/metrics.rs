//! A few numbers about the agent and the guest, in Prometheus' text format.

use std::fmt::Write as _;
use std::fs;

/// Lines of `/proc/self/status` that are shown, and the metrics' names.
const PROCESS: [(&str, &str, &str); 2] = [
    (
        "VmRSS:",
        "kata_agent_process_resident_memory_bytes",
        "Resident memory of the agent.",
    ),
    (
        "VmSize:",
        "kata_agent_process_virtual_memory_bytes",
        "Virtual memory of the agent.",
    ),
];
/// Lines of `/proc/meminfo`.
const MEMORY: [&str; 4] = ["MemTotal:", "MemFree:", "MemAvailable:", "Shmem:"];

/// The text; what the kernel does not tell is left out.
pub(crate) fn text(containers: usize) -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    render(
        containers,
        &read("/proc/self/status"),
        &read("/proc/meminfo"),
    )
}

fn render(containers: usize, status: &str, meminfo: &str) -> String {
    let mut text = String::new();
    gauge(
        &mut text,
        "kata_agent_containers",
        "Containers in the guest.",
    );
    line(&mut text, "kata_agent_containers", containers as u64);
    for (key, name, help) in PROCESS {
        if let Some(bytes) = bytes_of(status, key) {
            gauge(&mut text, name, help);
            line(&mut text, name, bytes);
        }
    }
    gauge(
        &mut text,
        "kata_guest_meminfo",
        "The guest's memory in bytes.",
    );
    for key in MEMORY {
        if let Some(bytes) = bytes_of(meminfo, key) {
            let item = key.trim_end_matches(':').to_lowercase();
            line(
                &mut text,
                &format!("kata_guest_meminfo{{item=\"{item}\"}}"),
                bytes,
            );
        }
    }
    text
}

fn gauge(text: &mut String, name: &str, help: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge");
}

fn line(text: &mut String, name: &str, value: u64) {
    let _ = writeln!(text, "{name} {value}");
}

/// A line of the form `Key:   123 kB`.
fn bytes_of(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with(key))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_lines_become_metrics() {
        let text = render(
            2,
            "Name:\tx\nVmRSS:\t  10 kB\n",
            "MemTotal:  2 kB\nOdd: 1 kB\n",
        );
        assert!(text.contains("\nkata_agent_containers 2\n"));
        assert!(text.contains("\nkata_agent_process_resident_memory_bytes 10240\n"));
        assert!(text.contains("\nkata_guest_meminfo{item=\"memtotal\"} 2048\n"));
        assert!(!text.contains("odd"));
    }
}
