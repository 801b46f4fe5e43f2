//! Keeps a stream to a rate.

use std::time::Duration;

use tokio::time::Instant;

/// Lets bytes pass at a rate; a pause is not made up for by a burst.
pub struct RateLimiter {
    /// Bytes a second; none: as they come.
    rate: Option<u64>,
    /// When the bytes that have passed would all be gone at that rate.
    gone: Instant,
}

impl RateLimiter {
    /// A limiter to `rate` bytes a second, from now on.
    pub fn new(rate: Option<u64>) -> Self {
        RateLimiter { rate, gone: Instant::now() }
    }

    /// Waits until `bytes` more may have passed.
    pub async fn acquire(&mut self, bytes: usize) {
        if self.take(Instant::now(), bytes) {
            tokio::time::sleep_until(self.gone).await;
        }
    }

    /// Counts `bytes` that come at `now`; whether they are to wait.
    fn take(&mut self, now: Instant, bytes: usize) -> bool {
        let Some(rate) = self.rate else { return false };
        let takes = Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64);
        self.gone = self.gone.max(now) + takes;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_take_their_time_and_pauses_are_not_made_up_for() {
        let mut limiter = RateLimiter::new(Some(1000));
        let start = limiter.gone;
        let after = |limiter: &RateLimiter| (limiter.gone - start).as_millis();
        assert!(limiter.take(start, 500) && after(&limiter) == 500);
        assert!(limiter.take(start, 500) && after(&limiter) == 1000);
        assert!(limiter.take(start + Duration::from_secs(5), 100) && after(&limiter) == 5100);
        assert!(!RateLimiter::new(None).take(start, 1 << 30));
    }
}
