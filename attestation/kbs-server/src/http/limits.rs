//! Limits on requests of one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::config::LimitSettings;

/// Whose requests are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Origin {
    V4([u8; 4]),
    /// A /64 network: one machine may have all of its addresses.
    V6([u8; 8]),
    /// Everybody for whom there is no room.
    Others,
}

impl Origin {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.octets()),
            IpAddr::V6(address) => {
                let mut network = [0; 8];
                for (to, from) in network.iter_mut().zip(address.octets()) {
                    *to = from;
                }
                Self::V6(network)
            }
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

/// A token bucket for each address, in bounded memory: when there are too many
/// addresses, those that have been quiet are forgotten, and further ones share
/// one bucket.
#[derive(Debug)]
pub(crate) struct RateLimiter {
    per_second: f64,
    burst: f64,
    max_origins: usize,
    buckets: Mutex<HashMap<Origin, Bucket>>,
}

impl RateLimiter {
    pub(crate) fn new(settings: &LimitSettings) -> Self {
        Self {
            per_second: settings.requests_per_second.into(),
            burst: settings.burst.into(),
            max_origins: usize::try_from(settings.max_addresses).unwrap_or(usize::MAX),
            buckets: Mutex::new(HashMap::new()),
        }
    }

    /// Admits a request, or says after which time the next one is.
    pub(crate) fn admit(&self, address: IpAddr, now: Instant) -> Result<(), Duration> {
        let mut origin = Origin::of(address);
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if !buckets.contains_key(&origin) && buckets.len() >= self.max_origins {
            buckets.retain(|_, bucket| self.refilled(bucket, now) < self.burst);
            if buckets.len() >= self.max_origins {
                origin = Origin::Others;
            }
        }
        let full = Bucket {
            tokens: self.burst,
            at: now,
        };
        let bucket = buckets.entry(origin).or_insert(full);
        let tokens = self.refilled(bucket, now);
        bucket.at = now;
        if tokens >= 1.0 {
            bucket.tokens = tokens - 1.0;
            Ok(())
        } else {
            bucket.tokens = tokens;
            Err(Duration::from_secs_f64((1.0 - tokens) / self.per_second))
        }
    }

    fn refilled(&self, bucket: &Bucket, now: Instant) -> f64 {
        let elapsed = now.saturating_duration_since(bucket.at).as_secs_f64();
        (bucket.tokens + elapsed * self.per_second).min(self.burst)
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.buckets.lock().unwrap().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter(max_addresses: u32) -> RateLimiter {
        RateLimiter::new(&LimitSettings {
            requests_per_second: 2,
            burst: 3,
            max_addresses,
            ..LimitSettings::default()
        })
    }

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    #[test]
    fn burst_is_admitted_and_then_the_rate() {
        let limiter = limiter(10);
        let start = Instant::now();
        let admitted = |ms| {
            let now = start + Duration::from_millis(ms);
            limiter.admit(address(1), now).is_ok()
        };
        assert_eq!([admitted(0), admitted(0), admitted(0)], [true; 3]);
        assert!(!admitted(0) && !admitted(400));
        assert!(admitted(500) && !admitted(500));
        assert!(limiter.admit(address(2), start).is_ok());
        let wait = limiter.admit(address(1), start + Duration::from_millis(750));
        assert_eq!(wait.unwrap_err().as_millis(), 250);
    }

    #[test]
    fn network_of_64_bits_counts_as_one_address() {
        let limiter = limiter(10);
        let now = Instant::now();
        let at = |text: &str| limiter.admit(text.parse().unwrap(), now).is_ok();
        assert!(at("2001:db8::1") && at("2001:db8::2") && at("2001:db8::3"));
        assert!(!at("2001:db8::4"));
        assert!(at("2001:db8:0:1::1"));
        assert!(at("::ffff:10.0.0.1") && at("10.0.0.1") && at("10.0.0.1"));
        assert!(!at("10.0.0.1"));
    }

    #[test]
    fn memory_is_bounded_and_further_addresses_share_a_limit() {
        let limiter = limiter(4);
        let now = Instant::now();
        let admitted = (0..200).filter(|n| limiter.admit(address(*n), now).is_ok());
        assert_eq!(admitted.count(), 4 + 3);
        assert_eq!(limiter.len(), 5);
        let later = now + Duration::from_secs(10);
        assert!(limiter.admit(address(250), later).is_ok());
        assert_eq!(limiter.len(), 1);
    }
}
