//! What ends a pull early: its deadline, or the failure of another layer.

use std::future::Future;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::errors::ImageError;

/// Shared by all tasks of one pull.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt {
    cancelled: CancellationToken,
    deadline: Instant,
    allowed: Duration,
}

impl Interrupt {
    pub(crate) fn after(allowed: Duration) -> Self {
        // A time that no clock can reach is as good as a day.
        let now = Instant::now();
        let deadline = now
            .checked_add(allowed)
            .unwrap_or(now + Duration::from_secs(86_400));
        Self {
            cancelled: CancellationToken::new(),
            deadline,
            allowed,
        }
    }

    pub(crate) fn cancel(&self) {
        self.cancelled.cancel();
    }

    /// For threads that work in steps.
    pub(crate) fn check(&self) -> Result<(), ImageError> {
        if self.cancelled.is_cancelled() {
            return Err(ImageError::Cancelled);
        }
        if Instant::now() >= self.deadline {
            return Err(self.late());
        }
        Ok(())
    }

    /// Waits for a future unless the pull ends first.
    pub(crate) async fn run<T>(&self, future: impl Future<Output = T>) -> Result<T, ImageError> {
        tokio::select! {
            biased;
            () = self.cancelled.cancelled() => Err(ImageError::Cancelled),
            () = tokio::time::sleep_until(self.deadline.into()) => Err(self.late()),
            value = future => Ok(value),
        }
    }

    /// Whether a pause of this length would end after the deadline.
    pub(crate) fn too_late_after(&self, pause: Duration) -> bool {
        Instant::now()
            .checked_add(pause)
            .is_none_or(|end| end >= self.deadline)
    }

    fn late(&self) -> ImageError {
        ImageError::Deadline {
            seconds: self.allowed.as_secs(),
        }
    }
}
