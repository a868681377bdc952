//! The guest's counters in the form that containerd expects. Pure but for one look at
//! the host's control groups.

use std::path::Path;

use containerd_shim_protos::cgroups::metrics as v1;
use containerd_shim_protos::cgroups_v2::metrics as v2;
use protobuf::well_known_types::any::Any;
use protobuf::{Message, MessageField};
use redoubt_agent_api::agent::{
    BlkioStats, BlkioStatsEntry, CgroupStats, CpuStats, MemoryData, MemoryStats, NetworkStats,
    StatsContainerResponse,
};

use crate::error::{Result, ShimError};

/// Which control groups the host has: containerd reads counters of that form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hierarchy {
    /// One hierarchy per controller.
    V1,
    /// One hierarchy for all.
    V2,
}

/// The host's hierarchy.
pub fn host_hierarchy() -> Hierarchy {
    if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        Hierarchy::V2
    } else {
        Hierarchy::V1
    }
}

/// Counters for containerd.
pub fn encode(answer: StatsContainerResponse, hierarchy: Hierarchy) -> Result<Any> {
    let cgroup = answer.cgroup_stats.unwrap_or_default();
    let (type_url, value) = match hierarchy {
        Hierarchy::V1 => (
            "io.containerd.cgroups.v1.Metrics",
            metrics_v1(&cgroup, &answer.network_stats).write_to_bytes(),
        ),
        Hierarchy::V2 => (
            "io.containerd.cgroups.v2.Metrics",
            metrics_v2(&cgroup).write_to_bytes(),
        ),
    };
    let value = value.map_err(|error| ShimError::Internal(error.to_string()))?;
    Ok(Any {
        type_url: type_url.to_owned(),
        value,
        ..Any::default()
    })
}

fn metrics_v1(cgroup: &CgroupStats, network: &[NetworkStats]) -> v1::Metrics {
    v1::Metrics {
        hugetlb: cgroup
            .hugetlb_stats
            .iter()
            .map(|(page_size, counters)| v1::HugetlbStat {
                usage: counters.usage,
                max: counters.max_usage,
                failcnt: counters.failcnt,
                pagesize: page_size.clone(),
                ..v1::HugetlbStat::default()
            })
            .collect(),
        pids: cgroup
            .pids_stats
            .as_ref()
            .map(|pids| v1::PidsStat {
                current: pids.current,
                limit: pids.limit,
                ..v1::PidsStat::default()
            })
            .into(),
        cpu: cgroup.cpu_stats.as_ref().map(cpu_v1).into(),
        memory: cgroup.memory_stats.as_ref().map(memory_v1).into(),
        blkio: cgroup.blkio_stats.as_ref().map(blkio_v1).into(),
        network: network.iter().map(network_v1).collect(),
        ..v1::Metrics::default()
    }
}

fn cpu_v1(cpu: &CpuStats) -> v1::CPUStat {
    v1::CPUStat {
        usage: cpu
            .cpu_usage
            .as_ref()
            .map(|usage| v1::CPUUsage {
                total: usage.total_usage,
                kernel: usage.usage_in_kernelmode,
                user: usage.usage_in_usermode,
                per_cpu: usage.percpu_usage.clone(),
                ..v1::CPUUsage::default()
            })
            .into(),
        throttling: cpu
            .throttling_data
            .as_ref()
            .map(|throttling| v1::Throttle {
                periods: throttling.periods,
                throttled_periods: throttling.throttled_periods,
                throttled_time: throttling.throttled_time,
                ..v1::Throttle::default()
            })
            .into(),
        ..v1::CPUStat::default()
    }
}

fn memory_v1(memory: &MemoryStats) -> v1::MemoryStat {
    let counter = |names: [&str; 2]| {
        names
            .iter()
            .find_map(|name| memory.stats.get(*name))
            .copied()
            .unwrap_or_default()
    };
    let entry = |data: &MessageField<MemoryData>| -> MessageField<v1::MemoryEntry> {
        data.as_ref()
            .map(|data| v1::MemoryEntry {
                limit: data.limit,
                usage: data.usage,
                max: data.max_usage,
                failcnt: data.failcnt,
                ..v1::MemoryEntry::default()
            })
            .into()
    };
    // A guest with the unified hierarchy calls the same counters by other names.
    let rss = counter(["rss", "anon"]);
    let inactive_file = counter(["total_inactive_file", "inactive_file"]);
    v1::MemoryStat {
        cache: memory.cache.max(counter(["cache", "file"])),
        rss,
        total_rss: counter(["total_rss", "anon"]),
        total_cache: counter(["total_cache", "file"]),
        mapped_file: counter(["mapped_file", "file_mapped"]),
        pg_fault: counter(["pgfault", "pgfault"]),
        pg_maj_fault: counter(["pgmajfault", "pgmajfault"]),
        inactive_anon: counter(["inactive_anon", "inactive_anon"]),
        active_anon: counter(["active_anon", "active_anon"]),
        inactive_file: counter(["inactive_file", "inactive_file"]),
        active_file: counter(["active_file", "active_file"]),
        unevictable: counter(["unevictable", "unevictable"]),
        total_inactive_file: inactive_file,
        total_active_file: counter(["total_active_file", "active_file"]),
        total_pg_fault: counter(["total_pgfault", "pgfault"]),
        total_pg_maj_fault: counter(["total_pgmajfault", "pgmajfault"]),
        usage: entry(&memory.usage),
        swap: entry(&memory.swap_usage),
        kernel: entry(&memory.kernel_usage),
        ..v1::MemoryStat::default()
    }
}

fn blkio_v1(blkio: &BlkioStats) -> v1::BlkIOStat {
    let entries = |list: &[BlkioStatsEntry]| list.iter().map(blkio_entry_v1).collect();
    v1::BlkIOStat {
        io_service_bytes_recursive: entries(&blkio.io_service_bytes_recursive),
        io_serviced_recursive: entries(&blkio.io_serviced_recursive),
        io_queued_recursive: entries(&blkio.io_queued_recursive),
        io_service_time_recursive: entries(&blkio.io_service_time_recursive),
        io_wait_time_recursive: entries(&blkio.io_wait_time_recursive),
        io_merged_recursive: entries(&blkio.io_merged_recursive),
        io_time_recursive: entries(&blkio.io_time_recursive),
        sectors_recursive: entries(&blkio.sectors_recursive),
        ..v1::BlkIOStat::default()
    }
}

fn blkio_entry_v1(entry: &BlkioStatsEntry) -> v1::BlkIOEntry {
    v1::BlkIOEntry {
        op: entry.op.clone(),
        major: entry.major,
        minor: entry.minor,
        value: entry.value,
        ..v1::BlkIOEntry::default()
    }
}

fn network_v1(network: &NetworkStats) -> v1::NetworkStat {
    v1::NetworkStat {
        name: network.name.clone(),
        rx_bytes: network.rx_bytes,
        rx_packets: network.rx_packets,
        rx_errors: network.rx_errors,
        rx_dropped: network.rx_dropped,
        tx_bytes: network.tx_bytes,
        tx_packets: network.tx_packets,
        tx_errors: network.tx_errors,
        tx_dropped: network.tx_dropped,
        ..v1::NetworkStat::default()
    }
}

fn metrics_v2(cgroup: &CgroupStats) -> v2::Metrics {
    v2::Metrics {
        pids: cgroup
            .pids_stats
            .as_ref()
            .map(|pids| v2::PidsStat {
                current: pids.current,
                limit: pids.limit,
                ..v2::PidsStat::default()
            })
            .into(),
        cpu: cgroup.cpu_stats.as_ref().map(cpu_v2).into(),
        memory: cgroup.memory_stats.as_ref().map(memory_v2).into(),
        ..v2::Metrics::default()
    }
}

/// The unified hierarchy counts in microseconds, the agent's message in nanoseconds.
fn cpu_v2(cpu: &CpuStats) -> v2::CPUStat {
    let usage = cpu.cpu_usage.clone().unwrap_or_default();
    let throttling = cpu.throttling_data.clone().unwrap_or_default();
    v2::CPUStat {
        usage_usec: usage.total_usage / 1000,
        user_usec: usage.usage_in_usermode / 1000,
        system_usec: usage.usage_in_kernelmode / 1000,
        nr_periods: throttling.periods,
        nr_throttled: throttling.throttled_periods,
        throttled_usec: throttling.throttled_time / 1000,
        ..v2::CPUStat::default()
    }
}

fn memory_v2(memory: &MemoryStats) -> v2::MemoryStat {
    let counter = |names: [&str; 2]| {
        names
            .iter()
            .find_map(|name| memory.stats.get(*name))
            .copied()
            .unwrap_or_default()
    };
    let usage = memory.usage.clone().unwrap_or_default();
    let swap = memory.swap_usage.clone().unwrap_or_default();
    v2::MemoryStat {
        anon: counter(["anon", "rss"]),
        file: counter(["file", "cache"]),
        file_mapped: counter(["file_mapped", "mapped_file"]),
        inactive_anon: counter(["inactive_anon", "inactive_anon"]),
        active_anon: counter(["active_anon", "active_anon"]),
        inactive_file: counter(["inactive_file", "total_inactive_file"]),
        active_file: counter(["active_file", "total_active_file"]),
        unevictable: counter(["unevictable", "unevictable"]),
        pgfault: counter(["pgfault", "pgfault"]),
        pgmajfault: counter(["pgmajfault", "pgmajfault"]),
        usage: usage.usage,
        usage_limit: usage.limit,
        max_usage: usage.max_usage,
        swap_usage: swap.usage,
        swap_limit: swap.limit,
        ..v2::MemoryStat::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use redoubt_agent_api::agent::CpuUsage;

    fn answer() -> StatsContainerResponse {
        let usage = CpuUsage {
            total_usage: 7_000,
            ..CpuUsage::default()
        };
        let cpu = CpuStats {
            cpu_usage: Some(usage).into(),
            ..CpuStats::default()
        };
        let data = MemoryData {
            usage: 4096,
            limit: 1 << 20,
            ..MemoryData::default()
        };
        let memory = MemoryStats {
            usage: Some(data).into(),
            stats: [("anon".to_owned(), 1024)].into(),
            ..MemoryStats::default()
        };
        let cgroup = CgroupStats {
            cpu_stats: Some(cpu).into(),
            memory_stats: Some(memory).into(),
            ..CgroupStats::default()
        };
        StatsContainerResponse {
            cgroup_stats: Some(cgroup).into(),
            ..Default::default()
        }
    }

    #[test]
    fn counters_reach_containerd_in_both_forms() {
        let any = encode(answer(), Hierarchy::V1).unwrap();
        assert_eq!(any.type_url, "io.containerd.cgroups.v1.Metrics");
        let metrics = v1::Metrics::parse_from_bytes(&any.value).unwrap();
        assert_eq!(metrics.cpu.usage.total, 7_000);
        assert_eq!(
            (metrics.memory.usage.usage, metrics.memory.rss),
            (4096, 1024)
        );

        let any = encode(answer(), Hierarchy::V2).unwrap();
        assert_eq!(any.type_url, "io.containerd.cgroups.v2.Metrics");
        let metrics = v2::Metrics::parse_from_bytes(&any.value).unwrap();
        assert_eq!(metrics.cpu.usage_usec, 7);
        assert_eq!(
            (metrics.memory.usage_limit, metrics.memory.anon),
            (1 << 20, 1024)
        );
    }

    #[test]
    fn a_guest_without_counters_gives_empty_ones() {
        assert!(
            encode(StatsContainerResponse::default(), Hierarchy::V1)
                .unwrap()
                .value
                .is_empty()
        );
    }
}
