//! Redis and Valkey: a snapshot (RDB) of all keys, as a replica gets it, by `redis-cli --rdb`.

use super::login::{in_shell, words};
use super::trial::{Counts, Load, Trial, once_started};
use super::{DatabaseMetadata, DatabaseOptions, Dialect, DumpFile, Server};
use crate::archive::whole::DumpFormat;
use crate::preset::steps::{Action, SealedArchive, quoted};

pub(super) const DIALECT: Dialect = Dialect {
    word: "redis",
    images: &["redis", "valkey", "redis-stack-server", "redis-stack"],
    product: |tool, _| if tool == "valkey-cli" { "Valkey" } else { "Redis" },
    tools: &["valkey-cli", "redis-cli"],
    version: None,
    users: (&[], None),
    passwords: &["REDISCLI_AUTH", "REDIS_PASSWORD", "VALKEY_PASSWORD"],
    series: (1, " or newer"),
    file: Some(DumpFile { ask: ask_file, find: file_in }),
    dump,
    restore,
    not_in_it: &["the server's settings and users: redis.conf, its ACL file"],
};

/// The variable from which its tools take a password.
const PASSWORD: &str = "REDISCLI_AUTH";
/// What ends the transfer of a snapshot, which the tool writes as well where it writes to stdout.
const MARK: usize = 40;

fn dump(_: &DatabaseOptions, server: &Server) -> (Vec<String>, DumpFormat) {
    let command = words([server.tool]).into_iter().chain(server.login.user_words("--user"));
    let command = command.chain(words(["--rdb", "-"])).collect();
    let format = DumpFormat { sum: crc64, ..DumpFormat::new(server.tool, is_snapshot, is_end) };
    (server.login.with_password_in(PASSWORD, command), format)
}

fn is_snapshot(head: &[u8]) -> bool {
    head.starts_with(b"REDIS0") || head.starts_with(b"VALKEY")
}

fn is_end(tail: &[u8], sum: u64) -> bool {
    let is_hex = |mark: &[u8; MARK]| mark.iter().all(u8::is_ascii_hexdigit);
    let unmarked = tail.split_last_chunk().filter(|(_, mark)| is_hex(mark)).map(|(before, _)| before);
    [Some(tail), unmarked].into_iter().flatten().any(|tail| is_checked(tail, sum))
}

/// Whether it ends with the opcode of the end and the checksum of all before; 0 is none, by the server's settings.
fn is_checked(tail: &[u8], sum: u64) -> bool {
    let Some((before, stored)) = tail.split_last_chunk::<8>() else { return false };
    let stored = u64::from_le_bytes(*stored);
    before.last() == Some(&0xff) && (stored == 0 || stored == crc64(sum, before))
}

/// CRC-64/Redis: the polynomial of Jones, bits reflected, from 0.
fn crc64(sum: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(sum, |sum, byte| TABLE[usize::from(sum as u8 ^ byte)] ^ (sum >> 8))
}

const TABLE: [u64; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut sum = byte as u64;
        let mut bit = 0;
        while bit < 8 {
            sum = if sum & 1 == 1 { (sum >> 1) ^ 0x95ac_9329_ac4b_c9b5 } else { sum >> 1 };
            bit += 1;
        }
        table[byte] = sum;
        byte += 1;
    }
    table
};

/// Servers before version 7 are asked for one setting at a time.
fn ask_file(server: &Server) -> Vec<String> {
    let ask = in_shell("\"$@\" CONFIG GET dir && \"$@\" CONFIG GET dbfilename", words([server.tool]));
    server.login.with_password_in(PASSWORD, ask)
}

/// `dir`, `/data`, `dbfilename`, `dump.rdb`, a line each.
fn file_in(said: &str) -> Option<String> {
    let ["dir", dir, "dbfilename", name] = said.lines().collect::<Vec<_>>()[..] else { return None };
    Some(format!("{}/{name}", dir.trim_end_matches('/')))
}

/// The server that reads it when it starts. It is told where it lies, whatever the settings of its image say.
pub(super) fn trial(metadata: &DatabaseMetadata) -> Trial {
    let (server, client) = match metadata.tool.as_str() {
        "valkey-cli" => ("valkey-server", "valkey-cli"),
        _ => ("redis-server", "redis-cli"),
    };
    let place = metadata.file.rsplit_once('/').filter(|(dir, name)| !dir.is_empty() && !name.is_empty());
    let (dir, name) = place.unwrap_or(("/data", "dump.rdb"));
    let answers = format!("{client} ping | grep -qx PONG");
    Trial {
        word: DIALECT.word,
        env: Vec::new(),
        command: words([server, "--dir", dir, "--dbfilename", name, "--appendonly", "no", "--save", ""]),
        load: Load::File(dir.into(), name.into()),
        ready: once_started("redis-server|valkey-server", words(["sh", "-c", &answers])),
        count: words([client, "INFO", "keyspace"]),
        counts,
    }
}

/// `db0:keys=10000,expires=0,avg_ttl=0`
pub(super) fn counts(said: &str) -> Option<Counts> {
    let mut counts = Counts::default();
    let mut lines = said.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.next().filter(|line| *line == "# Keyspace")?;
    for line in lines {
        let (_, keys) = line.strip_prefix("db")?.split_once(":keys=")?;
        counts.databases += 1;
        counts.rows += keys.split(',').next()?.parse::<u64>().ok()?;
    }
    Some(counts)
}

/// No command takes a snapshot: the server reads it when it starts.
fn restore(archive: &SealedArchive, metadata: &DatabaseMetadata) -> Vec<Action> {
    let container = quoted(&metadata.container);
    // Another job's snapshot may lie beside it.
    let snapshot = quoted(&format!("{}.rdb", archive.file_name()));
    let (file, note) = match metadata.file.as_str() {
        "" => ("/data/dump.rdb", "# there, unless its settings `dir` and `dbfilename` say otherwise"),
        file => (file, "# there it is read when the server starts"),
    };
    vec![
        archive.restore_by_hand(format!("--to-stdout > {snapshot}")),
        Action::Shell(format!("docker stop {container}")),
        Action::Shell(format!("docker cp {snapshot} {container}:{}", quoted(file))),
        Action::Note(note.into()),
        Action::Note(
            "# with `appendonly yes` it is not: start it without that once, then turn it on again".into(),
        ),
        Action::Shell(format!("docker start {container}")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A snapshot of no keys.
    fn snapshot() -> Vec<u8> {
        let body = b"REDIS0011\xfa\x0aredis-bits\xc0\x40\xff".to_vec();
        let sum = crc64(0, &body);
        [body, sum.to_le_bytes().to_vec()].concat()
    }

    #[test]
    fn the_checksum_is_the_one_that_redis_documents() {
        assert_eq!(crc64(0, b"123456789"), 0xe9c6_d914_c4b8_d9ca);
        assert_eq!(crc64(crc64(0, b"1234"), b"56789"), 0xe9c6_d914_c4b8_d9ca);
    }

    #[test]
    fn a_snapshot_ends_with_its_checksum_and_perhaps_with_the_mark_of_the_transfer() {
        let whole = snapshot();
        assert!(is_end(&whole, 0) && is_snapshot(&whole) && is_snapshot(b"VALKEY080"));
        let marked = [&whole[..], &[b'a'; MARK]].concat();
        assert!(is_end(&marked, 0) && !is_end(&marked[..marked.len() - 1], 0));
        // As the follower hands it over: the checksum of what was passed, and the rest.
        assert!(is_end(&whole[9..], crc64(0, &whole[..9])));
        let unchecked = [&whole[..whole.len() - 8], &[0; 8]].concat();
        assert!(is_end(&unchecked, 0), "rdbchecksum no");
    }

    #[test]
    fn the_place_of_the_snapshot_is_what_the_server_says() {
        assert_eq!(file_in("dir\n/data\ndbfilename\nall.rdb\n").as_deref(), Some("/data/all.rdb"));
        assert_eq!(file_in("dir\n/\ndbfilename\nall.rdb\n").as_deref(), Some("/all.rdb"));
        assert_eq!(file_in("NOAUTH Authentication required.\n\n"), None);
        assert_eq!(file_in("ERR unknown command 'CONFIG'\n\n"), None);
    }

    #[test]
    fn what_breaks_off_or_has_changed_has_no_end() {
        let whole = snapshot();
        for len in 0..whole.len() {
            assert!(!is_end(&whole[..len], 0), "{len}");
        }
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            assert!(!is_end(&changed, 0), "{at}");
        }
        assert!(!is_snapshot(b"NOAUTH Authentication required."));
    }
}
