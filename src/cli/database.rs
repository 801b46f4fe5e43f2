//! The words of the databases' presets: `backup postgres` and its like.

use clap::{Args, Subcommand};

use super::BackupOptions;
use crate::job::Subject;
use crate::preset::{self, DatabaseKind, Preset};

/// The databases of `backup`.
#[derive(Debug, Subcommand)]
pub enum DatabaseBackup {
    /// All databases of a PostgreSQL server in a container
    #[command(after_help = POSTGRES_HELP)]
    Postgres {
        #[command(flatten)]
        options: Box<BackupOptions>,
        #[command(flatten)]
        database: DatabaseOptions,
    },
    /// All databases of a MySQL or MariaDB server in a container
    #[command(after_help = MYSQL_HELP)]
    Mysql {
        #[command(flatten)]
        options: Box<BackupOptions>,
        #[command(flatten)]
        database: DatabaseOptions,
    },
    /// All databases of a MongoDB server in a container
    #[command(after_help = MONGO_HELP)]
    Mongo {
        #[command(flatten)]
        options: Box<BackupOptions>,
        #[command(flatten)]
        database: DatabaseOptions,
    },
    /// All keys of a Redis or Valkey server in a container
    #[command(after_help = REDIS_HELP)]
    Redis {
        #[command(flatten)]
        options: Box<BackupOptions>,
        #[command(flatten)]
        server: ServerOptions,
    },
}

impl DatabaseBackup {
    /// What to back up, and the options that say how.
    pub(super) fn subject(self) -> (Subject, Box<BackupOptions>) {
        let (preset, options) = match self {
            DatabaseBackup::Postgres { options, database } => {
                (database.preset(DatabaseKind::Postgres), options)
            }
            DatabaseBackup::Mysql { options, database } => (database.preset(DatabaseKind::Mysql), options),
            DatabaseBackup::Mongo { options, database } => (database.preset(DatabaseKind::Mongo), options),
            DatabaseBackup::Redis { options, server } => (server.preset(DatabaseKind::Redis), options),
        };
        (Subject::Preset(Preset::Database(preset)), options)
    }
}

/// `backup postgres`, `backup mysql`, `backup mongo`
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Database")]
pub struct DatabaseOptions {
    #[command(flatten)]
    server: ServerOptions,
    /// One database only
    #[arg(long, value_name = "NAME")]
    database: Option<String>,
}

/// A server in a container.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Database")]
pub struct ServerOptions {
    /// Who dumps it
    ///
    /// Otherwise the administrator that the container's environment names.
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// The container of the server
    container: String,
}

impl DatabaseOptions {
    /// The preset that they mean.
    fn preset(self, kind: DatabaseKind) -> preset::DatabaseOptions {
        preset::DatabaseOptions { database: self.database, ..self.server.preset(kind) }
    }
}

impl ServerOptions {
    /// The preset that they mean.
    fn preset(self, kind: DatabaseKind) -> preset::DatabaseOptions {
        preset::DatabaseOptions { user: self.user, ..preset::DatabaseOptions::new(kind, self.container) }
    }
}

const POSTGRES_HELP: &str = "\
Runs pg_dumpall in the container (pg_dump with --database), as POSTGRES_USER or postgres; a password is taken from
POSTGRES_PASSWORD or POSTGRES_PASSWORD_FILE there, and never leaves it. Nothing is committed unless the dump has the end
marker of its tool. `sealift show JOB` prints the line that restores it.

Examples:
  sealift backup postgres --to s3://backups/prod db
  sealift backup postgres --database shop --to s3://backups/prod db";

const MYSQL_HELP: &str = "\
Runs mariadb-dump or mysqldump in the container, as root: all databases in one transaction, with routines, events,
triggers and accounts. A password is taken from MARIADB_ROOT_PASSWORD or MYSQL_ROOT_PASSWORD there (or …_FILE), and never
leaves it. Nothing is committed unless the dump has the end marker of its tool. `sealift show JOB` prints the line that
restores it.

Examples:
  sealift backup mysql --to s3://backups/prod shop-db
  sealift backup mysql --database shop --to s3://backups/prod shop-db";

const MONGO_HELP: &str = "\
Runs mongodump --archive in the container, as MONGO_INITDB_ROOT_USERNAME where that is set; the password is taken from
MONGO_INITDB_ROOT_PASSWORD there (or …_FILE), and never leaves it (mongodump 100.3 or newer reads it from --config). Nothing
is committed unless the archive ends as its format has it. `sealift show JOB` prints the line that restores it.

Example:
  sealift backup mongo --to s3://backups/prod mongo";

const REDIS_HELP: &str = "\
Runs redis-cli --rdb (or valkey-cli) in the container: a snapshot as a replica gets it. A password is taken from
REDISCLI_AUTH or REDIS_PASSWORD there (or …_FILE), and never leaves it. Nothing is committed unless the snapshot has its
end and its checksum. It is restored as a file that the server reads when it starts: `sealift show JOB` prints the steps.

Example:
  sealift backup redis --to s3://backups/prod cache";

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        options: DatabaseOptions,
    }

    #[test]
    fn every_option_of_a_database_arrives() {
        let parse = |line: &str| Line::try_parse_from(line.split(' ')).unwrap().options;
        let found = parse("x --user u --database d db").preset(DatabaseKind::Postgres);
        assert_eq!((found.user.as_deref(), found.database.as_deref()), (Some("u"), Some("d")));
        assert_eq!((found.container.as_str(), found.kind), ("db", DatabaseKind::Postgres));
        let found = parse("x db").preset(DatabaseKind::Postgres);
        assert_eq!((found.user, found.database), (None, None));
        assert!(Line::try_parse_from(["x"]).is_err());
    }
}
