//! The words of the verbs that read: which archive, from where, and what to do with it.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use super::{PassphraseOptions, StoreAt, job_name, rate};
use crate::error::{Error, Result};
use crate::host::passphrase::Sources;
use crate::job::adopt::AdoptRequest;
use crate::job::cat::CatRequest;
use crate::job::copy::CopyRequest;
use crate::job::diff::{DiffRequest, DiffTarget};
use crate::job::list::ListRequest;
use crate::job::ls::LsRequest;
use crate::job::show::ShowRequest;
use crate::job::stored::{ArchiveRef, OpenRequest};
use crate::store::rate::{RateLimiter, Timetable};
use crate::store::{StoreOptions, StoreUrl};

/// Which archive, and where it is.
#[derive(Debug, Args)]
pub struct ArchiveOptions {
    /// JOB (its newest archive), or JOB@ID
    ///
    /// An id's beginning will do, as in JOB@20261122T02; JOB@2026-11-22 is a day's last, JOB@latest the newest.
    #[arg(value_name = "ARCHIVE")]
    pub archive: ArchiveRef,
    #[command(flatten)]
    pub open: OpenOptions,
}

/// Where archives are, and what opens them.
#[derive(Debug, Args)]
pub struct OpenOptions {
    #[command(flatten)]
    pub from: FromStore,
    #[command(flatten)]
    pub passphrase: PassphraseOptions,
    /// Accept an archive that was stored in the clear
    ///
    /// Whoever can write to the store can have made it.
    #[arg(long, conflicts_with_all = ["passphrase_file", "passphrase_command"])]
    pub no_encrypt: bool,
    /// Bytes a second from the store, or a timetable
    ///
    /// As in 10MiB, on average: a request itself goes as fast as it can. A timetable is in local time: "08:00,2MiB 19:00,off" is
    /// 2 MiB a second by day and no limit by night, Mon-08:00 is one day alone. off: no limit, whatever the settings say
    #[arg(long, value_name = "RATE", value_parser = rate)]
    pub limit_rate: Option<Timetable>,
}

/// Where to read.
#[derive(Debug, Args)]
pub struct FromStore {
    /// Store to read from: URL, or name in the settings
    #[arg(long, env = "SEALIFT_STORE", value_name = "STORE", required = true)]
    pub from: Option<StoreAt>,
    /// Certificates of your own authorities, in PEM, for the store's TLS
    ///
    /// Otherwise AWS_CA_BUNDLE, and SSL_CERT_FILE in place of the system's.
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
}

impl OpenOptions {
    /// The same, as the work takes it.
    ///
    /// # Errors
    /// Options of the store that mean nothing without another.
    pub fn request(&self) -> Result<OpenRequest> {
        Ok(OpenRequest {
            store: read_at(self.limit_rate.as_ref(), self.from.request()?),
            passphrase: self.passphrase.sources(),
            no_encrypt: self.no_encrypt,
        })
    }
}

impl OpenOptions {
    /// The same for what comes from standard input: no store is asked, and no passphrase comes from there too.
    pub fn without_store(&self) -> OpenRequest {
        let passphrase = Sources { stdin_is_data: true, ..self.passphrase.sources() };
        OpenRequest { store: StoreUrl::new("memory:///"), passphrase, no_encrypt: self.no_encrypt }
    }
}

impl FromStore {
    /// The same, as the work takes it.
    ///
    /// # Errors
    /// Options of the store that mean nothing without another.
    pub fn request(&self) -> Result<StoreUrl> {
        let Some(from) = &self.from else {
            return Err(Error::usage("no store is named").hint("say --from STORE, or set SEALIFT_STORE"));
        };
        let StoreUrl { url, options } = store_url(from)?;
        let ca_file = self.ca_file.clone().or(options.ca_file);
        Ok(StoreUrl { url, options: StoreOptions { ca_file, ..options } })
    }
}

/// A store, read at a rate.
fn read_at(rate: Option<&Timetable>, mut store: StoreUrl) -> StoreUrl {
    store.options.read_limit = rate.cloned().map(|rate| Arc::new(RateLimiter::new(Some(rate))));
    store
}

fn store_url(store: &StoreAt) -> Result<StoreUrl> {
    Ok(StoreUrl { url: store.as_str().into(), options: store.options()? })
}

/// `ls`
#[derive(Debug, Args)]
#[command(
    after_help = "Reads the catalog alone.\n\nExamples:\n  sealift ls host --from s3://backups/prod\n  sealift ls host 'etc/*.conf' --long --from s3://backups/prod"
)]
pub struct Ls {
    #[command(flatten)]
    pub archive: ArchiveOptions,
    /// Members to list, and what is below them
    #[arg(value_name = "GLOB")]
    pub patterns: Vec<String>,
    /// Type, mode, owner, size and time too
    #[arg(long)]
    pub long: bool,
}

impl Ls {
    /// Whose members, and which of them.
    ///
    /// # Errors
    /// As [`OpenOptions::request`].
    pub fn request(self) -> Result<LsRequest> {
        let (open, archive) = (self.archive.open.request()?, self.archive.archive);
        Ok(LsRequest { open, archive, patterns: self.patterns })
    }
}

/// `cat`
#[derive(Debug, Args)]
#[command(
    after_help = "Fetches only the frames that hold the file.\n\nExample:\n  sealift cat host etc/fstab --from s3://backups/prod"
)]
pub struct Cat {
    #[command(flatten)]
    pub archive: ArchiveOptions,
    /// The member's name, as `ls` shows it
    #[arg(value_name = "PATH")]
    pub path: String,
}

impl Cat {
    /// Which file of which archive.
    ///
    /// # Errors
    /// As [`OpenOptions::request`].
    pub fn request(self) -> Result<CatRequest> {
        Ok(CatRequest { open: self.archive.open.request()?, archive: self.archive.archive, path: self.path })
    }
}

/// `show`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sealift show db --from s3://backups/prod")]
pub struct Show {
    #[command(flatten)]
    pub archive: ArchiveOptions,
}

impl Show {
    /// Which archive.
    ///
    /// # Errors
    /// As [`OpenOptions::request`].
    pub fn request(self) -> Result<ShowRequest> {
        Ok(ShowRequest { open: self.archive.open.request()?, archive: self.archive.archive })
    }
}

/// `copy`
#[derive(Debug, Args)]
#[command(
    after_help = "Needs no passphrase: stored bytes are copied, and held against the manifest's BLAKE3 on the way.\n\nExamples:\n  sealift copy db --from s3://backups/prod --to file:///mnt/nas --dry-run\n  sealift copy db --from s3://backups/prod --to file:///mnt/nas --limit-rate \"08:00,2MiB 19:00,off\""
)]
pub struct Copy {
    /// JOB (its newest archive), or JOB@ID
    ///
    /// An id's beginning will do, as in JOB@20261122T02; JOB@2026-11-22 is a day's last, JOB@latest the newest.
    #[arg(value_name = "ARCHIVE")]
    pub archive: ArchiveRef,
    #[command(flatten)]
    pub from: FromStore,
    /// Store to copy to: URL, or name in the settings
    ///
    /// `to` of the settings file is for backups alone.
    #[arg(long, value_name = "STORE")]
    pub to: StoreAt,
    /// Bytes a second from store to store, or a timetable
    ///
    /// As in 10MiB, on average: a part itself goes as fast as it can. A timetable is in local time: "08:00,2MiB 19:00,off" is
    /// 2 MiB a second by day and no limit by night, Mon-08:00 is one day alone
    #[arg(long, value_name = "RATE", value_parser = rate)]
    pub limit_rate: Option<Timetable>,
    /// Make the folder of a file:// store where its last part is missing
    #[arg(long)]
    pub make_store: bool,
    /// Copy nothing; tell which archives would be
    #[arg(short = 'n', long, conflicts_with = "make_store")]
    pub dry_run: bool,
}

impl Copy {
    /// What to copy, and where to.
    ///
    /// # Errors
    /// As [`OpenOptions::request`].
    pub fn request(self) -> Result<CopyRequest> {
        let from = read_at(self.limit_rate.as_ref(), self.from.request()?);
        let mut to = store_url(&self.to)?;
        to.options.ca_file = self.from.ca_file.or(to.options.ca_file);
        to.options.make_folder = self.make_store;
        let (archive, limit_rate, dry_run) = (self.archive, self.limit_rate, self.dry_run);
        Ok(CopyRequest { from, to, archive, limit_rate, dry_run })
    }
}

/// `adopt`
#[derive(Debug, Args)]
#[command(after_help = ADOPT_EXAMPLES)]
pub struct Adopt {
    /// JOB@ID, or JOB: what lies there of it; otherwise of every job
    #[arg(value_name = "ARCHIVE")]
    pub archive: Option<ArchiveRef>,
    #[command(flatten)]
    pub open: OpenOptions,
    /// Adopt every archive that is complete
    #[arg(long)]
    pub all: bool,
}

const ADOPT_EXAMPLES: &str = "\
A backup that ends with \"commit unknown\" leaves its archive and its catalog in the store. They are listed here, and are
adopted once the sealed catalog proves that every stored byte of the archive is there: the archive is read as a whole.
Without JOB@ID and without --all nothing is changed.

Examples:
  sealift adopt --from s3://backups/prod
  sealift adopt db@20261122T020000Z-1f2e3d4c --from s3://backups/prod --passphrase-file /etc/sealift.pass
  sealift adopt db --all --from s3://backups/prod --passphrase-file /etc/sealift.pass";

impl Adopt {
    /// What to adopt, and what opens it.
    ///
    /// # Errors
    /// As [`OpenOptions::request`].
    pub fn request(self) -> Result<AdoptRequest> {
        Ok(AdoptRequest { open: self.open.request()?, archive: self.archive, all: self.all })
    }
}

/// `diff`
#[derive(Debug, Args)]
#[command(
    after_help = DIFF_EXAMPLES,
    override_usage = "sealift diff [OPTIONS] --from <STORE> <ARCHIVE> <ARCHIVE> [GLOB]...\n       \
                      sealift diff [OPTIONS] --from <STORE> --path <DIR> <ARCHIVE> [GLOB]..."
)]
pub struct Diff {
    #[command(flatten)]
    pub archive: ArchiveOptions,
    /// Compare with this folder: metadata and contents
    ///
    /// As `restore --to-path DIR` would leave it.
    #[arg(long, value_name = "DIR", conflicts_with = "content")]
    pub path: Option<std::path::PathBuf>,
    /// Compare the contents of files of the same size too
    ///
    /// Reads the frames that hold them, of both archives.
    #[arg(long)]
    pub content: bool,
    /// The second archive (not with --path), and members
    #[arg(value_name = "ARCHIVE|GLOB")]
    words: Vec<String>,
}

const DIFF_EXAMPLES: &str = "\
Lines, sorted by name; each name and value with its control characters escaped:
  + NAME                     only in the second archive, or in the folder
  - NAME                     only in the first
  ~ NAME (size 10 → 12)      in both: type, mode, uid, gid, size, link, mtime or content differ
  ! NAME (reason)            not compared with the folder: the name leads outside of it
Two archives are compared by their catalogs alone, unless --content is given. Extended attributes and ACLs are not
compared. Which of a file's names is recorded as a hard link is up to tar; two archives are compared as recorded, in a
folder both names must be one file. Of sparse files size and metadata are compared.

A folder is never left: symlinks are read, not followed. What only the folder has is looked for in those folders that
the archive has too; so an archive of etc can be compared with the live system by --path /.

Exit code: 0 when they are the same, 1 when they differ. An `error:` says that they were not compared to the end.

Examples:
  sealift diff host@20261122T020000Z-1f2e3d4c host --from s3://backups/prod
  sealift diff host@20261122T020000Z-1f2e3d4c host 'etc/*' --content --from s3://backups/prod
  sealift diff registry --path /var/lib/docker/volumes --from s3://backups/prod";

impl Diff {
    /// What to compare with what, and which members.
    ///
    /// # Errors
    /// There is nothing to compare with.
    pub fn request(self) -> Result<DiffRequest> {
        let (target, patterns) = match (self.path, self.words.split_first()) {
            (Some(dir), _) => (DiffTarget::Folder(dir), self.words),
            (None, Some((second, globs))) => (DiffTarget::Archive(second.parse()?), globs.to_vec()),
            (None, None) => {
                return Err(Error::usage("there is nothing to compare with")
                    .hint("name a second archive, JOB@ID, or a folder: --path DIR"));
            }
        };
        let (open, archive) = (self.archive.open.request()?, self.archive.archive);
        Ok(DiffRequest { open, archive, target, patterns, content: self.content })
    }
}

/// `list`
#[derive(Debug, Args)]
#[command(after_help = LIST_HELP)]
pub struct List {
    /// Archives of these jobs only
    #[arg(value_name = "JOB", value_parser = job_name)]
    pub jobs: Vec<String>,
    #[command(flatten)]
    pub from: FromStore,
    /// The same as JOB
    #[arg(long, value_name = "NAME", value_parser = job_name, hide = true)]
    pub job: Vec<String>,
    /// Whole ids and dates, what each increment adds, kind, set
    #[arg(long, conflicts_with = "sets")]
    pub long: bool,
    /// Sets, and whether each is complete
    #[arg(long, conflicts_with_all = ["job", "jobs"])]
    pub sets: bool,
    /// Partial archives, too: the parts of long runs
    ///
    /// `backup --segment` makes them; later archives need them, or the next run builds on them.
    #[arg(long, conflicts_with = "sets")]
    pub partial: bool,
}

impl List {
    /// What to list, and where.
    ///
    /// # Errors
    /// As [`OpenOptions::request`].
    pub fn request(self) -> Result<ListRequest> {
        let jobs = [self.jobs, self.job].concat();
        Ok(ListRequest { store: self.from.request()?, jobs, partial: self.partial })
    }
}

const LIST_HELP: &str = "\
SIZE is what is restored, STORED what is paid for, VERIFIED the most thorough verification and its age: `whole` is all
that a restore reads, `own` an increment without what it needs of older archives. Behind that stands what is wrong, or to
be known: `2 warnings`, `increment`, `damaged`, `archive missing`, `pinned`.
In a terminal ids are cut to what tells them apart, which the other commands take (`JOB@20261122T020000Z`); in a pipe
nothing is cut.

Examples:
  sealift list --from s3://backups/prod
  sealift list db host --long --from s3://backups/prod
  sealift list --sets --from s3://backups/prod";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Verb};
    use crate::job::version::Version;
    use clap::Parser;

    fn parse(line: &str) -> Verb {
        Cli::try_parse_from(line.split(' ')).unwrap_or_else(|e| panic!("{line}: {e}")).verb
    }

    fn diff(line: &str) -> Result<DiffRequest> {
        match parse(&format!("sealift diff --from memory:///x {line}")) {
            Verb::Diff(diff) => diff.request(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_diff_has_a_second_side() {
        let request = diff("db@20261122T020000Z-1f2e3d4c db etc/* --content").unwrap();
        assert!(matches!(request.target, DiffTarget::Archive(second) if second.version == Version::Latest));
        assert_eq!((request.patterns.join(","), request.content), ("etc/*".into(), true));
        let request = diff("db --path /srv a b").unwrap();
        assert!(matches!(request.target, DiffTarget::Folder(dir) if dir == std::path::Path::new("/srv")));
        assert_eq!(request.patterns, ["a", "b"]);
        assert_eq!(diff("db").unwrap_err().kind().exit_code(), 2);
        assert_eq!(diff("db Not@one").unwrap_err().kind().exit_code(), 2);
    }

    #[test]
    fn the_other_verbs_become_requests() {
        let Verb::Ls(ls) = parse("sealift ls db a b --long --from memory:///x") else { panic!("no ls") };
        assert!(ls.long);
        assert_eq!(ls.request().unwrap().patterns, ["a", "b"]);
        let Verb::Cat(cat) = parse("sealift cat db etc/fstab --from memory:///x") else { panic!("no cat") };
        assert_eq!(cat.request().unwrap().path, "etc/fstab");
        let Verb::List(list) = parse("sealift list a --job db --from memory:///x") else { panic!("no list") };
        assert_eq!(list.request().unwrap().jobs, ["a", "db"]);
        let copy = "sealift copy db --from memory:///x --to memory:///y --limit-rate 1MiB/s";
        let Verb::Copy(copy) = parse(copy) else { panic!("no copy") };
        let request = copy.request().unwrap();
        assert_eq!((request.from.url.as_str(), request.to.url.as_str()), ("memory:///x", "memory:///y"));
        assert_eq!(request.limit_rate, Some(Timetable::always(Some(1 << 20))));
        assert!(request.from.options.read_limit.is_some() && request.to.options.read_limit.is_none());
    }
}
