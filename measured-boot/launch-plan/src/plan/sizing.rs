//! How many vCPUs and how much memory a sandbox gets.
//!
//! Each resource is sized on its own: a limit plus the configured overhead
//! where there is a limit, else the configured default.

use crate::config::Configuration;
use crate::error::PlanError;
use crate::request::ResourceLimits;

/// The least memory that a guest is started with, in MiB.
const MEMORY_FLOOR_MIB: u32 = 256;
/// What kernel, firmware and agent need beside the initrd, in MiB.
const MEMORY_BESIDE_INITRD_MIB: u32 = 192;
/// An unpacked initrd with its packed copy, over the packed size.
const INITRD_EXPANSION: u64 = 3;
/// Limits from here on mean "unlimited" in cgroups, in bytes.
const UNLIMITED_BYTES: i64 = 1 << 50;
const MAX_VCPUS: f64 = 1024.0;

/// The size of a virtual machine and why it has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) vcpus: u32,
    pub(crate) vcpus_origin: String,
    pub(crate) memory_mib: u32,
    pub(crate) memory_origin: String,
}

pub(crate) fn size(
    configuration: &Configuration,
    limits: &ResourceLimits,
    initrd_bytes: u64,
) -> Result<Size, PlanError> {
    let (vcpus, vcpus_origin) = vcpus(configuration, limits)?;
    let (memory_mib, memory_origin) = memory(configuration, limits, initrd_bytes)?;
    Ok(Size {
        vcpus,
        vcpus_origin,
        memory_mib,
        memory_origin,
    })
}

fn vcpus(
    configuration: &Configuration,
    limits: &ResourceLimits,
) -> Result<(u32, String), PlanError> {
    let settings = &configuration.hypervisor;
    let (wanted, origin) = match cpu_limit(limits) {
        Some(limit) => (
            limit + settings.overhead_vcpus,
            format!(
                "limit of {limit} CPUs + overhead_vcpus {}",
                settings.overhead_vcpus
            ),
        ),
        None => (
            settings.default_vcpus,
            described(configuration, "default_vcpus"),
        ),
    };
    let rounded = wanted.ceil();
    // Comparing this way round also refuses what is not a number.
    if !(1.0..=MAX_VCPUS).contains(&rounded) {
        return Err(PlanError::VcpuCount {
            vcpus: rounded.to_string(),
            origin,
        });
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a whole number between 1 and 1024"
    )]
    Ok((rounded as u32, origin))
}

/// The CPU limit in CPUs: quota over period, or the weight where the quota is explicitly unlimited.
#[expect(
    clippy::cast_precision_loss,
    reason = "limits are far below the exact range of f64"
)]
fn cpu_limit(limits: &ResourceLimits) -> Option<f64> {
    let quota = limits.cpu_quota_us?;
    if quota < 0 {
        return limits
            .cpu_shares
            .filter(|shares| *shares > 0)
            .map(|shares| shares as f64 / 1024.0);
    }
    let period = limits.cpu_period_us.filter(|period| *period > 0)?;
    (quota > 0).then(|| quota as f64 / period as f64)
}

fn memory(
    configuration: &Configuration,
    limits: &ResourceLimits,
    initrd_bytes: u64,
) -> Result<(u32, String), PlanError> {
    let settings = &configuration.hypervisor;
    let needed_mib = memory_needed(initrd_bytes);
    let Some(limit_mib) = memory_limit_mib(limits) else {
        let (memory_mib, origin) = (
            settings.default_memory,
            described(configuration, "default_memory"),
        );
        if memory_mib < needed_mib {
            return Err(PlanError::MemoryTooSmall {
                memory_mib,
                needed_mib,
                origin,
            });
        }
        return Ok((memory_mib, origin));
    };
    let overhead = settings.overhead_memory;
    let sum = limit_mib.saturating_add(overhead);
    let origin = format!("limit of {limit_mib} MiB + overhead_memory {overhead}");
    if sum < needed_mib {
        return Ok((
            needed_mib,
            format!("{origin}, raised to what the guest needs"),
        ));
    }
    Ok((sum, origin))
}

fn memory_needed(initrd_bytes: u64) -> u32 {
    let initrd_mib = u32::try_from(
        initrd_bytes
            .div_ceil(1 << 20)
            .saturating_mul(INITRD_EXPANSION),
    );
    MEMORY_BESIDE_INITRD_MIB
        .saturating_add(initrd_mib.unwrap_or(u32::MAX))
        .max(MEMORY_FLOOR_MIB)
}

fn memory_limit_mib(limits: &ResourceLimits) -> Option<u32> {
    let bytes = limits
        .memory_bytes
        .filter(|bytes| (1..UNLIMITED_BYTES).contains(bytes))?;
    let mib = bytes.unsigned_abs().div_ceil(1 << 20);
    u32::try_from(mib).ok()
}

fn described(configuration: &Configuration, name: &str) -> String {
    match configuration.origin(&format!("hypervisor.qemu.{name}")) {
        Some(source) => format!("{name} of {source}"),
        None => format!("default of {name}"),
    }
}
