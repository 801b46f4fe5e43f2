//! How long somebody is tried to be told: a few times, each with its limit, and all of it with one.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::error::{Error, Result};

/// Why somebody was not told.
#[derive(Debug)]
pub(super) struct Failed {
    /// Why; without secrets.
    pub(super) why: Error,
    /// Whether another try may help.
    pub(super) again: bool,
}

impl Failed {
    /// Another try may help.
    pub(super) fn for_now(why: Error) -> Self {
        Failed { why, again: true }
    }
}

/// What no other try helps against: a file that is not there, an address that is none.
impl From<Error> for Failed {
    fn from(why: Error) -> Self {
        Failed { why, again: false }
    }
}

/// How often and how long it is tried.
#[derive(Debug, Clone)]
pub(super) struct Patience {
    pub(super) tries: u32,
    /// The longest time of a try.
    pub(super) each: Duration,
    /// The longest time of all of them.
    pub(super) limit: Duration,
    /// Before the second try; twice that before the next.
    pub(super) wait: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        let [each, limit, wait] = [10, 60, 2].map(Duration::from_secs);
        Patience { tries: 3, each, limit, wait }
    }
}

impl Patience {
    /// Does it until it is done.
    ///
    /// # Errors
    /// It cannot be done, or not in time: why the last try failed.
    pub(super) async fn tried<F>(&self, once: impl Fn() -> F) -> Result<()>
    where
        F: Future<Output = Result<(), Failed>>,
    {
        let late = |limit: Duration| Error::failed(format!("no answer within {} s", limit.as_secs()));
        let all = async {
            for attempt in 1.. {
                let tried = timeout(self.each, once()).await;
                let Err(failed) = tried.unwrap_or_else(|_| Err(Failed::for_now(late(self.each)))) else {
                    break;
                };
                if !failed.again || attempt >= self.tries {
                    return Err(failed.why);
                }
                sleep(self.wait * 2_u32.pow(attempt - 1)).await;
            }
            Ok(())
        };
        timeout(self.limit, all).await.unwrap_or_else(|_| Err(late(self.limit)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_limits_hold() {
        let (began, count) = (Instant::now(), AtomicU32::new(0));
        let never = || {
            count.fetch_add(1, Ordering::Relaxed);
            std::future::pending()
        };
        let error = Patience::default().tried(never).await.unwrap_err();
        assert_eq!((error.to_string().as_str(), count.load(Ordering::Relaxed)), ("no answer within 10 s", 3));
        assert_eq!(began.elapsed().as_secs(), 36);
        let short = Patience { limit: Duration::from_secs(15), ..Patience::default() };
        let began = Instant::now();
        let error = short.tried(std::future::pending).await.unwrap_err();
        assert_eq!((error.to_string().as_str(), began.elapsed().as_secs()), ("no answer within 15 s", 15));
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_helped_is_tried_once() {
        let count = AtomicU32::new(0);
        let refused = || async {
            count.fetch_add(1, Ordering::Relaxed);
            Err(Failed::from(Error::failed("no")))
        };
        assert_eq!(Patience::default().tried(refused).await.unwrap_err().to_string(), "no");
        assert_eq!(count.load(Ordering::Relaxed), 1);
    }
}
