//! Stores as they are given: by URL, or by the name that the settings file gives them.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::{age, duration};
use crate::error::{Error, Result};
use crate::store::{Lock, LockMode, StoreOptions, locate};

/// How a store is to be used, as far as that can differ from store to store.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Backup options")]
pub struct StoreFlags {
    /// How long each request is tried again before its store is given up [default: 5m]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    retry_for: Option<Duration>,
    /// Storage class of the archive: S3 class, Azure access tier
    #[arg(long, value_name = "CLASS")]
    storage_class: Option<String>,
    /// S3 server-side encryption: AES256, aws:kms
    #[arg(long, value_name = "KIND")]
    sse: Option<String>,
    /// KMS key of --sse aws:kms
    #[arg(long, value_name = "KEY")]
    sse_kms_key_id: Option<String>,
    /// S3 checksum on every part: sha256, crc64nvme
    #[arg(long, value_name = "KIND")]
    checksum: Option<String>,
    /// S3 Object Lock: nothing of the backup, nor what an increment needs of older ones, can be deleted for so long (30d)
    #[arg(long, value_name = "TIME", value_parser = age)]
    lock: Option<Duration>,
    /// Who may end a --lock before its time: governance (whoever has s3:BypassGovernanceRetention), compliance (nobody)
    /// [default: governance]
    #[arg(long, value_name = "MODE")]
    lock_mode: Option<LockMode>,
    /// Certificates of your own authorities, in PEM, for the store's TLS
    ///
    /// Otherwise AWS_CA_BUNDLE, and SSL_CERT_FILE in place of the system's.
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

impl StoreFlags {
    /// These, and where one is not given, the `other`'s.
    pub fn or(self, other: StoreFlags) -> StoreFlags {
        // A key belongs to the kind of encryption that it was given with.
        let keys = if self.sse.is_none() { other.sse_kms_key_id } else { None };
        StoreFlags {
            retry_for: self.retry_for.or(other.retry_for),
            storage_class: self.storage_class.or(other.storage_class),
            sse: self.sse.or(other.sse),
            sse_kms_key_id: self.sse_kms_key_id.or(keys),
            checksum: self.checksum.or(other.checksum),
            lock: self.lock.or(other.lock),
            lock_mode: self.lock_mode.or(other.lock_mode),
            ca_file: self.ca_file.or(other.ca_file),
        }
    }

    /// The same with what holds where nothing was given.
    ///
    /// # Errors
    /// A KMS key, but no encryption that would use it.
    pub fn options(self) -> Result<StoreOptions> {
        if self.sse_kms_key_id.is_some() && self.sse.is_none() {
            return Err(Error::usage("--sse-kms-key-id means nothing without --sse")
                .hint("say --sse aws:kms too, or sse = \"aws:kms\" in the settings file"));
        }
        if self.lock_mode.is_some() && self.lock.is_none() {
            return Err(Error::usage("--lock-mode means nothing without --lock")
                .hint("say --lock 30d too, or lock = \"30d\" in the settings file"));
        }
        let mode = self.lock_mode.unwrap_or(LockMode::Governance);
        let usual = StoreOptions::default();
        Ok(StoreOptions {
            storage_class: self.storage_class,
            sse: self.sse,
            sse_kms_key_id: self.sse_kms_key_id,
            checksum: self.checksum,
            lock: self.lock.map(|time| Lock { time, mode }),
            ca_file: self.ca_file,
            retry_for: self.retry_for.unwrap_or(usual.retry_for),
            ..usual
        })
    }
}

/// A store: its URL, and what the settings file says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreAt {
    url: String,
    /// What the settings file says of it.
    pub flags: StoreFlags,
}

impl StoreAt {
    /// The store at `url`.
    ///
    /// # Errors
    /// It is no store's URL.
    pub fn new(url: &str, flags: StoreFlags) -> Result<Self> {
        locate(url)?;
        Ok(StoreAt { url: url.into(), flags })
    }

    /// Its URL.
    pub fn as_str(&self) -> &str {
        &self.url
    }

    /// How it is to be used where no option says otherwise.
    ///
    /// # Errors
    /// As [`StoreFlags::options`].
    pub fn options(&self) -> Result<StoreOptions> {
        self.flags.clone().options()
    }
}

impl std::ops::Deref for StoreAt {
    type Target = str;
    fn deref(&self) -> &str {
        &self.url
    }
}

impl std::str::FromStr for StoreAt {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        StoreAt::new(text, StoreFlags::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(sse: Option<&str>, key: Option<&str>) -> StoreFlags {
        StoreFlags { sse: sse.map(Into::into), sse_kms_key_id: key.map(Into::into), ..StoreFlags::default() }
    }

    #[test]
    fn a_key_stays_with_its_encryption() {
        let file = flags(Some("aws:kms"), Some("of the file"));
        assert_eq!(flags(Some("AES256"), None).or(file.clone()), flags(Some("AES256"), None));
        assert_eq!(flags(None, Some("given")).or(file.clone()), flags(Some("aws:kms"), Some("given")));
        assert_eq!(flags(None, None).or(file.clone()), file);
        assert!(flags(None, Some("given")).options().is_err());
    }
}
