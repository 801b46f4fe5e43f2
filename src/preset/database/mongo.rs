//! MongoDB: an archive of all databases by `mongodump --archive`.

use super::login::{Login, in_shell, words};
use super::{DatabaseMetadata, DatabaseOptions, Dialect, Server};
use crate::archive::whole::DumpFormat;
use crate::preset::steps::{Action, SealedArchive};

pub(super) const DIALECT: Dialect = Dialect {
    word: "mongo",
    images: &["mongo", "mongodb", "mongodb-community-server"],
    product: |_, _| "MongoDB",
    tools: &[DUMP],
    // The tools have versions of their own.
    version: Some("mongod"),
    users: (&["MONGO_INITDB_ROOT_USERNAME", "MONGODB_ROOT_USER"], None),
    passwords: &["MONGO_INITDB_ROOT_PASSWORD", "MONGODB_ROOT_PASSWORD"],
    series: (2, ""),
    file: None,
    dump,
    restore,
    not_in_it: &[
        "the server's settings: mongod.conf",
        "one point in time for all collections: they may change meanwhile (on a replica set, `backup exec` with \
         mongodump --archive --oplog has it)",
    ],
};

const DUMP: &str = "mongodump";

/// Its tools take a password from no variable, but from a settings file: a pipe here. The standard input stays theirs.
const WITH_SETTINGS: [&str; 2] = [
    "exec 3<&0; printf \"password: '%s'\\n\" \"$(printf %s ",
    " | sed \"s/'/''/g\")\" | \"$@\" --config=/dev/fd/4 4<&0 <&3 3<&-",
];

fn with_login(login: &Login, mut command: Vec<String>) -> Vec<String> {
    command.extend(login.user_words("--username"));
    let Some(value) = login.password_value().filter(|_| login.user.is_some()) else { return command };
    command.push("--authenticationDatabase=admin".into());
    in_shell(&WITH_SETTINGS.join(&value), command)
}

fn dump(options: &DatabaseOptions, server: &Server) -> (Vec<String>, DumpFormat) {
    let mut command = words([DUMP, "--archive"]);
    command.extend(options.database.iter().map(|database| format!("--db={database}")));
    (with_login(&server.login, command), DumpFormat::new(DUMP, is_archive, is_end))
}

fn is_archive(head: &[u8]) -> bool {
    head.starts_with(&[0x6d, 0xe2, 0x99, 0x81])
}

/// The last block ends a collection: a document `{db, collection, EOF: true, CRC}`, then the terminator.
fn is_end(tail: &[u8], _: u64) -> bool {
    let Some(document) = tail.strip_suffix(&[0xff; 4]) else { return false };
    let Some((rest, [_crc @ .., 0])) = document.split_last_chunk::<9>() else { return false };
    rest.ends_with(b"\x08EOF\0\x01\x12CRC\0")
}

fn restore(archive: &SealedArchive, metadata: &DatabaseMetadata) -> Vec<Action> {
    let command = with_login(&metadata.login(), words(["mongorestore", "--archive"]));
    vec![
        metadata.to_exec(archive, &command),
        Action::Note("# documents that are there already stay as they are".into()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The last block of an archive, as the format's specification has it.
    fn end_block(eof: u8) -> Vec<u8> {
        let mut elements = b"\x02db\0\x05\0\0\0shop\0\x02collection\0\x02\0\0\0t\0\x08EOF\0".to_vec();
        elements.push(eof);
        elements.extend(b"\x12CRC\0\xff\xff\xff\xff\0\x01\x02\x03\0");
        let mut block = (elements.len() as u32 + 4).to_le_bytes().to_vec();
        block.extend(elements);
        block.extend([0xff; 4]);
        block
    }

    #[test]
    fn an_archive_ends_with_the_end_of_a_collection() {
        let whole = [&[7; 30][..], &end_block(1)].concat();
        assert!(is_end(&whole, 0) && is_archive(b"\x6d\xe2\x99\x81\x63\0\0\0"));
        for len in 0..whole.len() {
            assert!(!is_end(&whole[..len], 0), "{len}");
        }
        assert!(!is_end(&end_block(0), 0), "documents of the collection would follow");
        assert!(!is_end(&[0xff; 4], 0), "no collection at all");
        assert!(!is_archive(b"Failed: error connecting to db server"));
    }

    #[test]
    fn a_password_comes_by_a_settings_file_and_the_input_stays_the_tools() {
        let login = Login { user: Some("root".into()), password: Some("DB_PASSWORD".into()) };
        // Shows what it was given, its settings and its input.
        let tool = "printf '%s|' \"$@\"; cat \"${4#--config=}\"; cat";
        let line = with_login(&login, words(["sh", "-c", tool, "mongorestore"]));
        let mut shell = std::process::Command::new(&line[0]);
        shell.args(&line[1..]).env("DB_PASSWORD", "it's \"$x\" \\").stdin(std::process::Stdio::piped());
        let mut child = shell.stdout(std::process::Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"the archive").unwrap();
        let said = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
        assert_eq!(
            said,
            "--username|root|--authenticationDatabase=admin|--config=/dev/fd/4|\
             password: 'it''s \"$x\" \\'\nthe archive"
        );
        assert!(!line.join(" ").contains("it's"));
    }

    #[test]
    fn where_nobody_has_to_log_in_nothing_is_added() {
        let login = Login { user: None, password: Some("X".into()) };
        assert_eq!(with_login(&login, words([DUMP])), [DUMP]);
    }
}
