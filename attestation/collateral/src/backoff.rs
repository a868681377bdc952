//! When to ask again.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

use crate::request::Service;

/// Services that said when to come back.
#[derive(Debug, Default)]
pub(crate) struct Pauses(Mutex<HashMap<Service, Instant>>);

impl Pauses {
    /// How long the service is still to be left alone.
    pub(crate) fn remaining(&self, service: Service) -> Duration {
        let until = self.lock().get(&service).copied();
        until.map_or(Duration::ZERO, |until| {
            until.saturating_duration_since(Instant::now())
        })
    }

    /// Leaves the service alone for so long; a longer pause stays.
    pub(crate) fn pause(&self, service: Service, pause: Duration) {
        let Some(until) = Instant::now().checked_add(pause) else {
            return;
        };
        let mut pauses = self.lock();
        let known = pauses.entry(service).or_insert(until);
        *known = (*known).max(until);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Service, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a `Retry-After` header asks for: seconds, or a date (RFC 9110 section
/// 10.2.3).
pub(crate) fn retry_after(value: &str, now: OffsetDateTime) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = OffsetDateTime::parse(value, &Rfc2822).ok()?;
    Some(Duration::try_from(date - now).unwrap_or(Duration::ZERO))
}

/// The pause before the attempt after this one: doubled each time.
pub(crate) fn growing(first: Duration, attempt: u32, longest: Duration) -> Duration {
    let factor = 1_u32.checked_shl(attempt).unwrap_or(u32::MAX);
    first.saturating_mul(factor).min(longest)
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn a_service_may_say_seconds_or_a_date() {
        let now = datetime!(2026-06-01 12:00 UTC);
        let after = |value| retry_after(value, now);
        assert_eq!(after("7"), Some(Duration::from_secs(7)));
        assert_eq!(
            after("Mon, 01 Jun 2026 12:00:30 GMT"),
            Some(Duration::from_secs(30))
        );
        assert_eq!(after("Mon, 01 Jun 2026 11:00:00 GMT"), Some(Duration::ZERO));
        for value in ["", "soon", "-1", "1.5"] {
            assert_eq!(after(value), None, "{value}");
        }
    }

    #[test]
    fn pauses_grow_up_to_a_limit() {
        let pause = |attempt| growing(Duration::from_millis(500), attempt, Duration::from_secs(8));
        assert_eq!(pause(0), Duration::from_millis(500));
        assert_eq!(pause(3), Duration::from_secs(4));
        assert_eq!(pause(60), Duration::from_secs(8));
    }

    #[test]
    fn the_longest_pause_of_a_service_counts() {
        let pauses = Pauses::default();
        assert_eq!(pauses.remaining(Service::AmdKds), Duration::ZERO);
        pauses.pause(Service::AmdKds, Duration::from_secs(60));
        pauses.pause(Service::AmdKds, Duration::from_secs(1));
        assert!(pauses.remaining(Service::AmdKds) > Duration::from_secs(50));
        assert_eq!(pauses.remaining(Service::IntelPcs), Duration::ZERO);
    }
}
