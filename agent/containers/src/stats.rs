//! Statistics of a control group, in the shape of the agent API's `CgroupStats`.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use crate::cgroup::read_bounded;
use crate::error::ContainerError;

/// The most keys of one file, devices of `io.stat` and page sizes that are kept.
const MAX_ENTRIES: usize = 1024;

/// Statistics of one container. What the guest's kernel does not count is 0 or empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CgroupStats {
    /// Processor time.
    pub cpu: CpuStats,
    /// Memory.
    pub memory: MemoryStats,
    /// Processes and threads.
    pub pids: PidsStats,
    /// Block devices.
    pub blkio: BlkioStats,
    /// Huge pages by page size (`2MB`).
    pub hugetlb: BTreeMap<String, HugetlbStats>,
}

/// Processor time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuStats {
    /// All time used, in nanoseconds.
    pub total_usage_ns: u64,
    /// Time in the kernel, in nanoseconds.
    pub kernel_usage_ns: u64,
    /// Time in user mode, in nanoseconds.
    pub user_usage_ns: u64,
    /// What the CPU limit cost.
    pub throttling: ThrottlingData,
}

/// What a CPU limit cost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ThrottlingData {
    /// Periods in which the limit was in force.
    pub periods: u64,
    /// Periods in which it was reached.
    pub throttled_periods: u64,
    /// Time spent waiting because of it, in nanoseconds.
    pub throttled_time_ns: u64,
}

/// Memory, in bytes where not said otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryStats {
    /// Cached file contents.
    pub cache_bytes: u64,
    /// Everything accounted.
    pub usage: MemoryData,
    /// Swapped out.
    pub swap_usage: MemoryData,
    /// The kernel's own structures.
    pub kernel_usage: MemoryData,
    /// All of `memory.stat`.
    pub stats: BTreeMap<String, u64>,
}

/// One kind of memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryData {
    /// Now, in bytes.
    pub usage_bytes: u64,
    /// The most there ever was, in bytes.
    pub max_usage_bytes: u64,
    /// How often the limit was reached.
    pub fail_count: u64,
    /// The limit in bytes; `u64::MAX` means none.
    pub limit_bytes: u64,
}

/// Processes and threads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PidsStats {
    /// Now.
    pub current: u64,
    /// The limit; 0 means none.
    pub limit: u64,
}

/// Block devices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlkioStats {
    /// Bytes read and written.
    pub io_service_bytes: Vec<BlkioEntry>,
    /// Requests served.
    pub io_serviced: Vec<BlkioEntry>,
}

/// One count of one block device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlkioEntry {
    /// The device's major number.
    pub major: u64,
    /// The device's minor number.
    pub minor: u64,
    /// `read`, `write` or `discard`.
    pub operation: &'static str,
    /// The count.
    pub value: u64,
}

/// Huge pages of one size.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HugetlbStats {
    /// Now, in bytes.
    pub usage_bytes: u64,
    /// How often the limit was reached.
    pub fail_count: u64,
}

/// Reads the statistics of a control group.
pub(crate) fn read(folder: &Path) -> Result<CgroupStats, ContainerError> {
    let files = Files { folder };
    Ok(CgroupStats {
        cpu: cpu(&files.text("cpu.stat")?),
        memory: memory(&files)?,
        pids: PidsStats {
            current: files.number("pids.current")?,
            limit: limit(&files.text("pids.max")?).unwrap_or(0),
        },
        blkio: parse_io_stat(&files.text("io.stat")?),
        hugetlb: hugetlb(&files)?,
    })
}

struct Files<'a> {
    folder: &'a Path,
}

impl Files<'_> {
    /// A file's text; empty if the kernel does not have its controller.
    fn text(&self, name: &str) -> Result<String, ContainerError> {
        let path = self.folder.join(name);
        match read_bounded(&path) {
            Ok(text) => Ok(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.folder.exists() => {
                Ok(String::new())
            }
            Err(source) => Err(ContainerError::Cgroup {
                action: "read",
                path,
                source,
            }),
        }
    }

    fn number(&self, name: &str) -> Result<u64, ContainerError> {
        Ok(self.text(name)?.trim().parse().unwrap_or(0))
    }

    fn table(&self, name: &str) -> Result<BTreeMap<String, u64>, ContainerError> {
        Ok(parse_flat_keyed(&self.text(name)?))
    }
}

fn cpu(text: &str) -> CpuStats {
    let table = parse_flat_keyed(text);
    let value = |key: &str| table.get(key).copied().unwrap_or(0);
    let nanoseconds = |key: &str| value(key).saturating_mul(1000);
    CpuStats {
        total_usage_ns: nanoseconds("usage_usec"),
        kernel_usage_ns: nanoseconds("system_usec"),
        user_usage_ns: nanoseconds("user_usec"),
        throttling: ThrottlingData {
            periods: value("nr_periods"),
            throttled_periods: value("nr_throttled"),
            throttled_time_ns: nanoseconds("throttled_usec"),
        },
    }
}

fn memory(files: &Files<'_>) -> Result<MemoryStats, ContainerError> {
    let stats = files.table("memory.stat")?;
    let stat = |key: &str| stats.get(key).copied().unwrap_or(0);
    let unlimited = |text: String| limit(&text).unwrap_or(u64::MAX);
    let count = |table: BTreeMap<String, u64>| table.get("max").copied().unwrap_or(0);
    Ok(MemoryStats {
        cache_bytes: stat("file"),
        usage: MemoryData {
            usage_bytes: files.number("memory.current")?,
            max_usage_bytes: files.number("memory.peak")?,
            fail_count: count(files.table("memory.events")?),
            limit_bytes: unlimited(files.text("memory.max")?),
        },
        swap_usage: MemoryData {
            usage_bytes: files.number("memory.swap.current")?,
            max_usage_bytes: files.number("memory.swap.peak")?,
            fail_count: count(files.table("memory.swap.events")?),
            limit_bytes: unlimited(files.text("memory.swap.max")?),
        },
        kernel_usage: MemoryData {
            usage_bytes: stat("kernel"),
            limit_bytes: u64::MAX,
            ..MemoryData::default()
        },
        stats,
    })
}

/// A limit; `max`, nothing and nonsense mean none.
fn limit(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

fn hugetlb(files: &Files<'_>) -> Result<BTreeMap<String, HugetlbStats>, ContainerError> {
    let mut found = BTreeMap::new();
    let Ok(entries) = std::fs::read_dir(files.folder) else {
        return Ok(found);
    };
    for entry in entries.flatten().take(MAX_ENTRIES) {
        let name = entry.file_name();
        let size = name.to_str().and_then(|name| name.strip_prefix("hugetlb."));
        let Some(size) = size.and_then(|name| name.strip_suffix(".current")) else {
            continue;
        };
        if size.contains('.') {
            // "rsvd.current" counts reservations.
            continue;
        }
        let stats = HugetlbStats {
            usage_bytes: files.number(&format!("hugetlb.{size}.current"))?,
            fail_count: files
                .table(&format!("hugetlb.{size}.events"))?
                .get("max")
                .copied()
                .unwrap_or(0),
        };
        found.insert(size.to_owned(), stats);
    }
    Ok(found)
}

/// Reads lines of a word and a number; other lines are left out.
pub fn parse_flat_keyed(text: &str) -> BTreeMap<String, u64> {
    text.lines()
        .filter_map(|line| {
            let (key, value) = line.split_once(' ')?;
            Some((key.to_owned(), value.trim().parse().ok()?))
        })
        .take(MAX_ENTRIES)
        .collect()
}

/// Reads `io.stat`: a line per device, `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6`.
pub fn parse_io_stat(text: &str) -> BlkioStats {
    let mut stats = BlkioStats::default();
    for line in text.lines().take(MAX_ENTRIES) {
        let mut words = line.split_ascii_whitespace();
        let Some((major, minor)) = words.next().and_then(device) else {
            continue;
        };
        for word in words {
            let Some((key, value)) = word.split_once('=') else {
                continue;
            };
            let Ok(value) = value.parse() else { continue };
            let (list, operation) = match key {
                "rbytes" => (&mut stats.io_service_bytes, "read"),
                "wbytes" => (&mut stats.io_service_bytes, "write"),
                "dbytes" => (&mut stats.io_service_bytes, "discard"),
                "rios" => (&mut stats.io_serviced, "read"),
                "wios" => (&mut stats.io_serviced, "write"),
                "dios" => (&mut stats.io_serviced, "discard"),
                _ => continue,
            };
            list.push(BlkioEntry {
                major,
                minor,
                operation,
                value,
            });
        }
    }
    stats
}

fn device(text: &str) -> Option<(u64, u64)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs;

    /// What a 6.12 kernel shows for a group with all controllers.
    fn group() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [
            (
                "cpu.stat",
                "usage_usec 1500\nuser_usec 1000\nsystem_usec 500\nnice_usec 0\n\
                 core_sched.force_idle_usec 0\nnr_periods 10\nnr_throttled 2\n\
                 throttled_usec 30\nnr_bursts 0\nburst_usec 0\n",
            ),
            ("memory.current", "1048576\n"),
            ("memory.peak", "2097152\n"),
            ("memory.max", "67108864\n"),
            (
                "memory.events",
                "low 0\nhigh 0\nmax 7\noom 1\noom_kill 1\noom_group_kill 0\n",
            ),
            ("memory.stat", "anon 4096\nfile 8192\nkernel 1234\nslab 1\n"),
            ("memory.swap.current", "0\n"),
            ("memory.swap.max", "max\n"),
            ("pids.current", "3\n"),
            ("pids.max", "max\n"),
            (
                "io.stat",
                "254:0 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0\n254:16 \n",
            ),
            ("hugetlb.2MB.current", "2097152\n"),
            ("hugetlb.2MB.events", "max 4\n"),
            ("hugetlb.2MB.rsvd.current", "0\n"),
        ] {
            fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    #[test]
    fn all_controllers_are_read() {
        let stats = read(group().path()).unwrap();
        assert_eq!(stats.cpu.total_usage_ns, 1_500_000);
        assert_eq!(stats.cpu.user_usage_ns, 1_000_000);
        assert_eq!(stats.cpu.kernel_usage_ns, 500_000);
        assert_eq!(stats.cpu.throttling.throttled_time_ns, 30_000);
        assert_eq!(
            stats.memory.usage,
            MemoryData {
                usage_bytes: 1 << 20,
                max_usage_bytes: 2 << 20,
                fail_count: 7,
                limit_bytes: 64 << 20,
            }
        );
        assert_eq!(stats.memory.swap_usage.limit_bytes, u64::MAX);
        assert_eq!(stats.memory.kernel_usage.usage_bytes, 1234);
        assert_eq!(stats.memory.cache_bytes, 8192);
        assert_eq!(stats.memory.stats.get("anon"), Some(&4096));
        assert_eq!(
            stats.pids,
            PidsStats {
                current: 3,
                limit: 0
            }
        );
        assert_eq!(stats.blkio.io_service_bytes.len(), 3);
        assert_eq!(
            stats.blkio.io_service_bytes.first(),
            Some(&BlkioEntry {
                major: 254,
                minor: 0,
                operation: "read",
                value: 4096
            })
        );
        let expected = HugetlbStats {
            usage_bytes: 2 << 20,
            fail_count: 4,
        };
        assert_eq!(
            stats.hugetlb,
            BTreeMap::from([("2MB".to_owned(), expected)])
        );
    }

    #[test]
    fn missing_controllers_count_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let stats = read(folder.path()).unwrap();
        assert_eq!(stats.cpu, CpuStats::default());
        assert_eq!(stats.memory.usage.limit_bytes, u64::MAX);
        assert_eq!(stats.blkio, BlkioStats::default());
    }

    #[test]
    fn a_missing_group_is_an_error() {
        let error = read(Path::new("/sys/fs/cgroup/redoubt-no-such-group")).unwrap_err();
        assert!(
            matches!(error, ContainerError::Cgroup { action: "read", .. }),
            "{error:?}"
        );
    }

    #[test]
    fn malformed_lines_are_left_out() {
        let table = parse_flat_keyed("a 1\nb\nc x\n d 4\ne 5 6\nf 18446744073709551616\ng 7");
        assert_eq!(
            table,
            BTreeMap::from([("a".to_owned(), 1), ("g".to_owned(), 7)])
        );
        let io = parse_io_stat("x\n8 rbytes=1\n8:x rbytes=1\n8:1 rbytes rios=z wios=2 new=3\n");
        assert_eq!(io.io_serviced.len(), 1);
        assert!(io.io_service_bytes.is_empty());
    }

    proptest! {
        #[test]
        fn parsers_are_bounded_and_never_panic(text in "[a-z0-9:= \n]{0,4000}") {
            prop_assert!(parse_flat_keyed(&text).len() <= MAX_ENTRIES);
            parse_io_stat(&text);
            limit(&text);
        }
    }
}
