//! Keeps streams to a rate, which may be another one at another time of the day.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Zoned;
use jiff::civil::DateTime;
use tokio::time::Instant;

use crate::error::{Error, Result};

/// How long a rate holds before it is looked up again.
const LOOK: Duration = Duration::from_secs(1);
/// Minutes of a day.
const DAY: u16 = 24 * 60;

/// Which rate holds when, in the local time of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timetable {
    /// From which minute of the week on, with Monday as its first day, how many bytes a second; none: as they come. Sorted,
    /// and never empty: before the first one, the last one of the week before holds.
    from: Vec<(u16, Option<u64>)>,
}

/// An entry of a timetable.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// The day of the week, 0 to 6 for Monday to Sunday; none: every day.
    pub day: Option<u16>,
    /// The minute of the day.
    pub minute: u16,
    /// Bytes a second from then on; none: as they come.
    pub rate: Option<u64>,
}

impl Timetable {
    /// One rate at all times; none: as bytes come.
    pub fn always(rate: Option<u64>) -> Self {
        Timetable { from: vec![(0, rate)] }
    }

    /// The timetable of these entries.
    ///
    /// # Errors
    /// There is none, or there are two for one time.
    pub fn new(entries: &[Entry]) -> Result<Self> {
        let of = |&Entry { day, minute, rate }: &Entry| {
            day.map_or(0..=6, |day| day..=day).map(move |day| (day * DAY + minute, rate))
        };
        let mut from: Vec<_> = entries.iter().flat_map(of).collect();
        from.sort();
        if from.is_empty() {
            return Err(Error::usage("a timetable without any time"));
        }
        if let Some(twice) = from.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            let minute = twice[0].0 % DAY;
            return Err(Error::usage(format!("{:02}:{:02} is given twice", minute / 60, minute % 60)));
        }
        Ok(Timetable { from })
    }

    /// Bytes a second at a time.
    pub fn at(&self, time: DateTime) -> Option<u64> {
        let day = time.weekday().to_monday_zero_offset() as u16;
        let now = day * DAY + time.hour() as u16 * 60 + time.minute() as u16;
        let past = self.from.iter().rev().find(|(from, _)| *from <= now);
        past.or(self.from.last()).and_then(|(_, rate)| *rate)
    }
}

/// Lets bytes pass at a rate, in the order in which they are asked for; a pause is not made up for by a burst.
#[derive(Debug)]
pub struct RateLimiter {
    /// None: bytes pass as they come.
    timetable: Option<Timetable>,
    queue: Mutex<Queue>,
}

/// Bytes that wait. Counted from the beginning, so that each who waits knows when it is his turn; as fractions, since a look
/// may come before the next whole byte.
#[derive(Debug)]
struct Queue {
    /// Bytes that were asked for.
    asked: f64,
    /// How many of them have passed: never more.
    passed: f64,
    /// When that was so.
    at: Instant,
    /// The rate since then.
    rate: Option<u64>,
}

impl RateLimiter {
    /// A limiter, from now on.
    pub fn new(timetable: Option<Timetable>) -> Self {
        let queue = Queue { asked: 0.0, passed: 0.0, at: Instant::now(), rate: None };
        RateLimiter { timetable, queue: Mutex::new(queue) }
    }

    /// Waits until `bytes` more may have passed. Nothing is held meanwhile: another stream goes on while nobody polls this.
    pub async fn acquire(&self, bytes: u64) {
        self.acquire_at(bytes, || Zoned::now().datetime()).await;
    }

    /// Counts bytes that have passed without having been asked for: whoever comes next waits for them, too.
    pub fn charge(&self, bytes: u64) {
        if let Some(timetable) = &self.timetable {
            let rate = timetable.at(Zoned::now().datetime());
            self.queue(|queue| {
                queue.pass(rate);
                queue.asked += bytes as f64;
            });
        }
    }

    /// [`RateLimiter::acquire`] by a clock.
    // The clock is asked at each look, and only for the rate: set forward or back, it changes no wait by more than that.
    async fn acquire_at(&self, bytes: u64, clock: impl Fn() -> DateTime) {
        let Some(timetable) = self.timetable.as_ref().filter(|_| bytes > 0) else { return };
        let mut turn = self.queue(|queue| {
            queue.pass(timetable.at(clock()));
            queue.asked += bytes as f64;
            Turn { limiter: self, begin: queue.asked - bytes as f64, end: queue.asked }
        });
        while let Some(wait) = self.queue(|queue| queue.wait(timetable.at(clock()), turn.end)) {
            tokio::time::sleep(wait).await;
        }
        turn.begin = turn.end;
    }

    fn queue<T>(&self, change: impl FnOnce(&mut Queue) -> T) -> T {
        change(&mut self.queue.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Queue {
    /// Lets pass what may have passed by now; from now on this rate holds.
    fn pass(&mut self, rate: Option<u64>) {
        let before = std::mem::replace(&mut self.at, Instant::now());
        let seconds = self.at.duration_since(before).as_secs_f64();
        let bytes =
            std::mem::replace(&mut self.rate, rate).map_or(f64::INFINITY, |rate| seconds * rate as f64);
        self.passed = (self.passed + bytes).min(self.asked);
    }

    /// How long to wait before the next look; none where everything before `end` has passed.
    fn wait(&mut self, rate: Option<u64>, end: f64) -> Option<Duration> {
        self.pass(rate);
        // What is less than a byte is rounding.
        let left = end - self.passed;
        let rate = rate.filter(|_| left >= 0.5)?;
        Some(Duration::try_from_secs_f64(left / rate.max(1) as f64).unwrap_or(LOOK).min(LOOK))
    }
}

/// Somebody's bytes in the queue. Where he does not wait for them to the end, those behind him need not, either.
struct Turn<'a> {
    limiter: &'a RateLimiter,
    begin: f64,
    end: f64,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.limiter.queue(|queue| queue.passed += (self.end - self.begin.max(queue.passed)).max(0.0));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const NOON: DateTime = jiff::civil::datetime(2026, 11, 25, 12, 0, 0, 0);

    fn from(time: &str, rate: Option<u64>) -> Entry {
        let (hour, minute) = time.split_once(':').unwrap();
        let minute = hour.parse::<u16>().unwrap() * 60 + minute.parse::<u16>().unwrap();
        Entry { day: None, minute, rate }
    }

    fn limiter(entries: &[Entry]) -> RateLimiter {
        RateLimiter::new(Some(Timetable::new(entries).unwrap()))
    }

    /// A clock that shows `time` now, and goes on with the runtime's.
    fn clock(time: DateTime) -> impl Fn() -> DateTime + Copy {
        let start = Instant::now();
        move || time + jiff::SignedDuration::try_from(start.elapsed()).unwrap()
    }

    async fn seconds(work: impl Future<Output = ()>) -> f64 {
        let start = Instant::now();
        work.await;
        (start.elapsed().as_secs_f64() * 100.0).round() / 100.0
    }

    #[test]
    fn the_last_entry_before_a_time_holds_and_before_the_first_the_last_of_all() {
        let table = Timetable::new(&[from("19:00", None), from("08:00", Some(2))]).unwrap();
        let at = |table: &Timetable, day, hour, minute| {
            table.at(jiff::civil::datetime(2026, 11, day, hour, minute, 59, 0))
        };
        for (hour, minute, rate) in
            [(0, 0, None), (7, 59, None), (8, 0, Some(2)), (18, 59, Some(2)), (19, 0, None)]
        {
            // The 23rd is a Monday.
            (23..30).for_each(|day| assert_eq!(at(&table, day, hour, minute), rate, "{day} {hour}:{minute}"));
        }
        let day = |day, entry: Entry| Entry { day: Some(day), ..entry };
        let week = Timetable::new(&[day(0, from("09:00", Some(5))), day(5, from("00:00", None))]).unwrap();
        for (date, hour, rate) in
            [(23, 8, None), (23, 9, Some(5)), (27, 23, Some(5)), (28, 0, None), (29, 23, None)]
        {
            assert_eq!(at(&week, date, hour, 0), rate, "{date} {hour}");
        }
        assert_eq!(at(&Timetable::always(Some(7)), 23, 3, 4), Some(7));
    }

    #[test]
    fn a_timetable_has_entries_and_each_time_once() {
        assert!(Timetable::new(&[]).is_err());
        let monday = Entry { day: Some(0), ..from("08:05", None) };
        let error = Timetable::new(&[from("08:05", Some(1)), monday]).unwrap_err();
        assert_eq!((error.to_string().as_str(), error.kind().exit_code()), ("08:05 is given twice", 2));
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_take_their_time_and_pauses_are_not_made_up_for() {
        let limiter = RateLimiter::new(Some(Timetable::always(Some(1000))));
        assert_eq!(seconds(limiter.acquire(500)).await, 0.5);
        assert_eq!(seconds(limiter.acquire(2500)).await, 2.5);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(seconds(limiter.acquire(3000)).await, 3.0);
        tokio::time::sleep(Duration::from_secs(60)).await;
        limiter.charge(1000);
        assert_eq!(seconds(limiter.acquire(1)).await, 1.0);
        assert_eq!(seconds(limiter.acquire(0)).await, 0.0);
        for free in [RateLimiter::new(None), RateLimiter::new(Some(Timetable::always(None)))] {
            free.charge(1 << 40);
            assert_eq!(seconds(free.acquire(1 << 40)).await, 0.0);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn several_streams_keep_the_rate_together_and_their_order() {
        let limiter = Arc::new(RateLimiter::new(Some(Timetable::always(Some(1000)))));
        let start = Instant::now();
        let streams = (1..=4u64).map(|_| {
            let limiter = Arc::clone(&limiter);
            async move {
                limiter.acquire(2000).await;
                start.elapsed().as_secs_f64().round() as u64
            }
        });
        assert_eq!(futures_util::future::join_all(streams).await, [2, 4, 6, 8]);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_nobody_polls_holds_up_nobody_and_one_that_is_dropped_costs_nothing() {
        let limiter = RateLimiter::new(Some(Timetable::always(Some(1000))));
        let mut first = Box::pin(limiter.acquire(5000));
        assert!(futures_util::poll!(first.as_mut()).is_pending());
        assert_eq!(seconds(limiter.acquire(1000)).await, 6.0);
        assert!(futures_util::poll!(first.as_mut()).is_ready());
        let mut given_up = Box::pin(limiter.acquire(1_000_000));
        assert!(futures_util::poll!(given_up.as_mut()).is_pending());
        tokio::time::sleep(Duration::from_secs(10)).await;
        drop(given_up);
        assert_eq!(seconds(limiter.acquire(1000)).await, 1.0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_began_slow_ends_when_the_timetable_says_off() {
        let limiter = limiter(&[from("08:00", Some(1024)), from("12:10", None)]);
        let clock = clock(NOON);
        // At the rate that it began with, it would take days.
        assert_eq!(seconds(limiter.acquire_at(1 << 30, clock)).await, 600.0);
        assert_eq!(seconds(limiter.acquire_at(1 << 30, clock)).await, 0.0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_that_begins_makes_up_for_nothing_that_went_before() {
        let limiter = limiter(&[from("08:00", None), from("12:10", Some(1000)), from("12:20", Some(4000))]);
        let clock = clock(NOON);
        assert_eq!(seconds(limiter.acquire_at(1 << 40, clock)).await, 0.0);
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert_eq!(seconds(limiter.acquire_at(3000, clock)).await, 3.0);
        // 597 seconds of the slow rate are left, then the fast one.
        assert_eq!(seconds(limiter.acquire_at(597_000 + 8000, clock)).await, 599.0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_set_neither_stalls_nor_bursts() {
        let limiter = limiter(&[from("00:00", Some(1000)), from("18:00", Some(2000))]);
        let (right, start) = (clock(NOON), Instant::now());
        // Ten seconds from the beginning the clock is set back by a year, and then to the evening.
        let set = |time: DateTime| move || if start.elapsed().as_secs() < 10 { right() } else { time };
        let back = set(jiff::civil::datetime(2025, 1, 1, 0, 0, 0, 0));
        assert_eq!(seconds(limiter.acquire_at(20_000, back)).await, 20.0);
        let evening = set(jiff::civil::datetime(2026, 11, 25, 19, 0, 0, 0));
        assert_eq!(seconds(limiter.acquire_at(20_000, evening)).await, 10.0);
    }
}
