//! Which failures are worth another attempt, and when.

use std::time::Duration;

use reqwest::{Response, StatusCode, header};

use crate::errors::ImageError;
use crate::options::RetryOptions;

/// The longest pause between two attempts.
const MAX_PAUSE: Duration = Duration::from_secs(15);

/// One failed attempt.
pub(crate) enum Failure {
    /// Another attempt would end the same way.
    Final(ImageError),
    /// May pass; the server may have said how long to wait.
    Passing(ImageError, Option<Duration>),
}

impl From<ImageError> for Failure {
    fn from(error: ImageError) -> Self {
        Self::Final(error)
    }
}

impl Failure {
    /// A request that got no answer.
    pub(crate) fn from_send(registry: &str, error: reqwest::Error) -> Self {
        // Addresses may carry signatures of a storage service.
        let error = error.without_url();
        let registry = registry.to_owned();
        if error.is_redirect() {
            return Self::Final(ImageError::RegistryRedirect { registry });
        }
        if error.is_builder() {
            return Self::Final(ImageError::RegistryUnreachable {
                registry,
                source: error,
            });
        }
        Self::Passing(
            ImageError::RegistryUnreachable {
                registry,
                source: error,
            },
            None,
        )
    }

    /// An answer other than success.
    pub(crate) fn from_status(registry: &str, what: &str, response: &Response) -> Self {
        let status = response.status();
        let (registry, what) = (registry.to_owned(), what.to_owned());
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return Self::Final(ImageError::RegistryUnauthorized { registry, what });
        }
        let error = ImageError::RegistryStatus {
            registry,
            status: status.as_u16(),
            what,
        };
        let passing = status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED
            || matches!(
                status,
                StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT
            );
        if passing {
            Self::Passing(error, retry_after(response))
        } else {
            Self::Final(error)
        }
    }
}

/// The number of seconds in `Retry-After`; its date form is not used by
/// registries.
fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response
        .headers()
        .get(header::RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()?;
    Some(Duration::from_secs(seconds))
}

/// The pause after attempt number `attempt`, counted from 1: doubling, with a
/// random part so that many guests do not come back at the same moment.
pub(super) fn pause(options: &RetryOptions, attempt: u32, asked: Option<Duration>) -> Duration {
    let doubled = options
        .first_pause
        .saturating_mul(1 << attempt.saturating_sub(1).min(16));
    let random = getrandom::u32().unwrap_or(u32::MAX / 2);
    let jitter = doubled
        .min(MAX_PAUSE)
        .mul_f64(0.5 + f64::from(random) / f64::from(u32::MAX) / 2.0);
    jitter.max(asked.unwrap_or_default()).min(MAX_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_stay_bounded() {
        let options = RetryOptions::default();
        for attempt in 1..40 {
            let full = options
                .first_pause
                .saturating_mul(1 << (attempt - 1).min(16))
                .min(MAX_PAUSE);
            let pause = pause(&options, attempt, None);
            assert!(pause >= full / 2 && pause <= full, "{attempt}: {pause:?}");
        }
        assert_eq!(
            pause(&options, 1, Some(Duration::from_secs(3))),
            Duration::from_secs(3)
        );
        assert_eq!(
            pause(&options, 1, Some(Duration::from_secs(3600))),
            MAX_PAUSE
        );
    }
}
