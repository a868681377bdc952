//! Statistics in the messages of the agent API.

use protobuf::MessageField;
use redoubt_agent_api::agent;
use redoubt_containers::{BlkioEntry, CgroupStats, MemoryData};

/// Converts one container's statistics.
pub(crate) fn response(stats: CgroupStats) -> agent::StatsContainerResponse {
    let cpu = agent::CpuStats {
        cpu_usage: MessageField::some(agent::CpuUsage {
            total_usage: stats.cpu.total_usage_ns,
            usage_in_kernelmode: stats.cpu.kernel_usage_ns,
            usage_in_usermode: stats.cpu.user_usage_ns,
            ..agent::CpuUsage::default()
        }),
        throttling_data: MessageField::some(agent::ThrottlingData {
            periods: stats.cpu.throttling.periods,
            throttled_periods: stats.cpu.throttling.throttled_periods,
            throttled_time: stats.cpu.throttling.throttled_time_ns,
            ..agent::ThrottlingData::default()
        }),
        ..agent::CpuStats::default()
    };
    let memory = agent::MemoryStats {
        cache: stats.memory.cache_bytes,
        usage: MessageField::some(memory_data(&stats.memory.usage)),
        swap_usage: MessageField::some(memory_data(&stats.memory.swap_usage)),
        kernel_usage: MessageField::some(memory_data(&stats.memory.kernel_usage)),
        use_hierarchy: true,
        stats: stats.memory.stats,
        ..agent::MemoryStats::default()
    };
    let pids = agent::PidsStats {
        current: stats.pids.current,
        limit: stats.pids.limit,
        ..agent::PidsStats::default()
    };
    let blkio = agent::BlkioStats {
        io_service_bytes_recursive: blkio(stats.blkio.io_service_bytes),
        io_serviced_recursive: blkio(stats.blkio.io_serviced),
        ..agent::BlkioStats::default()
    };
    let cgroup = agent::CgroupStats {
        cpu_stats: MessageField::some(cpu),
        memory_stats: MessageField::some(memory),
        pids_stats: MessageField::some(pids),
        blkio_stats: MessageField::some(blkio),
        ..agent::CgroupStats::default()
    };
    agent::StatsContainerResponse {
        cgroup_stats: MessageField::some(cgroup),
        ..agent::StatsContainerResponse::default()
    }
}

fn memory_data(data: &MemoryData) -> agent::MemoryData {
    agent::MemoryData {
        usage: data.usage_bytes,
        max_usage: data.max_usage_bytes,
        failcnt: data.fail_count,
        limit: data.limit_bytes,
        ..agent::MemoryData::default()
    }
}

fn blkio(entries: Vec<BlkioEntry>) -> Vec<agent::BlkioStatsEntry> {
    entries
        .into_iter()
        .map(|entry| agent::BlkioStatsEntry {
            major: entry.major,
            minor: entry.minor,
            op: entry.operation.to_string(),
            value: entry.value,
            ..agent::BlkioStatsEntry::default()
        })
        .collect()
}
