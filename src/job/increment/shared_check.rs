//! What the members of a source are expected to be, where some of them stay in older archives.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::archive::check::{Check, MemberCheck};
use crate::stream::warning::Warning;
use crate::tar::Entry;

/// What members are expected to be, looked at by those who see them read and by those who see them kept.
#[derive(Debug, Clone, Default)]
pub(in crate::job) struct SharedCheck(Option<Arc<Shared>>);

#[derive(Debug)]
struct Shared {
    check: Mutex<Check>,
    /// Not all members are seen this time: they are judged another time.
    is_put_off: AtomicBool,
}

impl SharedCheck {
    /// Shares a check: the first is for whoever sees the members read.
    pub(in crate::job) fn of(check: Check) -> (Check, SharedCheck) {
        if check.is_empty() {
            return (check, SharedCheck(None));
        }
        let shared = SharedCheck(Some(Arc::new(Shared {
            check: Mutex::new(check),
            is_put_off: AtomicBool::new(false),
        })));
        (Check::of(shared.clone()), shared)
    }

    pub(super) fn is_some(&self) -> bool {
        self.0.is_some()
    }

    pub(super) fn keep(&self, name: &[u8]) {
        self.with(|check| check.observe_kept(name));
    }

    /// Says that not all members are seen this time.
    pub(super) fn put_off(&self) {
        self.0.iter().for_each(|shared| shared.is_put_off.store(true, Ordering::Release));
    }

    pub(super) fn count_kept(&self, members: u64) {
        self.with(|check| check.count_kept(members));
    }

    fn with<T: Default>(&self, f: impl FnOnce(&mut Check) -> T) -> T {
        let lock = |shared: &Arc<Shared>| f(&mut shared.check.lock().unwrap_or_else(PoisonError::into_inner));
        self.0.as_ref().map(lock).unwrap_or_default()
    }
}

impl MemberCheck for SharedCheck {
    fn observe(&mut self, entry: &Entry) {
        self.with(|check| check.observe(entry));
    }

    fn wants(&self, entry: &Entry) -> bool {
        self.with(|check| check.wants(entry))
    }

    fn contents(&mut self, entry: &Entry, bytes: &[u8]) {
        self.with(|check| check.contents(entry, bytes));
    }

    fn unmet(&self) -> Vec<Warning> {
        match &self.0 {
            Some(shared) if shared.is_put_off.load(Ordering::Acquire) => Vec::new(),
            _ => self.with(|check| check.unmet()),
        }
    }

    fn boxed(&self) -> Box<dyn MemberCheck> {
        Box::new(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::check::{entry, texts};

    #[test]
    fn members_are_expected_whether_they_are_read_or_kept() {
        let globs = ["a".to_string(), "b".into(), "c".into()];
        let (mut seen, shared) = SharedCheck::of(Check::new(&globs, 3).unwrap());
        seen.observe(&entry("a"));
        shared.keep(b"b");
        shared.count_kept(1);
        assert_eq!(texts(&seen.unmet()), ["no member matches 'c'", "only 2 members where 3 are expected"]);
        shared.put_off();
        assert!(seen.unmet().is_empty(), "the rest comes another time");
        assert!(!SharedCheck::of(Check::default()).1.is_some());
    }
}
