//! S3 Object Lock: nothing of a backup, nor of what it needs, can be deleted before its time.
//!
//! Objects get their retention by `PutObjectRetention` when they are complete, not with their upload: so the same request
//! serves what an older backup already has there, and parts need no checksums. The manifest is put when archive, catalog and
//! all that is needed are locked; it is locked last.

use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use jiff::{SignedDuration, Timestamp};
use object_store::path::Path;

use super::Store;
use super::manifest::{Manifest, SUFFIX, catalog_suffix};
use super::s3::Api;
use crate::archive::Id;
use crate::error::{Error, Result};

pub use super::s3::{LockMode, Retention};

/// Retentions that are asked for at once.
const PARALLEL: usize = 8;

/// By how much a store's clock may be behind this host's.
const CLOCKS: Duration = Duration::from_secs(300);

/// For how long what a backup stores is locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lock {
    /// From the moment on that it is committed.
    pub time: Duration,
    /// Who may end it before.
    pub mode: LockMode,
}

impl Lock {
    /// The retention of what is locked at that time.
    ///
    /// # Errors
    /// There is no such time.
    pub fn from(&self, now: Timestamp) -> Result<Retention> {
        let time =
            SignedDuration::try_from(self.time).map_err(|e| Error::usage("--lock is too long").because(e))?;
        // Servers keep whole seconds: rather one more.
        let until = now.checked_add(time).and_then(|until| until.checked_add(SignedDuration::from_secs(1)));
        let until = until.map_err(|e| Error::usage("--lock is too long").because(e))?;
        Ok(Retention { mode: self.mode, until })
    }

    /// How long a backup that began then must be locked at least. A bucket's own rule counts from the moment on that an
    /// object is there, by the store's clock.
    fn least(&self, started: Timestamp) -> Result<Timestamp> {
        let least = SignedDuration::try_from(self.time.saturating_sub(CLOCKS.min(self.time / 10)));
        let until = least.map_err(|_| ()).and_then(|least| started.checked_add(least).map_err(|_| ()));
        until.map_err(|()| Error::usage("--lock is too long"))
    }
}

impl Store {
    /// Looks whether the bucket can lock what a backup is to store there.
    ///
    /// # Errors
    /// It cannot. A key that may not ask finds out later.
    pub async fn check_lock(&self) -> Result<()> {
        let (Some(_), Some(s3)) = (&self.lock, &self.s3) else { return Ok(()) };
        match self.patience.read(|| s3.has_lock()).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Error::failed(format!("{} is a bucket without object lock", self.name)).hint(
                "object lock is chosen when a bucket is made (aws s3api create-bucket --object-lock-enabled-for-bucket); \
                 without it, leave --lock out",
            )),
            Err(error) => {
                let why = super::in_short(&error);
                self.patience.detail(&format!("whether the bucket has object lock cannot be seen: {why}"));
                Ok(())
            }
        }
    }

    /// Locks what a backup consists of, before its manifest is put, and all that it needs; why something is not locked for as
    /// long as it should be.
    pub(super) async fn lock_contents(&self, manifest: &Manifest) -> Option<Error> {
        self.try_lock_contents(manifest).await.unwrap_or_else(Some)
    }

    /// Locks a manifest; or why not.
    pub(super) async fn lock_manifest(&self, manifest: &Manifest) -> Option<Error> {
        let key = self.key(&manifest.job, &manifest.id, SUFFIX);
        let lock = self.lock()?;
        let locked = async {
            self.retain_all(vec![key], lock.from(Timestamp::now())?, lock.least(manifest.started)?).await
        };
        locked.await.unwrap_or_else(Some)
    }

    async fn try_lock_contents(&self, manifest: &Manifest) -> Result<Option<Error>> {
        let Some(lock) = self.lock() else { return Ok(None) };
        let (retention, least) = (lock.from(Timestamp::now())?, lock.least(manifest.started)?);
        let own = [manifest.suffix.as_str(), catalog_suffix(&manifest.suffix)];
        let own = own.map(|suffix| self.key(&manifest.job, &manifest.id, suffix));
        let refused = self.retain_all(own.into(), retention, least).await?;
        if refused.is_some() {
            return Ok(refused);
        }
        // Where the key may not make it longer, older archives were chosen that stay locked for half of the time.
        let half = Lock { time: lock.time / 2, ..lock }.from(Timestamp::now())?.until.min(least);
        self.lock_archives(&manifest.job, &manifest.needs, retention, half).await
    }

    /// Whether backups here are locked, and how.
    pub fn lock(&self) -> Option<Lock> {
        self.lock.filter(|_| self.s3.is_some())
    }

    /// Locks archives of a job, each with its catalog and its manifest. What is locked for longer stays so. Given is why one
    /// is not locked even until `least`, if the store refuses that.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn lock_archives(
        &self,
        job: &str,
        ids: &[Id],
        retention: Retention,
        least: Timestamp,
    ) -> Result<Option<Error>> {
        if ids.is_empty() {
            return Ok(None);
        }
        let names = self.sizes(job).await?;
        let is_one = |name: &str| {
            let id = name.split_once('.').map_or(name, |(id, _)| id);
            is_content(name) && ids.iter().any(|own| own.as_str() == id)
        };
        let keys = names.keys().filter(|name| is_one(name)).map(|name| self.below(&format!("{job}/{name}")));
        self.retain_all(keys.collect(), retention, least).await
    }

    /// Until when an archive, its catalog and its manifest are locked: the first and the last end; none where none is locked.
    ///
    /// # Errors
    /// The store does not answer, or the key may not ask (`s3:GetObjectRetention`).
    pub async fn locked_until(
        &self,
        job: &str,
        id: &Id,
        suffix: &str,
    ) -> Result<Option<(Timestamp, Timestamp)>> {
        let Some(s3) = &self.s3 else { return Ok(None) };
        let keys = [suffix, catalog_suffix(suffix), SUFFIX].map(|suffix| self.key(job, id, suffix));
        let asked = futures_util::stream::iter(keys).map(|key| async move {
            match self.patience.read(|| s3.retention(&key)).await {
                Err(object_store::Error::NotFound { .. }) => Ok(None),
                found => found.map_err(|e| self.explain("asking for a retention", e)),
            }
        });
        let found: Vec<_> = asked.buffered(PARALLEL).try_collect().await?;
        let ends = || found.iter().map(|found| found.map(|retention| retention.until));
        // What is not locked at all is free now.
        let first = ends().map(|end| end.unwrap_or(Timestamp::UNIX_EPOCH)).min();
        Ok(first.zip(ends().flatten().max()))
    }

    /// Whether objects of the bucket may be locked: true where that cannot be seen.
    pub async fn may_lock(&self) -> bool {
        match &self.s3 {
            Some(s3) => self.patience.read(|| s3.has_lock()).await.unwrap_or(true),
            None => false,
        }
    }

    /// Whether what is deleted stays in the bucket as an older version, that is, still costs what it did; false where that is
    /// not known.
    pub async fn keeps_versions(&self) -> bool {
        match &self.s3 {
            Some(s3) if !self.all_versions => self.patience.read(|| s3.is_versioned()).await.unwrap_or(false),
            _ => false,
        }
    }

    /// Removes all versions of an object.
    pub(super) async fn delete_versions(&self, s3: &Api, key: &Path) -> object_store::Result<()> {
        for version in self.patience.read(|| s3.versions(key)).await? {
            self.patience.read(|| s3.delete_version(key, &version)).await?;
        }
        Ok(())
    }

    /// Locks objects; the first that the store refuses to lock so long, and why.
    async fn retain_all(
        &self,
        keys: Vec<Path>,
        retention: Retention,
        least: Timestamp,
    ) -> Result<Option<Error>> {
        let locked = futures_util::stream::iter(keys).map(|key| async move {
            let refused = self.retain(&key, retention, least).await.err();
            let error = refused.map(|error| (self.is_refusal(&error), error));
            error.map(|(refused, error)| {
                let doing = format!("locking {key} until {}", retention.until.strftime("%FT%TZ"));
                (refused, self.explain(&doing, error))
            })
        });
        let mut locked = std::pin::pin!(locked.buffer_unordered(PARALLEL));
        while let Some(failed) = locked.next().await {
            match failed {
                None => {}
                Some((true, error)) => return Ok(Some(error)),
                Some((false, error)) => return Err(error),
            }
        }
        Ok(None)
    }

    async fn retain(&self, key: &Path, retention: Retention, least: Timestamp) -> object_store::Result<()> {
        let Some(s3) = &self.s3 else { return Ok(()) };
        let Err(error) = self.patience.read(|| s3.retain(key, retention)).await else { return Ok(()) };
        // A retention cannot be shortened: that is refused, too. And the bucket's own rule may be enough.
        match s3.retention(key).await {
            Ok(Some(known)) if known.until >= least => Ok(()),
            _ => Err(error),
        }
    }
}

/// Whether an object of an archive holds a part of it, and is no record beside it.
fn is_content(name: &str) -> bool {
    !name.ends_with(".json") || name.ends_with(SUFFIX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_lasts_at_least_as_long_as_asked_for_in_whole_seconds() {
        let lock = Lock { time: Duration::from_secs(86_400), mode: LockMode::Compliance };
        let started: Timestamp = "2026-11-26T02:00:00.7Z".parse().unwrap();
        let until = lock.from(started).unwrap().until;
        assert_eq!(until.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(), "2026-11-27T02:00:01Z");
        let least = lock.least(started).unwrap();
        assert_eq!(least.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(), "2026-11-27T01:55:00Z");
        let short = Lock { time: Duration::from_secs(10), ..lock };
        assert_eq!(short.least(started).unwrap().duration_since(started).as_secs(), 9);
        let endless = Lock { time: Duration::from_secs(u64::MAX), ..lock };
        assert!(endless.from(started).is_err());
    }

    #[test]
    fn records_beside_an_archive_are_not_locked() {
        for name in ["1.tar.zst.gpg", "1.catalog.zst.gpg", "1.manifest.json", "1.raw", "1.tar.gz"] {
            assert!(is_content(name), "{name}");
        }
        for name in ["1.verified-whole-x.json", "1.damaged-x.json", "1.pin.json", "1.tombstone.json"] {
            assert!(!is_content(name), "{name}");
        }
    }
}
