//! MySQL and MariaDB: a script of all databases, with routines, events, triggers and accounts, by `mysqldump`.

use super::login::{in_shell, words};
use super::trial::{Counts, Load, Trial, once_started};
use super::{DatabaseMetadata, DatabaseOptions, Dialect, Server};
use crate::archive::whole::DumpFormat;
use crate::preset::steps::{Action, SealedArchive};

pub(super) const DIALECT: Dialect = Dialect {
    word: "mysql",
    images: &["mysql", "mariadb", "mysql-server", "percona-server"],
    product: |tool, said| match tool == MARIADB_DUMP || said.contains("MariaDB") {
        true => "MariaDB",
        false => "MySQL",
    },
    tools: &[MARIADB_DUMP, "mysqldump"],
    version: None,
    users: (&["MARIADB_ROOT_USER", "MYSQL_ROOT_USER"], Some("root")),
    passwords: &["MARIADB_ROOT_PASSWORD", "MYSQL_ROOT_PASSWORD"],
    series: (2, ""),
    file: None,
    dump,
    restore,
    not_in_it: &[
        "the server's settings: my.cnf",
        "one point in time for tables that are not InnoDB: they may change meanwhile",
    ],
};

const MARIADB_DUMP: &str = "mariadb-dump";

/// The variable from which its tools take a password.
const PASSWORD: &str = "MYSQL_PWD";

/// With comments, whatever a settings file in the container says: the last one is the end marker.
fn dump(options: &DatabaseOptions, server: &Server) -> (Vec<String>, DumpFormat) {
    let mut command =
        words([server.tool, "--single-transaction", "--routines", "--events", "--triggers", "--comments"]);
    command.extend(server.login.user_words("-u"));
    command.extend(match &options.database {
        None => words(["--flush-privileges", "--all-databases"]),
        Some(database) => words(["--databases", "--", database]),
    });
    (server.login.with_password_in(PASSWORD, command), DumpFormat::new(server.tool, is_script, is_end))
}

/// MariaDB's may begin with a command that older clients take for a comment.
fn is_script(head: &[u8]) -> bool {
    [&b"-- MySQL dump "[..], b"-- MariaDB dump ", b"/*M!999999\\- "]
        .iter()
        .any(|begin| head.starts_with(begin))
}

fn is_end(tail: &[u8], _: u64) -> bool {
    let mut lines = tail.rsplit(|byte| *byte == b'\n').filter(|line| !line.is_empty() && *line != b"\r");
    lines.next().is_some_and(|line| line.starts_with(b"-- Dump completed"))
}

fn restore(archive: &SealedArchive, metadata: &DatabaseMetadata) -> Vec<Action> {
    let login = metadata.login();
    let command = words([client(metadata)]).into_iter().chain(login.user_words("-u")).collect();
    let mut actions = vec![metadata.to_exec(archive, &login.with_password_in(PASSWORD, command))];
    if metadata.database.is_none() {
        actions.push(Action::Note(
            "# from then on its accounts and their passwords are those of the old server".into(),
        ));
    }
    actions
}

fn client(metadata: &DatabaseMetadata) -> &'static str {
    if metadata.tool == MARIADB_DUMP { "mariadb" } else { "mysql" }
}

/// Follows a dump in the same session: from then on the accounts are those of the old server, and nobody knows the
/// administrator's password.
const COUNT: &str = "
SET SESSION group_concat_max_len = 1073741824;
SET @q = (SELECT GROUP_CONCAT(CONCAT('SELECT COUNT(*) AS c FROM `', REPLACE(table_schema, '`', '``'), '`.`',
  REPLACE(table_name, '`', '``'), '`') SEPARATOR ' UNION ALL ') FROM information_schema.tables
  WHERE table_type = 'BASE TABLE' AND table_schema NOT IN ('mysql', 'sys', 'information_schema', 'performance_schema'));
SET @q = IF(@q IS NULL, 'SELECT 0', CONCAT('SELECT SUM(c) FROM (', @q, ') AS t'));
SELECT COUNT(*) FROM information_schema.schemata
  WHERE schema_name NOT IN ('mysql', 'sys', 'information_schema', 'performance_schema');
SELECT COUNT(*) FROM information_schema.tables
  WHERE table_type = 'BASE TABLE' AND table_schema NOT IN ('mysql', 'sys', 'information_schema', 'performance_schema');
PREPARE rows_of_all FROM @q;
EXECUTE rows_of_all;
";

/// The client stops at the first error by itself.
pub(super) fn trial(metadata: &DatabaseMetadata, password: &str) -> Trial {
    let names = ["MARIADB_ROOT_PASSWORD", "MYSQL_ROOT_PASSWORD", PASSWORD];
    let load = "sql=$1; shift; { cat; printf '%s' \"$sql\"; } | \"$@\" >/tmp/counts";
    let client = [COUNT, client(metadata), "-u", "root", "-N", "-B"].map(String::from);
    Trial {
        word: DIALECT.word,
        env: names.map(|name| format!("{name}={password}")).into(),
        command: Vec::new(),
        load: Load::Command(in_shell(load, client.to_vec())),
        ready: once_started("mysqld|mariadbd", [&client[1..], &words(["-e", "SELECT 1"])].concat()),
        count: words(["tail", "-n", "3", "/tmp/counts"]),
        counts,
    }
}

pub(super) fn counts(said: &str) -> Option<Counts> {
    let numbers: Vec<u64> = said.lines().map(|line| line.trim().parse().ok()).collect::<Option<_>>()?;
    let [databases, tables, rows] = numbers[..] else { return None };
    Some(Counts { databases, tables: Some(tables), rows })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginnings_and_ends_of_both_are_known() {
        assert!(is_script(b"-- MySQL dump 10.13  Distrib 5.7.44, for Linux (x86_64)\n"));
        assert!(is_script(b"-- MariaDB dump 10.19  Distrib 10.11.14-MariaDB, for debian-linux-gnu"));
        assert!(is_script(b"/*M!999999\\- enable the sandbox mode */ \n-- MariaDB dump 10.19"));
        assert!(!is_script(b"mysqldump: Got error: 1045"));
        for end in
            ["-- Dump completed on 2026-11-27  7:00:00\n", "\n-- Dump completed\r\n", "x\n-- Dump completed"]
        {
            assert!(is_end(end.as_bytes(), 0), "{end}");
        }
    }

    #[test]
    fn what_breaks_off_has_no_end() {
        let all =
            "UNLOCK TABLES;\n/*!40111 SET SQL_NOTES=@OLD_SQL_NOTES */;\n\n-- Dump completed on 2026-11-27\n";
        let marker = all.find("-- Dump completed").unwrap() + "-- Dump completed".len();
        for len in 0..marker {
            assert!(!is_end(&all.as_bytes()[..len], 0), "{}", &all[..len]);
        }
        assert!(!is_end(b"-- Dump completed on 2026-11-27\nINSERT INTO t VALUES (1);\n", 0));
        assert!(!is_end(b"INSERT INTO t VALUES ('-- Dump completed');\n", 0));
    }
}
