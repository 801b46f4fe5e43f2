//! The words of `drill`: which archives, and what is tried.

use std::time::Duration;

use clap::Args;

use super::verify::which;
use super::{OpenOptions, age, share};
use crate::error::Result;
use crate::job::drill::{DrillRequest, Expected, OwnCheck};
use crate::job::stored::ArchiveRef;

/// What files may be tried as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum TriedAs {
    /// A registry's, which is served.
    Registry,
    /// Files, and nothing more.
    Files,
}

/// `drill`
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct Drill {
    /// JOB (its newest archive), or JOB@ID
    ///
    /// As verify takes them.
    #[arg(value_name = "ARCHIVE", conflicts_with_all = ["all", "set"])]
    archives: Vec<ArchiveRef>,
    /// The newest archive of every job
    #[arg(long, conflicts_with = "set")]
    all: bool,
    /// The archives of a set's newest run, or of NAME@ID
    #[arg(long, value_name = "NAME")]
    set: Option<String>,
    #[command(flatten)]
    open: OpenOptions,
    /// Of each job one archive by chance, not older: 90d
    #[arg(long, value_name = "TIME", value_parser = age, conflicts_with = "set")]
    random: Option<Duration>,
    /// Files whose contents are compared
    #[arg(long = "sample", value_name = "N", default_value = "100")]
    files_compared: usize,
    /// Tags of a registry that are pulled
    #[arg(long, value_name = "N", default_value = "20")]
    tags: usize,
    /// What files are tried as; otherwise found out
    #[arg(long = "as", value_name = "WHAT")]
    tried_as: Option<TriedAs>,
    /// The image that serves a registry's files
    ///
    /// Otherwise that of the container which uses the volume now, or registry:2.
    #[arg(long, value_name = "IMAGE")]
    registry_image: Option<String>,
    /// A shell command of your own that tries it
    ///
    /// Exit code 0 passes. It runs in a container of --check-image without any network; restored files lie in /data, read-only,
    /// what is no tar comes on its standard input.
    #[arg(long, value_name = "COMMAND", requires = "check_image")]
    check: Option<String>,
    /// The image that --check runs in; it needs `sh`
    #[arg(long, value_name = "IMAGE", requires = "check")]
    check_image: Option<String>,
    /// So many tables a database must have
    #[arg(long, value_name = "N")]
    expect_tables: Option<u64>,
    /// So many rows, or keys, at least; otherwise one
    #[arg(long, value_name = "N")]
    min_rows: Option<u64>,
    /// So much less than at the last drill there may be
    ///
    /// Of databases, tables and rows; otherwise no database and no table less, and half of the rows.
    #[arg(long = "shrink", value_name = "SHARE", value_parser = share)]
    shrunk_by: Option<f64>,
    /// Leave everything as it is, for looking at
    #[arg(long = "keep")]
    keep_scratch: bool,
    /// Write no drill record to the store
    #[arg(long)]
    no_record: bool,
}

impl Drill {
    /// What to try.
    ///
    /// # Errors
    /// No archive is named.
    pub fn request(self) -> Result<DrillRequest> {
        Ok(DrillRequest {
            which: which(self.archives, self.all, self.set)?,
            random: self.random,
            sample: self.files_compared,
            tags: self.tags,
            as_registry: self.tried_as.map(|tried| tried == TriedAs::Registry),
            registry_image: self.registry_image,
            check: self.check.zip(self.check_image).map(|(command, image)| OwnCheck { command, image }),
            expected: Expected {
                tables: self.expect_tables,
                min_rows: self.min_rows,
                shrink: self.shrunk_by,
            },
            keep: self.keep_scratch,
            record: !self.no_record,
            open: self.open.request()?,
        })
    }
}

const HELP: &str = "\
Restores an archive by the same code as `restore`, into volumes and containers of its own whose names begin with
sealift-drill-, tries it, and removes them, whatever happens. Nothing else is written at the engine; servers have no
network. What a killed drill has left the next one removes, as `clean --docker` does. What is tried:
  files      every member against the catalog: type, mode, owner, size, time, links; and the contents of some
  registry   where docker/registry/v2 is among them: it is served, random tags are pulled by digest, and every blob
             is held against its digest
  databases  a dump of postgres, mysql and redis is loaded into a fresh server of the image that it came from, which
             stops at the first error; databases, tables and rows are counted, and compared with the last drill
  the rest   --check; without it everything is read as a restore would (`read`): so are swarm, UCP and the metadata
             of DTR, which their products' own tools alone bring back, on hosts of their own

How it ended is recorded beside the archive, with counts and how long the restore took; `status --drilled-within 30d`
tells jobs without a passed drill. A failed one is recorded, too, unless it says nothing of the archive: no engine, no
image, no room. It needs as much room on the engine's disk as the archive has bytes, an engine on this host where the
archive is of no volume, and images that are there: nothing is pulled.

Exit code: 0 passed, 1 failed, 13 damaged.

Examples:
  sealift drill db --from s3://backups/prod --passphrase-file /etc/sealift.pass
  sealift drill registry --random 90d --tags 50 --registry-image registry:2 --from s3://backups/prod
  sealift drill --all --from s3://backups/prod
  sealift drill db --expect-tables 120 --min-rows 1000000 --from s3://backups/prod
  sealift drill etc --check 'test -s /data/etc/passwd' --check-image busybox --from s3://backups/prod";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Verb};
    use clap::Parser;

    fn drill(line: &str) -> Result<DrillRequest> {
        let line = format!("sealift drill --from memory:///x {line}");
        match Cli::try_parse_from(line.split_whitespace()).unwrap().verb {
            Verb::Drill(drill) => drill.request(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_tried_is_said_or_found_out() {
        let request = drill("db").unwrap();
        assert_eq!((request.sample, request.tags, request.as_registry), (100, 20, None));
        assert!(request.record && !request.keep && request.check.is_none());
        assert_eq!(drill("db --as registry").unwrap().as_registry, Some(true));
        assert_eq!(drill("db --as files").unwrap().as_registry, Some(false));
        assert_eq!(drill("db --shrink 20%").unwrap().expected.shrink, Some(0.2));
        assert_eq!(drill("db --random 90d").unwrap().random, Some(Duration::from_secs(90 * 86_400)));
        assert_eq!(drill("").unwrap_err().to_string(), "no archive is named");
    }

    #[test]
    fn a_check_has_its_image_and_a_set_no_chance() {
        for line in
            ["db --check true", "db --check-image bb", "--set x --random 9d", "--all --set x", "db --all"]
        {
            let line = format!("sealift drill --from memory:///x {line}");
            assert!(Cli::try_parse_from(line.split_whitespace()).is_err(), "{line}");
        }
    }
}
