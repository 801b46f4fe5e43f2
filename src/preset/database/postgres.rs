//! PostgreSQL: a script for psql, of all databases and roles by `pg_dumpall`, or of one database by `pg_dump`.

use super::login::{in_shell, words};
use super::trial::{Counts, Load, Trial, once_started};
use super::{DatabaseMetadata, DatabaseOptions, Dialect, Server};
use crate::archive::whole::DumpFormat;
use crate::preset::steps::{Action, SealedArchive};

pub(super) const DIALECT: Dialect = Dialect {
    word: "postgres",
    images: &["postgres", "postgresql", "postgis", "timescaledb"],
    product: |_, _| "PostgreSQL",
    tools: &["pg_dumpall"],
    version: None,
    users: (&["POSTGRES_USER", "POSTGRESQL_USERNAME"], Some("postgres")),
    passwords: &["POSTGRES_PASSWORD", "POSTGRESQL_PASSWORD"],
    series: (1, " or newer"),
    file: None,
    dump,
    restore,
    not_in_it: &["the server's settings: postgresql.conf, pg_hba.conf"],
};

/// The variable from which its tools take a password.
const PASSWORD: &str = "PGPASSWORD";

/// Without a prompt (`-w`): nobody could answer it.
fn dump(options: &DatabaseOptions, server: &Server) -> (Vec<String>, DumpFormat) {
    let (mut command, format) = match &options.database {
        None => (words(["pg_dumpall", "-w"]), DumpFormat::new("pg_dumpall", is_script, is_end_of_all)),
        Some(database) => (
            words(["pg_dump", "-w", "--create", "-d", database]),
            DumpFormat::new("pg_dump", is_script, is_end_of_one),
        ),
    };
    command.extend(server.login.user_words("-U"));
    (server.login.with_password_in(PASSWORD, command), format)
}

fn is_script(head: &[u8]) -> bool {
    head.starts_with(b"--\n-- PostgreSQL database ")
}

fn is_end_of_all(tail: &[u8], _: u64) -> bool {
    ends_with(tail, b"-- PostgreSQL database cluster dump complete")
}

fn is_end_of_one(tail: &[u8], _: u64) -> bool {
    ends_with(tail, b"-- PostgreSQL database dump complete")
}

/// Whether nothing but the frame of that comment follows it, and `\unrestrict KEY`, which versions since August 2025 write.
fn ends_with(tail: &[u8], marker: &[u8]) -> bool {
    let is_frame = |line: &&[u8]| line.is_empty() || *line == b"--" || line.starts_with(b"\\unrestrict ");
    let mut lines = tail.rsplit(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    lines.find(|line| !is_frame(line)) == Some(marker)
}

/// What takes a dump.
fn psql(user: Vec<String>, more: &[&str]) -> Vec<String> {
    let own = ["psql", "-X", "-q", "-w", "-d", "postgres"].iter().chain(more);
    own.map(ToString::to_string).chain(user).collect()
}

/// Ends psql with the first error.
const STOP: [&str; 2] = ["-v", "ON_ERROR_STOP=1"];

fn restore(archive: &SealedArchive, metadata: &DatabaseMetadata) -> Vec<Action> {
    let login = metadata.login();
    let psql = |more: &[&str]| {
        let command = psql(login.user_words("-U"), more);
        metadata.to_exec(archive, &login.with_password_in(PASSWORD, command))
    };
    match &metadata.database {
        // It makes the role anew that runs it: one error is in order, so psql cannot be told to stop at the first.
        None => vec![
            psql(&[]),
            Action::Note(
                "# one error is in order: the role that restores exists already; look at any other".into(),
            ),
        ],
        Some(_) => vec![
            psql(&STOP),
            Action::Note(
                "# it makes the database, which must not be there; roles that own things in it must".into(),
            ),
        ],
    }
}

/// The administrator of a scratch server: no dump names him, so that every role of a dump can be made.
pub(super) const DRILL: &str = "sealift_drill";

/// Of one database, roles that own or may use something may be missing: they are not in its dump. Any other error counts.
const BUT_ROLES: &str = "\"$@\" >/dev/null 2>/tmp/errors; code=$?; cat /tmp/errors >&2; [ $code = 0 ] || exit $code; \
    ! grep ERROR: /tmp/errors | grep -qv 'role .* does not exist'";

/// Prints `database` for each that was loaded, and below it how many rows each of its tables has.
const COUNT: &str = r#"psql -X -q -A -t -w -d postgres -v ON_ERROR_STOP=1 -c "SELECT datname FROM pg_database
WHERE NOT datistemplate AND datallowconn AND datname <> 'sealift_drill' ORDER BY 1" >/tmp/databases || exit 1
while IFS= read -r name; do
  echo database
  PGDATABASE="$name" psql -X -q -A -t -w -v ON_ERROR_STOP=1 <<'END' || exit 1
SELECT format('SELECT count(*) FROM ONLY %I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n
ON n.oid = c.relnamespace WHERE c.relkind = 'r' AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' \gexec
END
done </tmp/databases"#;

/// The variables from which the tools in the container take who asks are its own.
pub(super) fn trial(metadata: &DatabaseMetadata, password: &str) -> Trial {
    let all = metadata.database.is_none();
    let user = metadata.user.as_deref().filter(|_| !all).unwrap_or(DRILL);
    let words = |more: &[&str]| psql(["-U", user].map(String::from).into(), more);
    let load = match all {
        true => in_shell("exec \"$@\" >/dev/null", words(&STOP)),
        false => in_shell(BUT_ROLES, words(&[])),
    };
    let env = ["POSTGRES_USER", "POSTGRESQL_USERNAME", "PGUSER"].map(|name| format!("{name}={user}"));
    let secret =
        ["POSTGRES_PASSWORD", "POSTGRESQL_PASSWORD", PASSWORD].map(|name| format!("{name}={password}"));
    Trial {
        word: DIALECT.word,
        env: env.into_iter().chain(secret).collect(),
        command: Vec::new(),
        load: Load::Command(load),
        ready: once_started("postgres", super::login::words(["pg_isready", "-q", "-U", user])),
        count: in_shell(COUNT, Vec::new()),
        counts,
    }
}

pub(super) fn counts(said: &str) -> Option<Counts> {
    let mut counts = Counts { tables: Some(0), ..Counts::default() };
    for line in said.lines() {
        match line {
            "database" => counts.databases += 1,
            rows => {
                counts.rows += rows.parse::<u64>().ok()?;
                counts.tables = counts.tables.map(|tables| tables + 1);
            }
        }
    }
    Some(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As pg_dumpall and pg_dump 15.18 write them, and as those before August 2025 did.
    const ALL: &str = "--\n-- PostgreSQL database dump complete\n--\n\n\\unrestrict TkVS\n\n\
        --\n-- PostgreSQL database cluster dump complete\n--\n\n";
    const ONE: &str = "--\n-- PostgreSQL database dump complete\n--\n\n\\unrestrict Fpsh\n\n";
    const OLD: &str = "--\n-- PostgreSQL database dump complete\n--\n\n";

    #[test]
    fn the_end_of_every_version_is_known() {
        assert!(is_end_of_all(ALL.as_bytes(), 0));
        assert!(is_end_of_one(ONE.as_bytes(), 0) && is_end_of_one(OLD.as_bytes(), 0));
        assert!(is_end_of_one(OLD.replace('\n', "\r\n").as_bytes(), 0));
        assert!(is_script(b"--\n-- PostgreSQL database cluster dump\n--\n\n\\restrict Tk"));
    }

    #[test]
    fn what_breaks_off_has_no_end() {
        // Whatever is cut from it, but for the frame of the last comment.
        let marker = ALL.find("-- PostgreSQL database cluster dump complete").unwrap() + 44;
        for len in 0..marker {
            assert!(!is_end_of_all(&ALL.as_bytes()[..len], 0), "{}", &ALL[..len]);
        }
        assert!(!is_end_of_all(ONE.as_bytes(), 0), "the end of one database is not that of all");
        assert!(!is_end_of_one(ALL.as_bytes(), 0));
        assert!(!is_end_of_one([ONE, "INSERT INTO t VALUES (1);\n"].concat().as_bytes(), 0));
        assert!(!is_script(b"pg_dumpall: error: connection to server failed"));
    }
}
