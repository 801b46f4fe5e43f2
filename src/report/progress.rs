//! Progress in words: a line for the job and one for each store, fitted to a terminal; one line for a log.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::{clock, human_bytes, printable, shortened};
use crate::stream::counters::{Counters, Total};

/// The time that a rate is measured over.
const WINDOW: Duration = Duration::from_secs(10);
/// After so long without a word of it, a store is not tried again any more.
const SILENT: Duration = Duration::from_secs(60);
/// The fewest characters of a name.
const NARROWEST: usize = 8;

/// A store that is being tried again.
#[derive(Debug, Clone)]
pub(super) struct Retry {
    pub store: String,
    /// When what is tried began.
    pub since: Instant,
    /// For how long it is tried.
    pub limit: Duration,
    /// The last failure.
    pub why: String,
    /// When that was told.
    pub told: Instant,
}

impl Retry {
    pub(super) fn is_over(&self) -> bool {
        self.told.elapsed() > SILENT
    }

    fn text(&self) -> String {
        let (since, limit) = (clock(self.since.elapsed().min(self.limit)), clock(self.limit));
        printable(&format!("{}: retrying {since} of {limit}: {}", self.store, self.why))
    }
}

/// How fast it goes, over the last seconds.
#[derive(Debug, Default)]
pub(super) struct Rate(VecDeque<(Duration, u64)>);

impl Rate {
    /// Takes note of how much was done by then; bytes a second.
    pub(super) fn at(&mut self, elapsed: Duration, bytes: u64) -> u64 {
        self.0.push_back((elapsed, bytes));
        while self.0.len() > 2 && self.0[1].0 + WINDOW <= elapsed {
            self.0.pop_front();
        }
        // What was done before the first look counts, too.
        let (began, first) = match self.0.front() {
            Some(&(at, bytes)) if at + WINDOW <= elapsed || self.0.len() > 1 && at > WINDOW => (at, bytes),
            _ => (Duration::ZERO, 0),
        };
        let seconds = elapsed.saturating_sub(began).as_secs_f64().max(0.001);
        (bytes.saturating_sub(first) as f64 / seconds) as u64
    }
}

/// What is shown of a run at one moment.
#[derive(Debug)]
pub(super) struct Moment<'a> {
    /// What is done to the bytes, in the past tense.
    pub verb: &'a str,
    pub counters: &'a Counters,
    pub elapsed: Duration,
    /// Bytes a second.
    pub rate: u64,
    pub retries: &'a [Retry],
}

impl Moment<'_> {
    /// Whether there is anything to show yet.
    pub(super) fn is_empty(&self) -> bool {
        self.counters.done() == 0 && self.retries.is_empty()
    }

    /// Per cent of what there is, and the time that the rest takes; none where that is not known.
    fn share(&self) -> Option<(String, String)> {
        let total = self.counters.total()?;
        let (done, all) = (self.counters.done(), total.bytes());
        let about = if matches!(total, Total::About(_)) { "~" } else { "" };
        if done > all {
            return None;
        }
        let percent = format!("{about}{}%", done as u128 * 100 / u128::from(all.max(1)));
        let left = match self.rate {
            0 => String::new(),
            rate => format!("{about}{} left", clock(Duration::from_secs((all - done) / rate))),
        };
        Some((percent, left))
    }

    /// Source bytes of the finished frames for each byte stored; none while that says nothing.
    fn ratio(&self) -> Option<String> {
        let (framed, stored) = (self.counters.framed.get(), self.counters.stored.get());
        (framed >= 1 << 20 && stored > 0).then(|| format!("ratio {:.2}", framed as f64 / stored as f64))
    }

    /// What is said of the job, each with its rank: what ranks higher is left out first.
    fn words(&self) -> Vec<(u8, String)> {
        let done = human_bytes(self.counters.done());
        let mut words = vec![(0, clock(self.elapsed)), (0, done)];
        if let Some(total) = self.counters.total() {
            let about = if matches!(total, Total::About(_)) { "~" } else { "" };
            words.push((4, format!("of {about}{}", human_bytes(total.bytes()))));
        }
        words.push((5, self.verb.into()));
        words.push((2, format!("{}/s", human_bytes(self.rate))));
        words.extend(self.ratio().map(|ratio| (3, ratio)));
        if let Some((percent, left)) = self.share() {
            words.push((1, percent));
            words.extend((!left.is_empty()).then_some((1, left)));
        }
        words
    }

    /// Lines of at most `width` characters.
    pub(super) fn lines(&self, width: usize) -> Vec<String> {
        let mut words = self.words();
        let length = |words: &[(u8, String)]| words.iter().map(|(_, word)| 2 + word.chars().count()).sum();
        let job = printable(&self.counters.job);
        let name = job.chars().count().min(NARROWEST);
        while name + length(&words) > width {
            let Some((at, _)) = words.iter().enumerate().max_by_key(|(_, (rank, _))| *rank) else { break };
            if words[at].0 == 0 {
                break;
            }
            words.remove(at);
        }
        let room = width.saturating_sub(length(&words)).max(1);
        let words = words.into_iter().map(|(_, word)| word);
        let job = Some(shortened(&job, room)).filter(|job| !job.is_empty());
        let line = job.into_iter().chain(words).collect::<Vec<_>>().join("  ");
        let mut lines = vec![cut(&line, width)];
        for (store, taken) in &self.counters.stores {
            if self.retries.iter().all(|retry| retry.store != *store) {
                let taken = human_bytes(taken.get());
                let room = width.saturating_sub(taken.len() + 4).max(1);
                lines.push(cut(&format!("  {}  {taken}", shortened(&printable(store), room)), width));
            }
        }
        lines.extend(self.retries.iter().map(|retry| cut(&format!("  {}", retry.text()), width)));
        lines
    }

    /// One line for a log: the job, its clock, and all that is known.
    pub(super) fn log_line(&self) -> String {
        let words: Vec<_> = self.words().into_iter().map(|(_, word)| word).collect();
        let (clock, rest) = words.split_first().map_or(("", &[][..]), |(clock, rest)| (clock.as_str(), rest));
        let job = printable(&self.counters.job);
        let mut line = if job.is_empty() { clock.to_string() } else { format!("{job} {clock}") };
        line += &format!(": {}", rest.join(", ").replacen(", of ", " of ", 1));
        line = line.replacen(&format!(", {}", self.verb), &format!(" {}", self.verb), 1);
        for (store, taken) in &self.counters.stores {
            line += &format!("; {} {}", printable(store), human_bytes(taken.get()));
        }
        line
    }
}

/// A line in `width` characters: its end is left out.
fn cut(line: &str, width: usize) -> String {
    match line.char_indices().nth(width) {
        None => line.into(),
        Some(_) => line.chars().take(width.saturating_sub(1)).chain(['…']).collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::stream::counters::Counter;

    const MIB: u64 = 1 << 20;

    fn counters(job: &str, total: Option<Total>) -> Counters {
        let store = Arc::new(Counter::default());
        store.add(512 * MIB);
        let counters = Counters::of(job).with_stores(vec![("s3://backups/prod".into(), store)]);
        counters.source.add(1200 * MIB);
        counters.framed.add(1050 * MIB);
        counters.stored.add(500 * MIB);
        total.into_iter().for_each(|total| counters.expect(total));
        counters
    }

    fn moment<'a>(counters: &'a Counters, retries: &'a [Retry]) -> Moment<'a> {
        Moment { verb: "read", counters, elapsed: Duration::from_secs(12), rate: 100 * MIB, retries }
    }

    #[test]
    fn a_job_has_a_line_and_each_store_another() {
        let counters = counters("db", Some(Total::Known(4000 * MIB)));
        assert_eq!(
            moment(&counters, &[]).lines(120),
            [
                "db  0:12  1.17 GiB  of 3.91 GiB  read  100.00 MiB/s  ratio 2.10  30%  0:28 left",
                "  s3://backups/prod  512.00 MiB",
            ]
        );
        assert_eq!(
            moment(&counters, &[]).log_line(),
            "db 0:12: 1.17 GiB of 3.91 GiB read, 100.00 MiB/s, ratio 2.10, 30%, 0:28 left; \
             s3://backups/prod 512.00 MiB"
        );
    }

    #[test]
    fn what_is_only_estimated_says_so_and_what_is_more_than_that_has_no_share() {
        let about = counters("db", Some(Total::About(4000 * MIB)));
        assert!(moment(&about, &[]).lines(120)[0].ends_with("  ~30%  ~0:28 left"));
        let more = counters("db", Some(Total::About(MIB)));
        assert!(!moment(&more, &[]).lines(120)[0].contains('%'));
        let unknown = counters("db", None);
        assert_eq!(moment(&unknown, &[]).lines(120)[0], "db  0:12  1.17 GiB  read  100.00 MiB/s  ratio 2.10");
    }

    #[test]
    fn no_line_is_wider_than_the_terminal_and_the_share_outlives_the_rest() {
        let counters = counters("team/dtr-registry-0123456789ab", Some(Total::Known(4000 * MIB)));
        let retries = [Retry {
            store: "az://container/prefix".into(),
            since: Instant::now(),
            limit: Duration::from_secs(300),
            why: "the connection was refused, and a long story about why that is so".into(),
            told: Instant::now(),
        }];
        for width in 10..130 {
            let lines = moment(&counters, &retries).lines(width);
            assert!(lines.iter().all(|line| line.chars().count() <= width), "{width}: {lines:#?}");
            assert!(width < 40 || lines[0].ends_with("30%  0:28 left"), "{width}: {lines:#?}");
            assert_eq!(lines.len(), 3);
        }
        let lines = moment(&counters, &retries).lines(40);
        assert_eq!(lines[0], "team…9ab  0:12  1.17 GiB  30%  0:28 left");
    }

    #[test]
    fn a_store_that_is_tried_again_says_so_in_the_place_of_its_bytes() {
        let counters = counters("db", None);
        let retries = [Retry {
            store: "s3://backups/prod".into(),
            since: Instant::now(),
            limit: Duration::from_secs(300),
            why: "HTTP 503\n".into(),
            told: Instant::now(),
        }];
        let lines = moment(&counters, &retries).lines(80);
        assert_eq!(lines[1..], ["  s3://backups/prod: retrying 0:00 of 5:00: HTTP 503\\n"]);
    }

    #[test]
    fn there_is_no_line_before_there_is_anything_to_say() {
        assert!(moment(&Counters::of("db"), &[]).is_empty());
        let counters = counters("db", None);
        assert!(!moment(&counters, &[]).is_empty());
    }

    #[test]
    fn a_rate_is_that_of_the_last_seconds() {
        let (mut rate, second) = (Rate::default(), Duration::from_secs);
        assert_eq!(rate.at(second(1), 10), 10);
        assert_eq!(rate.at(second(2), 20), 10);
        for n in 3..=20 {
            rate.at(second(n), 20);
        }
        assert_eq!(rate.at(second(21), 20), 0, "nothing came for more than ten seconds");
    }
}
