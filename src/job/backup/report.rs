//! What is said of a backup that exists.

use super::super::Outcome;
use super::super::request::WarnOk;
use super::BackupRun;
use crate::archive::seal::Sealed;
use crate::report::{Event, Reporter, event};
use crate::store::fan::{Committed, Failed};
use crate::stream::warning::Warning;

impl BackupRun {
    /// Says that it exists, and what needs a look.
    pub(super) fn report(&mut self, sealed: &Sealed, committed: &Committed, ui: &Reporter) -> Outcome {
        let (end, Committed { stores, unlocked, failed }) = (&sealed.end, committed);
        let open = self.tell_warnings(sealed, ui);
        end.notes.iter().for_each(|text| ui.note(text));
        for Failed { store, error } in failed {
            ui.warn(&format!("not at {store}: {error}"));
            error.hint_text().into_iter().for_each(|hint| ui.note(&format!("{store}: {hint}")));
        }
        self.tell_unlocked(unlocked, ui);
        let mut warnings = self.warnings.clone();
        warnings.extend(open.into_iter().filter(|text| !self.warnings.contains(text)));
        let outcome = match warnings.is_empty() && failed.is_empty() {
            true => Outcome::Done,
            false => Outcome::Warned,
        };
        let segments = &self.segments;
        let bytes = segments.bytes + end.bytes;
        let stored = segments.stored + sealed.archive.size + sealed.catalog.size;
        let (id, seconds) = (self.record.id.as_str(), self.clock.elapsed().as_secs_f64());
        ui.emit(Event::Sealed(event::Sealed {
            stores: stores.clone(),
            failed: failed.iter().map(Failed::event).collect(),
            warnings,
            notes: end.notes.clone(),
            kept: (!end.kept.is_nothing()).then(|| event::KeptMembers {
                entries: end.kept.entries,
                bytes: end.kept.bytes,
                needs: self.kept.needs().ids().iter().map(ToString::to_string).collect(),
            }),
            segments: (segments.made > 0).then_some(segments.made + 1),
            ..event::Sealed::new(&self.record.job, id, bytes, stored, seconds)
        }));
        outcome
    }

    /// Tells what needs a look in the source, and gives what was not accepted beforehand.
    pub(super) fn tell_warnings(&self, sealed: &Sealed, ui: &Reporter) -> Vec<String> {
        let accepts = |warning: &&Warning| WarnOk::accept(&self.request.warn_ok, warning.kind);
        let (accepted, open): (Vec<_>, Vec<_>) = sealed.warnings.iter().partition(accepts);
        accepted.iter().for_each(|warning| ui.note(&warning.text));
        let open: Vec<_> = open.iter().map(|warning| warning.text.clone()).collect();
        self.warn_once(&open, ui);
        open
    }

    /// Tells where what exists is not locked, though it was to be.
    pub(super) fn tell_unlocked(&mut self, unlocked: &[Failed], ui: &Reporter) {
        for Failed { store, error } in unlocked {
            let text = format!("not everything of it is locked at {store}: {error}");
            self.warn_once(std::slice::from_ref(&text), ui);
            error.hint_text().into_iter().for_each(|hint| ui.note(&format!("{store}: {hint}")));
            if !self.warnings.contains(&text) {
                self.warnings.push(text);
            }
        }
    }

    /// What one segment of a run has said, the next ones need not say again.
    pub(super) fn warn_once(&self, texts: &[String], ui: &Reporter) {
        texts.iter().filter(|text| !self.warnings.contains(text)).for_each(|text| ui.warn(text));
    }
}
