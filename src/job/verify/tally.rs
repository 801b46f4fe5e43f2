//! What became of several archives that were verified.

use super::{Finding, Summary};
use crate::error::{Error, Kind, Result};
use crate::job::Outcome;
use crate::report::Reporter;

/// What became of several archives, and why.
pub(super) struct Tally {
    pub(super) summary: Summary,
    /// Why one of them is not in order: the worst reason, the first of its kind.
    cause: Option<Error>,
}

impl Tally {
    pub(super) fn of(job: &str) -> Self {
        Tally { summary: Summary { job: job.into(), ..Summary::default() }, cause: None }
    }

    /// # Errors
    /// What would keep the next archive from being verified, too.
    pub(super) fn add(&mut self, name: String, verified: Result<Option<bool>>, ui: &Reporter) -> Result<()> {
        match verified {
            Ok(Some(true)) => self.summary.verified += 1,
            Ok(Some(false)) => self.summary.left.push(name),
            Ok(None) => {}
            Err(error) if matches!(error.kind(), Kind::Usage | Kind::Interrupted) => return Err(error),
            Err(error) => {
                ui.warn(&format!("{name}: {error}"));
                self.summary.failed.push(name);
                // Damage is worse than anything else that can be said of an archive.
                match &self.cause {
                    Some(cause) if error.kind() != Kind::Damaged || cause.kind() == Kind::Damaged => {}
                    _ => self.cause = Some(error),
                }
            }
        }
        Ok(())
    }

    pub(super) fn finish(self, ui: &Reporter, found: &mut dyn FnMut(&Finding)) -> Result<Outcome> {
        let Tally { summary, cause } = self;
        if !summary.left.is_empty() {
            ui.note(&format!("the time is over: not verified yet: {}", summary.left.join(", ")));
        }
        // A window in which not even one archive fits comes to nothing every night.
        let stuck = summary.verified == 0 && !summary.left.is_empty();
        if stuck {
            ui.warn("the time did not suffice for one archive: give a longer --max-duration, or --sample 5%");
        }
        let failed = summary.failed.join(", ");
        found(&Finding::Job(summary));
        match cause {
            None if stuck => Ok(Outcome::Warned),
            None => Ok(Outcome::Done),
            Some(cause) => Err(cause.context(format!("not verified: {failed}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tally of these archives, and what was told.
    fn tally(archives: Vec<(&str, Result<Option<bool>>)>) -> (Result<Outcome>, Summary) {
        let ui = Reporter::silent();
        let mut tally = Tally::of("db");
        for (name, verified) in archives {
            tally.add(name.into(), verified, &ui).unwrap();
        }
        let mut told = Vec::new();
        let outcome = tally.finish(&ui, &mut |finding| told.push(finding.clone()));
        match told.remove(0) {
            Finding::Job(summary) if told.is_empty() => (outcome, summary),
            other => panic!("{other:?}, {told:?}"),
        }
    }

    #[test]
    fn archives_in_order_are_counted_and_those_deleted_meanwhile_are_not() {
        let (outcome, summary) = tally(vec![("a", Ok(Some(true))), ("b", Ok(None)), ("c", Ok(Some(true)))]);
        assert_eq!(outcome.unwrap(), Outcome::Done);
        assert_eq!(summary, Summary { job: "db".into(), verified: 2, ..Summary::default() });
    }

    #[test]
    fn a_window_that_no_archive_fits_into_is_a_warning() {
        let (outcome, summary) = tally(vec![("a", Ok(Some(false)))]);
        assert_eq!(outcome.unwrap(), Outcome::Warned);
        assert_eq!(summary.left, ["a"]);
        let (outcome, _) = tally(vec![("a", Ok(Some(true))), ("b", Ok(Some(false)))]);
        assert_eq!(outcome.unwrap(), Outcome::Done);
    }

    #[test]
    fn damage_is_the_cause_that_is_reported_and_all_failed_are_named() {
        let (outcome, summary) = tally(vec![
            ("a", Err(Error::failed("no answer"))),
            ("b", Err(Error::damaged("first damage"))),
            ("c", Err(Error::damaged("second damage"))),
            ("d", Ok(Some(true))),
        ]);
        let error = outcome.unwrap_err();
        assert_eq!(error.kind(), Kind::Damaged);
        let text = error.to_string();
        assert!(text.contains("not verified: a, b, c") && text.contains("first damage"), "{text}");
        assert_eq!((summary.failed.join(","), summary.verified), ("a,b,c".into(), 1));
    }

    #[test]
    fn what_would_stop_the_next_archive_too_stops_the_run() {
        let ui = Reporter::silent();
        for error in [Error::usage("x"), Error::interrupted()] {
            assert!(Tally::of("db").add("a".into(), Err(error), &ui).is_err());
        }
    }
}
