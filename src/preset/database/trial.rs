//! How a dump is tried: in a fresh server of its kind, which nobody reaches, and whose databases, tables and rows are counted.

use super::login::in_shell;
use super::{DatabaseKind, DatabaseMetadata, mysql, postgres, redis};

/// What a fresh server is given, and asked.
#[derive(Debug, Clone)]
pub struct Trial {
    /// `postgres`
    pub word: &'static str,
    /// Variables of its container.
    pub env: Vec<String>,
    /// Its command; none: the image's own.
    pub command: Vec<String>,
    /// How the dump gets there.
    pub load: Load,
    /// What ends with 0 when it is ready.
    pub ready: Vec<String>,
    /// What prints the counts.
    pub count: Vec<String>,
    /// Reads them.
    pub counts: fn(&str) -> Option<Counts>,
}

/// How a dump gets into a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Load {
    /// This command takes it, and ends with another code than 0 where it fails.
    Command(Vec<String>),
    /// It lies in this folder under this name when the server starts.
    File(String, String),
}

/// What a server has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Databases.
    pub databases: u64,
    /// Tables; none where the product has none.
    pub tables: Option<u64>,
    /// Rows of them, or keys.
    pub rows: u64,
}

impl DatabaseMetadata {
    /// How its dump is tried, in a server whose administrator has this password; none where that is not known.
    pub fn trial(&self, password: &str) -> Option<Trial> {
        match self.kind? {
            DatabaseKind::Postgres => Some(postgres::trial(self, password)),
            DatabaseKind::Mysql => Some(mysql::trial(self, password)),
            DatabaseKind::Redis => Some(redis::trial(self)),
            DatabaseKind::Mongo => None,
        }
    }
}

/// `command`, but not before the server itself is the container's first process: while an image sets itself up, another one
/// may answer.
pub(super) fn once_started(programs: &str, command: Vec<String>) -> Vec<String> {
    let script =
        format!("read -r first </proc/1/comm; case $first in {programs}) exec \"$@\" ;; esac; exit 1");
    in_shell(&script, command)
}

#[cfg(test)]
mod tests {
    use super::super::restore::POSTGRES;
    use super::*;
    use crate::preset::Metadata;

    fn metadata(text: &str) -> DatabaseMetadata {
        match Metadata::of(&serde_json::from_str(text).unwrap()) {
            Some(Metadata::Database(database)) => database,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_cluster_is_loaded_by_somebody_whom_it_does_not_name_and_stops_at_the_first_error() {
        let trial = metadata(POSTGRES).trial("secret").unwrap();
        let Load::Command(load) = &trial.load else { panic!("{trial:?}") };
        assert!(load.ends_with(&["-U".into(), postgres::DRILL.into()]), "{load:?}");
        assert!(load.iter().any(|word| word == "ON_ERROR_STOP=1"), "{load:?}");
        assert!(trial.env.contains(&format!("POSTGRES_USER={}", postgres::DRILL)));
        assert!(load.iter().chain(&trial.count).chain(&trial.ready).all(|word| !word.contains("secret")));
    }

    #[test]
    fn what_no_server_can_be_started_for_is_not_tried() {
        for kind in ["mongo", "cassandra"] {
            let text = format!(r#"{{"database": {{"kind": "{kind}"}}}}"#);
            assert!(metadata(&text).trial("x").is_none(), "{kind}");
        }
    }

    #[test]
    fn counts_are_read_and_what_is_none_is_not_believed() {
        let counts = |databases, tables, rows| Some(Counts { databases, tables, rows });
        assert_eq!((postgres::counts)("database\n3\n20000\ndatabase\n"), counts(2, Some(2), 20_003));
        assert_eq!((postgres::counts)("database\npsql: error"), None);
        assert_eq!((mysql::counts)("1\n2\n30\n"), counts(1, Some(2), 30));
        assert_eq!((mysql::counts)("1\n2\n"), None);
        let redis = "# Keyspace\r\ndb0:keys=10000,expires=0,avg_ttl=0\r\ndb3:keys=2,expires=1,avg_ttl=5\r\n";
        assert_eq!((redis::counts)(redis), counts(2, None, 10_002));
        assert_eq!((redis::counts)("# Keyspace\r\n"), counts(0, None, 0));
        assert_eq!((redis::counts)("LOADING Redis is loading the dataset in memory"), None);
    }
}
