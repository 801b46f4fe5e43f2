//! What an archive says of the database that it is a dump of, and how that is brought back.

use serde::{Deserialize, Serialize};

use super::DatabaseKind;
use super::login::Login;
use crate::preset::metadata::lenient;
use crate::preset::steps::{Action, SealedArchive, Step, quoted};

/// What a restore must know of a database.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DatabaseMetadata {
    /// Which database.
    #[serde(deserialize_with = "lenient")]
    pub kind: Option<DatabaseKind>,
    /// What it is called: `PostgreSQL`.
    #[serde(deserialize_with = "lenient")]
    pub product: String,
    /// Its version.
    #[serde(deserialize_with = "lenient")]
    pub version: String,
    /// The container of its server.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "String::is_empty")]
    pub container: String,
    /// The file in which the server reads a dump when it starts, where no tool takes it.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "String::is_empty")]
    pub file: String,
    /// That container's image.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "String::is_empty")]
    pub image: String,
    /// The tool that wrote the dump.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "String::is_empty")]
    pub tool: String,
    /// Who dumped it.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The variable of the container that has the password, or names the file that has it.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// The one database that was dumped; none: all.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
}

impl DatabaseMetadata {
    /// What of it anybody may read: not where the server is, nor who asks it.
    pub(in crate::preset) fn public(self) -> Self {
        let DatabaseMetadata { kind, product, version, .. } = self;
        DatabaseMetadata { kind, product, version, ..DatabaseMetadata::default() }
    }

    pub(super) fn login(&self) -> Login {
        Login { user: self.user.clone(), password: self.password.clone() }
    }

    /// Hands the dump to a command in the container.
    pub(super) fn to_exec(&self, archive: &SealedArchive, command: &[String]) -> Action {
        let to = ["--to-exec", &self.container].into_iter();
        archive.restore(&to.chain(command.iter().map(String::as_str)).collect::<Vec<_>>())
    }

    /// As much of the version as tells whether a server reads the dump.
    fn series(&self, numbers: usize) -> String {
        // PostgreSQL counted in tenths before 10.
        let numbers = if self.version.starts_with("9.") { 2 } else { numbers };
        self.version.split('.').take(numbers).collect::<Vec<_>>().join(".")
    }
}

/// `PostgreSQL 15.18`, or the product alone where nothing said its version.
pub(super) fn versioned(product: &str, version: &str) -> String {
    format!("{product} {version}").trim_end().into()
}

/// A database is restored into a server of its own kind that has nothing of it yet.
pub(in crate::preset) fn restore_steps(archive: &SealedArchive, metadata: &DatabaseMetadata) -> Step {
    let DatabaseMetadata { product, version, container, .. } = metadata;
    let Some(dialect) = metadata.kind.map(DatabaseKind::dialect) else {
        let file = quoted(&format!("{}.dump", archive.file_name()));
        let title =
            format!("{}: a dump of {product} {version}, which this version does not know", archive.job);
        let actions = vec![archive.restore_by_hand(format!("--to-stdout > {file}"))];
        return Step { title, on_condition: true, actions };
    };
    let (numbers, others) = dialect.series;
    let series = metadata.series(numbers);
    let of = if series.is_empty() { String::new() } else { format!(", of {series}{others}") };
    let title = format!("{}, container {container}: into an empty server{of}", versioned(product, version));
    Step { title, on_condition: true, actions: (dialect.restore)(archive, metadata) }
}

/// As format 1 writes them.
#[cfg(test)]
pub(in crate::preset) const POSTGRES: &str = r#"{"database":{"container":"db","image":"postgres:15","kind":"postgres","password":"POSTGRES_PASSWORD","product":"PostgreSQL","tool":"pg_dumpall","user":"app","version":"15.18"}}"#;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preset::Metadata;
    use serde_json::{Value, json};

    fn read(text: &str) -> DatabaseMetadata {
        match Metadata::of(&serde_json::from_str(text).unwrap()) {
            Some(Metadata::Database(database)) => database,
            other => panic!("{other:?}"),
        }
    }

    fn archive() -> SealedArchive {
        SealedArchive { name: "db@id".into(), job: "db".into(), source: Value::Null, is_clear: false }
    }

    /// The title, and what is to be done, a line each.
    fn lines(metadata: &DatabaseMetadata) -> Vec<String> {
        let Step { title, actions, .. } = restore_steps(&archive(), metadata);
        let line = |action: Action| match action {
            Action::Restore { archive, to, .. } => format!("RESTORE {archive} {to}"),
            other => other.line("unused"),
        };
        [title].into_iter().chain(actions.into_iter().map(line)).collect()
    }

    #[test]
    fn what_was_written_is_read() {
        assert_eq!(Metadata::Database(read(POSTGRES)).to_json().to_string(), POSTGRES);
    }

    #[test]
    fn what_is_missing_or_of_another_kind_is_as_good_as_not_said() {
        let other =
            r#"{"database": {"kind": "cassandra", "version": 5, "product": "Cassandra", "user": []}}"#;
        let expected = DatabaseMetadata { product: "Cassandra".into(), ..DatabaseMetadata::default() };
        assert_eq!(read(other), expected);
        assert_eq!(lines(&expected)[1..], ["RESTORE db@id --to-stdout > db.dump"], "bytes can always be had");
    }

    #[test]
    fn a_cluster_goes_back_by_psql_with_the_containers_own_password() {
        assert_eq!(
            lines(&read(POSTGRES)),
            [
                "PostgreSQL 15.18, container db: into an empty server, of 15 or newer",
                "RESTORE db@id --to-exec db sh -c 'export PGPASSWORD=\"$POSTGRES_PASSWORD\"; exec \"$@\"' sh \
                 psql -X -q -w -d postgres -U app",
                "# one error is in order: the role that restores exists already; look at any other",
            ]
        );
    }

    #[test]
    fn what_is_of_no_known_version_is_restored_all_the_same() {
        let metadata = DatabaseMetadata { version: String::new(), ..read(POSTGRES) };
        assert_eq!(lines(&metadata)[0], "PostgreSQL, container db: into an empty server");
    }

    #[test]
    fn what_only_its_own_series_reads_says_so() {
        let text = r#"{"database": {"kind": "mysql", "product": "MariaDB", "version": "10.11.14-MariaDB",
            "container": "db", "tool": "mariadb-dump", "user": "root"}}"#;
        assert_eq!(
            lines(&read(text)),
            [
                "MariaDB 10.11.14-MariaDB, container db: into an empty server, of 10.11",
                "RESTORE db@id --to-exec db mariadb -u root",
                "# from then on its accounts and their passwords are those of the old server",
            ]
        );
    }

    #[test]
    fn a_snapshot_of_redis_is_put_where_the_server_reads_it() {
        let text =
            r#"{"database": {"kind": "redis", "product": "Redis", "version": "7.0.15", "container": "c"}}"#;
        let found = lines(&read(text));
        assert_eq!(found[0], "Redis 7.0.15, container c: into an empty server, of 7 or newer");
        let commands: Vec<_> = found[1..].iter().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            commands,
            [
                "RESTORE db@id --to-stdout > db.rdb",
                "docker stop c",
                "docker cp db.rdb c:/data/dump.rdb",
                "docker start c"
            ]
        );
        let metadata = DatabaseMetadata { file: "/snap shots/all.rdb".into(), ..read(text) };
        assert_eq!(lines(&metadata)[3], "docker cp db.rdb c:'/snap shots/all.rdb'");
    }

    #[test]
    fn one_database_stops_at_the_first_error() {
        let metadata =
            DatabaseMetadata { database: Some("my shop".into()), password: None, ..read(POSTGRES) };
        let line = "RESTORE db@id --to-exec db psql -X -q -w -d postgres -v ON_ERROR_STOP=1 -U app";
        assert_eq!(lines(&metadata)[1], line);
    }

    #[test]
    fn a_server_of_the_same_series_or_a_newer_one_takes_a_dump() {
        let series = |version: &str, numbers| {
            DatabaseMetadata { version: version.into(), ..DatabaseMetadata::default() }.series(numbers)
        };
        assert_eq!((series("15.18", 1), series("9.6.24", 1)), ("15".into(), "9.6".into()));
        assert_eq!((series("10.11.14-MariaDB", 2), series("8", 2)), ("10.11".into(), "8".into()));
    }

    #[test]
    fn anybody_may_read_which_database_it_is_and_nothing_more() {
        let public = Metadata::Database(read(POSTGRES)).public().to_json();
        let expected = json!({"database": {"kind": "postgres", "product": "PostgreSQL", "version": "15.18"}});
        assert_eq!(public, expected);
    }
}
