//! What a backup is asked for, in plain values.

use super::increment::Increments;
use super::lease::OneAtATime;
use crate::archive::Format;
use crate::archive::budget::BudgetRequest;
use crate::archive::check::Check;
use crate::archive::openpgp::Cipher;
use crate::archive::whole::Whole;
use crate::docker::quiesce::QuiesceRequest;
use crate::host::passphrase;
use crate::host::priority::IoNice;
use crate::source::{FileFilter, Source};
use crate::store::StoreUrl;
use crate::store::rate::Timetable;
use crate::store::set::SetRef;
use crate::stream::warning::WarningKind;

/// Warnings that may be accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WarnOk {
    /// Files that changed while they were read.
    Changed,
    /// The job's newest archive has another passphrase.
    Passphrase,
    /// A registry's links without blobs, as garbage collection leaves them.
    Links,
    /// The job's newest archive is of another source.
    Source,
}

impl WarnOk {
    /// Whether a warning of this kind is no reason for exit code 3.
    pub fn accept(warn_ok: &[WarnOk], kind: WarningKind) -> bool {
        match kind {
            WarningKind::Changed => warn_ok.contains(&WarnOk::Changed),
            WarningKind::DanglingLinks => warn_ok.contains(&WarnOk::Links),
            // Of a file that shrank, zeros are stored that it never held.
            WarningKind::Shrunk
            | WarningKind::Incomplete
            | WarningKind::UnmetExpectation
            | WarningKind::TrailingBytes
            | WarningKind::Engine
            | WarningKind::Other => false,
        }
    }
}

/// How an archive is encrypted.
#[derive(Debug, Clone)]
pub struct Encryption {
    /// The kind of encryption.
    pub cipher: Cipher,
    /// Where the passphrase comes from.
    pub passphrase: passphrase::Sources,
}

/// How a backup is made.
#[derive(Debug, Clone)]
pub struct BackupRequest {
    /// The job under which the archive lies; otherwise the source's own.
    pub job: Option<String>,
    /// The host that its source lies on; otherwise the engine's own name, or this host's.
    pub host: Option<String>,
    /// Where it goes: at least one store.
    pub stores: Vec<StoreUrl>,
    /// How it is encrypted; none: stored in the clear.
    pub encryption: Option<Encryption>,
    /// How it is compressed, and in how much memory.
    pub budget: BudgetRequest,
    /// Parts in flight to each store.
    pub parallel: usize,
    /// At most so many bytes a second to each store.
    pub limit_rate: Option<Timetable>,
    /// The nice value; none: [`DEFAULT_NICE`](crate::host::priority::DEFAULT_NICE), where that can be had.
    pub nice: Option<i32>,
    /// The I/O priority.
    pub io_nice: Option<IoNice>,
    /// Whether the source is a tar; none: found out.
    pub format: Option<Format>,
    /// Accept a source that gives no byte at all.
    pub allow_empty: bool,
    /// What its members must be.
    pub check: Check,
    /// Commit nothing that does not meet the expectations; otherwise that is a warning.
    pub strict: bool,
    /// Warnings that are no reason for [`Outcome::Warned`](super::Outcome::Warned).
    pub warn_ok: Vec<WarnOk>,
    /// Which files of folders and volumes are taken.
    pub files: FileFilter,
    /// Whether what older archives hold is left there; none: everything is held.
    pub increments: Option<Increments>,
    /// Warn where the source has less than this share of what the newest archive has; with [`BackupRequest::strict`], fail.
    pub shrink_alarm: Option<f64>,
    /// Whether two runs of the job may go on at once.
    pub one_at_a_time: OneAtATime,
    /// What is held still while the source is read.
    pub quiesce: Option<QuiesceRequest>,
    /// Only tell what would be backed up.
    pub dry_run: bool,
}

/// One archive to be made.
pub struct Task {
    /// Where its bytes come from.
    pub source: Source,
    /// Whether the job's newest archive must be of the same source. What a preset finds is named by its version and node.
    pub is_compared: bool,
    /// How it is made.
    pub request: BackupRequest,
    /// What its bytes must be; none: found out.
    pub format: Option<Format>,
    /// What a restore will need to know, beside the source.
    pub metadata: serde_json::Value,
    /// What its members must be, beside what the request says.
    pub check: Check,
    /// What its bytes must be as a whole, where that is no tar.
    pub whole: Option<Whole>,
    /// What is known to be wrong with it.
    pub warnings: Vec<String>,
    /// What is so by nature.
    pub notes: Vec<String>,
    /// The set that it belongs to.
    pub set: Option<SetRef>,
}

impl Task {
    /// A source as it is.
    pub fn new(source: Source, request: BackupRequest) -> Self {
        let (metadata, format) = (serde_json::Value::Null, request.format.or_else(|| source.format()));
        let (check, warnings, notes) = (Check::default(), Vec::new(), Vec::new());
        Task {
            source,
            is_compared: true,
            request,
            format,
            metadata,
            check,
            whole: None,
            warnings,
            notes,
            set: None,
        }
    }

    /// The job under which the archive will lie.
    pub fn job(&self) -> Option<String> {
        self.request.job.clone().or_else(|| self.source.default_job())
    }
}

/// What the catalog says of a source, and what is known beside it.
pub(super) fn with_metadata(
    mut described: serde_json::Value,
    metadata: serde_json::Value,
) -> serde_json::Value {
    if let (Some(described), serde_json::Value::Object(metadata)) = (described.as_object_mut(), metadata) {
        described.extend(metadata);
    }
    described
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;
    use crate::archive::frame::{Codec, FRAME_LEN};

    /// A request to back up to these stores, stored in the clear.
    pub fn request(urls: &[&str]) -> BackupRequest {
        let store = |url: &&str| StoreUrl::new(*url);
        BackupRequest {
            job: None,
            host: None,
            stores: urls.iter().map(store).collect(),
            encryption: None,
            budget: BudgetRequest {
                memory: 256 << 20,
                workers: 1,
                frame_len: FRAME_LEN as u64,
                codec: Codec::Zstd,
                level: 3,
                part_size: None,
                max_parts: None,
            },
            parallel: 1,
            limit_rate: None,
            nice: None,
            io_nice: None,
            format: None,
            allow_empty: false,
            check: Check::default(),
            strict: false,
            warn_ok: Vec::new(),
            files: FileFilter::default(),
            increments: None,
            shrink_alarm: None,
            one_at_a_time: OneAtATime::default(),
            quiesce: None,
            dry_run: false,
        }
    }

    #[test]
    fn a_warning_is_accepted_by_its_kind_alone() {
        let kinds = |warn_ok: &[WarnOk]| {
            let all = [
                WarningKind::Changed,
                WarningKind::Shrunk,
                WarningKind::Incomplete,
                WarningKind::DanglingLinks,
                WarningKind::UnmetExpectation,
                WarningKind::TrailingBytes,
                WarningKind::Engine,
                WarningKind::Other,
            ];
            all.into_iter().filter(|kind| WarnOk::accept(warn_ok, *kind)).collect::<Vec<_>>()
        };
        assert_eq!(kinds(&[]), []);
        assert_eq!(kinds(&[WarnOk::Passphrase]), []);
        assert_eq!(kinds(&[WarnOk::Changed]), [WarningKind::Changed]);
        assert_eq!(kinds(&[WarnOk::Links]), [WarningKind::DanglingLinks]);
        assert_eq!(
            kinds(&[WarnOk::Links, WarnOk::Changed]),
            [WarningKind::Changed, WarningKind::DanglingLinks]
        );
    }

    #[test]
    fn what_a_restore_needs_stands_beside_the_source() {
        let both = with_metadata(json!({"volume": ["v"]}), json!({"dtr": {"version": "2.7"}}));
        assert_eq!(both, json!({"volume": ["v"], "dtr": {"version": "2.7"}}));
        assert_eq!(with_metadata(json!({"stdin": {}}), serde_json::Value::Null), json!({"stdin": {}}));
    }
}
