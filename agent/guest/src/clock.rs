//! The guest's clock and random number generator.

use std::fs::File;
use std::io::Write;

use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_settime};

use crate::error::{AgentError, Result};

const MAX_SEED_BYTES: usize = 4096;
const NANOS_PER_MICRO: i64 = 1000;
const MICROS_PER_SECOND: i64 = 1_000_000;

/// Sets the clock, as far as the policy lets the host do that.
pub(crate) fn set(seconds: i64, microseconds: i64) -> Result<()> {
    if seconds < 0 || !(0..MICROS_PER_SECOND).contains(&microseconds) {
        return Err(AgentError::request("the time is not a time"));
    }
    let time = TimeSpec::new(seconds, microseconds * NANOS_PER_MICRO);
    clock_settime(ClockId::CLOCK_REALTIME, time)
        .map_err(|errno| AgentError::file("set", "the clock")(errno.into()))
}

/// Mixes bytes into the kernel's pool. They count as no entropy: the host chose them.
pub(crate) fn mix_random(seed: &[u8]) -> Result<()> {
    if seed.len() > MAX_SEED_BYTES {
        return Err(AgentError::request("the seed is longer than 4096 bytes"));
    }
    File::options()
        .write(true)
        .open("/dev/urandom")
        .and_then(|mut device| device.write_all(seed))
        .map_err(AgentError::file("write", "/dev/urandom"))
}
