//! One object is deleted, or one byte of it is another.

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, Mutex};

use tokio_util::sync::CancellationToken;

use super::tree::{Snapshot, difference, snapshot};
use super::{History, JOB, archive, halt, restore, runtime};
use crate::archive::Id;
use crate::archive::check::Check;
use crate::job::Outcome;
use crate::job::restore::RestoreRequest;
use crate::job::verify::{Depth, VerifyRequest, verify};
use crate::report::{Event, Observer, Reporter, Tracking};
use crate::stream::counters::Counters;
use crate::tar::name;

/// Remembers warnings.
#[derive(Debug, Clone, Default)]
struct Warnings(Arc<Mutex<Vec<String>>>);

impl Observer for Warnings {
    fn is_verbose(&self) -> bool {
        false
    }

    fn event(&self, event: Event) {
        if let Event::Warning { message } = event {
            self.0.lock().unwrap().push(message);
        }
    }

    fn track(&self, _: &'static str, _: Arc<Counters>) -> Tracking {
        Tracking::new(|| {})
    }
}

impl History {
    /// Damages an object, and looks at every backup that is listed: what is lost of one is lost for a reason, and named. Those
    /// that do not come back are listed no more.
    pub(super) fn damage(&mut self) {
        let objects = runtime().block_on(halt::objects(&self.store()));
        let keys: Vec<_> = objects.keys().collect();
        let key = keys[self.random.below(keys.len())].clone();
        let mut bytes = objects[&key].to_vec();
        let is_deleted = bytes.is_empty() || self.random.one_in(2);
        if !is_deleted {
            let at = self.random.below(bytes.len());
            bytes[at] ^= 1 << self.random.below(8);
        }
        let holder = key.strip_prefix(JOB).unwrap()[1..26].to_string();
        self.flipped.extend((!is_deleted && key.contains(".tar")).then(|| holder.parse().unwrap()));
        let by = (!is_deleted).then(|| bytes.into());
        runtime().block_on(halt::replace(&self.store(), &key, by));
        let what = format!("history {}, {key} {}", self.seed, if is_deleted { "deleted" } else { "flipped" });

        let listed = self.list();
        let ids: BTreeSet<_> = listed.iter().map(|(id, _)| id.clone()).collect();
        let needs = |id: &Id| listed.iter().find(|(own, _)| own == id).map(|(_, needs)| needs.clone());
        for id in self.listed.keys().cloned().collect::<Vec<_>>() {
            if !ids.contains(&id) {
                assert!(id.as_str() == holder, "{what}: {id} is not listed as good");
                self.listed.remove(&id);
                self.broken.insert(id);
                continue;
            }
            if self.is_whole(&id, &what) {
                continue;
            }
            let needed = needs(&id).unwrap().iter().any(|id| id.as_str() == holder);
            assert!(id.as_str() == holder || needed, "{what}: {id} does not need it");
            self.rest_comes_back(&id, &key, &what);
            self.listed.remove(&id);
            self.broken.insert(id);
        }
    }

    /// Whether a backup comes back; what comes back is right.
    fn is_whole(&self, id: &Id, what: &str) -> bool {
        let out = self.dir.path().join("out");
        std::fs::create_dir(&out).unwrap();
        let restored = self.restore(id, &out);
        if let Ok(outcome) = &restored {
            assert!(*outcome == Outcome::Done, "{what}: {id}");
            let differ = difference(&snapshot(&self.below(&out)), &self.listed[id]);
            assert!(differ.is_empty(), "{what}: {id}: {differ:#?}");
        }
        std::fs::remove_dir_all(&out).unwrap();
        let verified = self.verify(id);
        assert!(restored.is_ok() || verified.is_err(), "{what}: {id} was verified: {restored:?}");
        restored.is_ok()
    }

    fn verify(&self, id: &Id) -> crate::error::Result<Outcome> {
        let request = VerifyRequest {
            which: archive(id).into(),
            open: self.open_request(),
            depth: Depth::All,
            since_last: false,
            max_duration: None,
            check: Check::default(),
            record: true,
        };
        runtime().block_on(verify(&request, &Reporter::silent(), &mut |_| {}))
    }

    /// Of a backup that is damaged, all that is not named comes back.
    fn rest_comes_back(&mut self, id: &Id, key: &str, what: &str) {
        let out = self.dir.path().join("out");
        std::fs::create_dir(&out).unwrap();
        let request = RestoreRequest { skip_damaged: true, ..self.restore_request(id, &out) };
        let warnings = Warnings::default();
        let ui = Reporter::new(warnings.clone());
        let restored = runtime().block_on(restore(request, &ui, &CancellationToken::new()));
        match restored {
            Ok(outcome) => {
                let left_out = self.left_out(&warnings, what);
                // What lies behind the last member may be damaged alone.
                assert_eq!(outcome == Outcome::Warned, !left_out.is_empty(), "{what}: {id}");
                self.told.partial += 1;
                self.told.left_out += left_out.len() as u64;
                let is =
                    if self.below(&out).exists() { snapshot(&self.below(&out)) } else { Snapshot::new() };
                let (is, should) = (others(is, &left_out), others(self.listed[id].clone(), &left_out));
                let differ = difference(&is, &should);
                assert!(differ.is_empty(), "{what}: {id}, without {left_out:?}: {differ:#?}");
            }
            // Without its own catalog nothing is known of it; where it held all that there was, nothing is left.
            Err(error) => {
                let own = key.contains(id.as_str());
                assert!(
                    own || error.to_string().contains("all that was asked for is lost"),
                    "{what}: {id}: {error:?}"
                );
            }
        }
        std::fs::remove_dir_all(&out).unwrap();
    }

    /// The names, as they are shown, of what was left out; below the source.
    fn left_out(&self, warnings: &Warnings, what: &str) -> BTreeSet<String> {
        let top = self.source().to_str().unwrap()[1..].to_string();
        let name = |text: &String| {
            // What was wrong when it was made is said, too.
            let is_new = !text.starts_with("at backup time: ");
            let name = text.strip_suffix(" is damaged and was left out");
            let name = is_new.then(|| name.unwrap_or_else(|| panic!("{what}: {text}")))?;
            Some(name.strip_prefix(&top).unwrap().trim_start_matches('/').to_string())
        };
        warnings.0.lock().unwrap().iter().filter_map(name).collect()
    }
}

/// What is not among those names. Which of a file's names is the first may have changed.
fn others(snapshot: Snapshot, left_out: &BTreeSet<String>) -> Snapshot {
    let shown = |path: &Path| name::shown(path.as_os_str().as_bytes());
    let rest = snapshot.into_iter().filter(|(path, _)| !left_out.contains(&shown(path)));
    rest.map(|(path, facts)| (path, facts.without_first())).collect()
}
