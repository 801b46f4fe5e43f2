//! What a store can do, tried out: a small object is written, found, read and deleted again, and the bucket is asked about
//! itself. The object's name begins with an id, so that it is told from what others put there.

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use object_store::path::Path;
use object_store::{
    Error as StoreError, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, PutResult,
};

use super::bucket::{Answer, element, rules};
use super::failure::is_unknown_to_store;
use super::{Kind, Store};
use crate::archive::Id;
use crate::error::Result;
use crate::report::{Finding, human_bytes, short_time};

/// The folder that is tried; no job's archives lie there.
const FOLDER: &str = "sealift-doctor";
const SUFFIX: &str = ".probe";
const PARTS_SUFFIX: &str = ".parts.probe";
const TEXT: &str = "sealift doctor: this object may be deleted\n";

/// Clocks that are further apart spoil the order of ids, and records of times.
const APART: SignedDuration = SignedDuration::from_secs(60);
/// Stores refuse requests that were signed so long ago, or so far ahead.
const TOO_FAR: SignedDuration = SignedDuration::from_mins(15);

impl Store {
    /// Tries out what backups, restores and deletions ask for. `builds_on` says whether archives are to need older ones.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub async fn probe(&self, builds_on: bool) -> Result<Vec<Finding>> {
        let id = Id::new(Timestamp::now())?;
        let key = self.key(FOLDER, &id, SUFFIX);
        let mut found = Vec::new();
        let written = self.try_write(&key, &mut found).await;
        let versioned = matches!(&written, Some(PutResult { version: Some(_), .. }));
        self.try_list(&key, written.is_some(), &mut found).await;
        if written.is_some() {
            found.push(self.try_read(&key).await);
            if !matches!(self.kind, Kind::File | Kind::Memory) {
                found.push(self.try_parts(&self.key(FOLDER, &id, PARTS_SUFFIX)).await);
            }
            found.push(self.try_delete(&key, versioned).await);
            self.drop_probes_folder();
        }
        found.extend(self.ask_bucket(builds_on).await);
        Ok(found)
    }

    /// By how much this host's clock is ahead of the store's, by an object that is written, looked at and deleted again.
    ///
    /// # Errors
    /// The store does not answer, or refuses.
    pub async fn clock_ahead(&self) -> Result<SignedDuration> {
        let key = self.key(FOLDER, &Id::new(Timestamp::now())?, SUFFIX);
        let written = self.put_absent(&key, &Bytes::from_static(TEXT.as_bytes())).await;
        match written {
            // Ids are drawn: it is ours, and its first answer was lost.
            Ok(()) | Err(StoreError::AlreadyExists { .. }) => {}
            Err(error) => return Err(self.explain("asking for the store's time", error)),
        }
        let before = Timestamp::now();
        let looked = self.down.head(&key).await;
        let deleted = self.delete_object(&key).await;
        self.drop_probes_folder();
        let meta = looked.map_err(|e| self.explain("asking for the store's time", e))?;
        deleted.map(|()| before.duration_since(super::lease::time_of(&meta)))
    }

    fn drop_probes_folder(&self) {
        if let Some(folder) = self.folder() {
            // Only where nothing else is in it.
            let _ = std::fs::remove_dir(folder.join(self.below(FOLDER).as_ref()));
        }
    }

    fn check(&self, what: &str) -> String {
        format!("{} {what}", self.name)
    }

    /// What a request that failed means: what is told, and what is to be done.
    fn refused(&self, what: &str, error: StoreError) -> (String, String) {
        let error = self.explain(what, error);
        let hint = error.hint_text().unwrap_or("look at the store's own log").to_string();
        (error.to_string(), hint)
    }

    /// Writes the object twice: the second time must be refused.
    async fn try_write(&self, key: &Path, found: &mut Vec<Finding>) -> Option<PutResult> {
        let check = self.check("write");
        let create = || PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let text = || PutPayload::from_static(TEXT.as_bytes());
        let lacks = "no create-only write: sealift looks before it writes, and two runs at one moment are not kept apart";
        let change =
            "use a store with conditional writes (If-None-Match) where several hosts write to one job";
        let first = match self.up.put_opts(key, text(), create()).await {
            Err(error) if self.kind == Kind::File || is_unknown_to_store(&error) => {
                match self.up.put(key, text()).await {
                    Ok(put) => {
                        found.push(Finding::warn(check, format!("works, but there is {lacks}"), change));
                        return Some(put);
                    }
                    Err(error) => Err(error),
                }
            }
            first => first,
        };
        match first {
            Err(error) => {
                let (text, hint) = self.refused("writing", error);
                found.push(Finding::fail(check, text, hint));
                None
            }
            Ok(put) => {
                found.push(match self.up.put_opts(key, text(), create()).await {
                    Err(StoreError::AlreadyExists { .. } | StoreError::Precondition { .. }) => {
                        Finding::ok(check, "works, and what is there is not replaced (create-only)")
                    }
                    Ok(_) => Finding::warn(check, format!("the store replaced an object: {lacks}"), change),
                    Err(error) => {
                        let (text, hint) = self.refused("writing again", error);
                        Finding::warn(check, text, hint)
                    }
                });
                Some(put)
            }
        }
    }

    /// Lists the folder, and holds the store's time of the object against the clock here.
    async fn try_list(&self, key: &Path, written: bool, found: &mut Vec<Finding>) {
        let check = self.check("list");
        let listed = match self.down.list_with_delimiter(Some(&self.below(FOLDER))).await {
            Ok(listed) => listed.objects,
            Err(error) => {
                let (text, hint) = self.refused("listing", error);
                found.push(Finding::fail(check, text, hint));
                return;
            }
        };
        match listed.iter().find(|meta| meta.location == *key) {
            Some(meta) => {
                found.push(Finding::ok(check, "works"));
                let at = Timestamp::from_second(meta.last_modified.timestamp()).unwrap_or_default();
                found.push(clock(self.check("clock"), at.duration_until(Timestamp::now())));
            }
            None if written => found.push(Finding::fail(
                check,
                "what was written is not in the list",
                "does something between here and the store keep old answers? lists must be of now",
            )),
            None => found.push(Finding::ok(check, "works")),
        }
    }

    async fn try_read(&self, key: &Path) -> Finding {
        let check = self.check("read");
        let read = async { self.down.get(key).await?.bytes().await };
        match read.await {
            Ok(bytes) if bytes == Bytes::from_static(TEXT.as_bytes()) => Finding::ok(check, "works"),
            Ok(bytes) => Finding::fail(
                check,
                format!("other bytes came back than were written ({} for {})", bytes.len(), TEXT.len()),
                "does a proxy change what passes? bytes must come back as they were sent",
            ),
            Err(error) => {
                let (text, _) = self.refused("reading", error);
                Finding::warn(check, text, "backups work; verify and restore need a key that may read")
            }
        }
    }

    /// Begins an upload in parts, sends one, and takes it back.
    async fn try_parts(&self, key: &Path) -> Finding {
        let check = self.check("upload in parts");
        let limits = self.kind.limits();
        let sizes = format!(
            "{} parts of {} to {}",
            limits.count,
            human_bytes(limits.smallest),
            human_bytes(limits.largest)
        );
        let begun = self.up.put_multipart_opts(key, Default::default()).await;
        let mut upload = match begun {
            Ok(upload) => upload,
            Err(error) => {
                let (text, hint) = self.refused("beginning an upload", error);
                return Finding::fail(check, text, hint);
            }
        };
        let sent = upload.put_part(PutPayload::from_static(TEXT.as_bytes())).await;
        let aborted = upload.abort().await;
        match (sent, aborted) {
            (Ok(()), Ok(())) => Finding::ok(check, format!("works, with at most {sizes}")),
            (Err(error), _) => {
                let (text, hint) = self.refused("sending a part", error);
                Finding::fail(check, text, hint)
            }
            (_, Err(error)) => {
                let (text, _) = self.refused("aborting an upload", error);
                let stays = format!("{text}: an unfinished upload stays at {}", self.url_of(key));
                Finding::warn(
                    check,
                    stays,
                    "allow aborts, or add a lifecycle rule that does it after some days",
                )
            }
        }
    }

    async fn try_delete(&self, key: &Path, versioned: bool) -> Finding {
        let check = self.check("delete");
        let deleted = self.up.delete(key).await;
        let at = self.url_of(key);
        match (deleted, self.look(key).await) {
            // What is gone is gone, whatever the answer was.
            (_, Ok(None)) if versioned => Finding::ok(
                check,
                format!("works; versions are kept, so that it frees nothing: {at} has one left"),
            ),
            (_, Ok(None)) => Finding::ok(check, "works"),
            (Ok(()), Ok(Some(_))) => Finding::warn(
                check,
                format!("it was taken, and {at} is there still"),
                "is the object locked? delete it when that has ended",
            ),
            (Err(error), _) | (_, Err(error)) => {
                let (text, _) = self.refused("deleting", error);
                Finding::warn(
                    check,
                    format!("{text}: {at} stays"),
                    "backups work, and nobody can delete them with this key; give another one to what deletes",
                )
            }
        }
    }

    /// Asks for versioning, object lock and lifecycle rules.
    async fn ask_bucket(&self, builds_on: bool) -> Vec<Finding> {
        let Some(s3) = &self.s3 else { return Vec::new() };
        let mut found = Vec::new();
        let ask = async |setting| Answer::of(setting, s3.ask_bucket(setting).await);
        let unknown = |check: String, why: String| {
            Finding::ok(check, format!("not known: this key or server gives no answer ({why})"))
        };
        let versioning = self.check("versioning");
        found.push(match ask("versioning").await {
            Ok(Answer::Text(text)) => match element(&text, "Status") {
                Some(status) => Finding::ok(versioning, status.to_lowercase()),
                None => Finding::ok(versioning, "off"),
            },
            Ok(Answer::None) => Finding::ok(versioning, "off"),
            Ok(Answer::Refused(why)) => unknown(versioning, why),
            Err(error) => unknown(versioning, error.to_string()),
        });
        let lock = self.check("object lock");
        found.push(match ask("object-lock").await {
            Ok(Answer::Text(text)) => Finding::ok(lock, default_lock(&text)),
            Ok(Answer::None) => Finding::ok(lock, "off"),
            Ok(Answer::Refused(why)) => unknown(lock, why),
            Err(error) => unknown(lock, error.to_string()),
        });
        let lifecycle = self.check("lifecycle rules");
        match ask("lifecycle").await {
            Ok(Answer::Text(text)) => found.extend(self.judge_rules(&text, &lifecycle, builds_on)),
            Ok(Answer::None) => found.push(Finding::ok(lifecycle, "none")),
            Ok(Answer::Refused(why)) => found.push(unknown(lifecycle, why)),
            Err(error) => found.push(unknown(lifecycle, error.to_string())),
        }
        found
    }

    fn judge_rules(&self, lifecycle: &str, check: &str, builds_on: bool) -> Vec<Finding> {
        let rules = rules(lifecycle, self.prefix.as_ref());
        if rules.is_empty() {
            return vec![Finding::ok(check, "none that deletes or freezes archives")];
        }
        let finding = |rule: super::bucket::Rule| {
            let found = format!("rule {} {}", rule.id, rule.does);
            match (rule.deletes, builds_on) {
                (true, true) => Finding::fail(
                    check,
                    format!("{found}, and increments need older archives"),
                    "take the rule out: `sealift prune` keeps what is needed; or leave incremental out",
                ),
                (true, false) => Finding::warn(
                    check,
                    found,
                    "it takes the last good archive too when backups stop: have `sealift prune` delete instead",
                ),
                (false, _) => Finding::warn(
                    check,
                    format!("{found}, where they cannot be read until they are thawed"),
                    "leave catalogs and manifests out of it: give --storage-class for the archives alone",
                ),
            }
        };
        rules.into_iter().map(finding).collect()
    }
}

/// Whether an object of this name behind an id was written to try a store out.
pub(super) fn is_probe(suffix: &str) -> bool {
    [SUFFIX, PARTS_SUFFIX].contains(&suffix)
}

/// What an object lock configuration says.
fn default_lock(text: &str) -> String {
    let time = element(text, "Days").map(|days| format!("{days} days"));
    let time = time.or_else(|| element(text, "Years").map(|years| format!("{years} years")));
    match (element(text, "ObjectLockEnabled"), element(text, "Mode"), time) {
        (_, Some(mode), Some(time)) => format!("on, by default {} for {time}", mode.to_lowercase()),
        (Some(_), ..) => "on, with no default".into(),
        _ => "off".into(),
    }
}

/// What the difference of two clocks means; it is positive where the one here is ahead.
fn clock(check: String, ahead: SignedDuration) -> Finding {
    let change = "set this host's clock: chronyd, ntpd or systemd-timesyncd keeps it right";
    let (apart, side) = (ahead.abs(), if ahead.is_negative() { "behind" } else { "ahead of" });
    let found = || {
        let time = match apart.as_secs() {
            seconds @ ..100 => format!("{seconds} s"),
            _ => short_time(apart.unsigned_abs()),
        };
        format!("this host's clock is {time} {side} the store's")
    };
    match apart {
        apart if apart > TOO_FAR => Finding::fail(check, found(), change),
        apart if apart > APART => Finding::warn(check, found(), change),
        _ => Finding::ok(check, "the store's and this host's agree within a minute"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Verdict;
    use crate::store::StoreOptions;

    #[test]
    fn clocks_may_be_a_minute_apart_and_never_a_quarter_of_an_hour() {
        let verdict = |seconds| clock("clock".into(), SignedDuration::from_secs(seconds));
        assert_eq!(verdict(60).verdict, Verdict::Ok);
        let behind = verdict(-61);
        assert_eq!(
            (behind.verdict, behind.found.as_str()),
            (Verdict::Warn, "this host's clock is 61 s behind the store's")
        );
        let ahead = verdict(3600);
        assert_eq!(
            (ahead.verdict, ahead.found.as_str()),
            (Verdict::Fail, "this host's clock is 60m ahead of the store's")
        );
    }

    #[test]
    fn a_lock_is_told_with_its_default() {
        let lock = |inside: &str| {
            default_lock(&format!("<ObjectLockConfiguration>{inside}</ObjectLockConfiguration>"))
        };
        let on = "<ObjectLockEnabled>Enabled</ObjectLockEnabled>";
        assert_eq!(lock(on), "on, with no default");
        let rule = "<Rule><DefaultRetention><Mode>GOVERNANCE</Mode><Days>30</Days></DefaultRetention></Rule>";
        assert_eq!(lock(&format!("{on}{rule}")), "on, by default governance for 30 days");
        assert_eq!(lock(""), "off");
    }

    #[tokio::test]
    async fn a_store_that_can_all_is_left_as_it_was() {
        let store = Store::open("memory://doctor-probe/p", &StoreOptions::default()).unwrap();
        let found = store.probe(true).await.unwrap();
        let lines: Vec<_> = found.iter().map(ToString::to_string).collect();
        assert!(found.iter().all(|finding| finding.verdict == Verdict::Ok), "{lines:#?}");
        let checks: Vec<_> = found.iter().filter_map(|finding| finding.check.rsplit(' ').next()).collect();
        assert_eq!(checks, ["write", "list", "clock", "read", "delete"]);
        assert!(store.sizes(FOLDER).await.unwrap().is_empty());
    }

    #[test]
    fn rules_that_delete_are_worse_where_archives_need_older_ones() {
        let store = Store::open("memory://doctor-rules/p", &StoreOptions::default()).unwrap();
        let rule = "<Rule><ID>x</ID><Status>Enabled</Status><Expiration><Days>9</Days></Expiration></Rule>";
        let verdict = |text: &str, builds_on| store.judge_rules(text, "rules", builds_on).remove(0).verdict;
        assert_eq!((verdict(rule, true), verdict(rule, false)), (Verdict::Fail, Verdict::Warn));
        assert_eq!(verdict("<LifecycleConfiguration/>", true), Verdict::Ok);
    }
}
