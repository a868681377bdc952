use std::time::Duration;

use tokio::time::Instant;

/// The end of a request, retries included.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    end: Instant,
    whole: Duration,
}

impl Deadline {
    pub(crate) fn after(whole: Duration) -> Self {
        let now = Instant::now();
        // A deadline beyond what the clock can count is a day, not a panic.
        let end = now
            .checked_add(whole)
            .unwrap_or(now + Duration::from_secs(86_400));
        Self { end, whole }
    }

    pub(crate) fn remaining(&self) -> Duration {
        self.end.saturating_duration_since(Instant::now())
    }

    pub(crate) fn whole_ms(&self) -> u128 {
        self.whole.as_millis()
    }
}

/// Growing pauses with jitter, so that many guests do not come back together.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
    tries: u32,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(200);
    const LONGEST: Duration = Duration::from_secs(3);

    pub(crate) fn new() -> Self {
        Self {
            next: Self::FIRST,
            tries: 0,
        }
    }

    /// Counts a try.
    pub(crate) fn count(&mut self) -> u32 {
        self.tries = self.tries.saturating_add(1);
        self.tries
    }

    /// The pause before the next try: between half and all of the current
    /// step. `None` if the deadline would pass meanwhile.
    pub(crate) fn pause(&mut self, deadline: &Deadline) -> Option<Duration> {
        let step = self.next;
        self.next = step.saturating_mul(2).min(Self::LONGEST);
        let pause = step / 2 + (step / 2).mul_f64(jitter());
        (pause < deadline.remaining()).then_some(pause)
    }
}

/// A number from 0 to 1.
fn jitter() -> f64 {
    let mut byte = [0_u8; 1];
    // Without randomness the pause is merely regular.
    let _ = getrandom::fill(&mut byte);
    f64::from(byte[0]) / 255.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn pauses_grow_to_a_limit_and_stop_before_the_deadline() {
        let far = Deadline::after(Duration::from_secs(3600));
        let mut backoff = Backoff::new();
        let mut bound = Backoff::FIRST;
        for _ in 0..20 {
            let pause = backoff.pause(&far).unwrap();
            assert!(
                pause >= bound / 2 && pause <= bound,
                "{pause:?} for {bound:?}"
            );
            bound = (bound * 2).min(Backoff::LONGEST);
        }
        let near = Deadline::after(Duration::from_millis(50));
        assert_eq!(Backoff::new().pause(&near), None);
    }

    #[tokio::test]
    async fn clients_that_fail_together_come_back_apart() {
        let far = Deadline::after(Duration::from_secs(3600));
        let pauses: std::collections::BTreeSet<_> = (0..100)
            .map(|_| Backoff::new().pause(&far).unwrap())
            .collect();
        assert!(pauses.len() > 20, "{pauses:?}");
    }

    #[tokio::test]
    async fn endless_deadline_does_not_overflow() {
        assert!(Deadline::after(Duration::MAX).remaining() > Duration::from_secs(80_000));
    }
}
