//! PostgreSQL: a script for psql, of all databases and roles by `pg_dumpall`, or of one database by `pg_dump`.

use super::login::words;
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

fn restore(archive: &SealedArchive, metadata: &DatabaseMetadata) -> Vec<Action> {
    let login = metadata.login();
    let psql = |more: &[&str]| {
        let own = ["psql", "-X", "-q", "-w", "-d", "postgres"].iter().chain(more);
        let command = own.map(ToString::to_string).chain(login.user_words("-U")).collect();
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
            psql(&["-v", "ON_ERROR_STOP=1"]),
            Action::Note(
                "# it makes the database, which must not be there; roles that own things in it must".into(),
            ),
        ],
    }
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
