//! The databases' presets: real servers there and back by the lines that `show` prints, and dumps that are none.

use std::process::Command;

use crate::needs;
use crate::support::{AnyStore, Ended, Lab, docker, feed, sh, unique, until};

/// A container that goes away with the test.
pub struct Container {
    pub name: String,
}

impl Container {
    /// Runs an image, with `docker run`'s options and a command.
    pub fn run(name: &str, options: &[&str], image: &str, command: &[&str]) -> Self {
        let own = ["run", "-d", "--name", name, "--network", "none"];
        docker(&[&own, options, &[image], command].concat());
        Container { name: name.into() }
    }

    /// One that does nothing, in which programs of these names are scripts.
    fn with_programs(programs: &[(&str, &str)]) -> Self {
        let container = Container::run(&unique("db"), &[], "bb:1", &["sleep", "1000"]);
        for (name, script) in programs {
            let install = format!("cat > /bin/{name}; chmod +x /bin/{name}");
            container.feed(&["sh", "-c", &install], format!("#!/bin/sh\n{script}\n").as_bytes()).expect(0);
        }
        container
    }

    /// Runs a command in it.
    fn feed(&self, command: &[&str], input: &[u8]) -> Ended {
        feed(Command::new("/usr/bin/docker").args(["exec", "-i", &self.name]).args(command), input)
    }

    /// Runs a script in it.
    #[track_caller]
    pub fn sh(&self, script: &str) -> String {
        self.feed(&["sh", "-c", script], b"").expect(0).text()
    }

    pub fn wait_for(&self, script: &str) {
        until(script, || self.feed(&["sh", "-c", script], b"").code == 0);
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = Command::new("/usr/bin/docker").args(["rm", "-f", "-v", &self.name]).output();
    }
}

/// The store, and what `sealift backup WORDS…` says.
fn backup(lab: &Lab, words: &[&str]) -> Ended {
    let store = lab.file_store();
    lab.run(&[&["backup"], words, &["--job", "db", "--to", &store]].concat())
}

/// The lines with which `show` says that the job is restored.
fn restore_lines(lab: &Lab) -> String {
    let shown = lab.run(&["show", "db", "--json", "--from", &lab.file_store()]).expect(0).text();
    let shown: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
    let lines = shown["restore"].as_array().expect("lines").iter().filter_map(serde_json::Value::as_str);
    lines.collect::<Vec<_>>().join("\n")
}

/// Runs those lines, as they are, in a shell.
fn restore(lab: &Lab) -> Ended {
    let bin = std::path::Path::new(env!("CARGO_BIN_EXE_sealift")).parent().expect("a folder");
    let path = format!("{}:/usr/bin:/bin", bin.display());
    let mut bash = Command::new("bash");
    bash.args(["-euc", &restore_lines(lab)]).current_dir(&lab.dir).env("PATH", path);
    bash.env("SEALIFT_PASSPHRASE_FILE", lab.path("passphrase"));
    Ended::from(bash.output().expect("bash runs"))
}

const POSTGRES: [&str; 4] = ["-e", "POSTGRES_USER=app", "-e", "POSTGRES_PASSWORD=it's \"$secret\""];
const PSQL: &str = "export PGPASSWORD=\"$POSTGRES_PASSWORD\"; psql -X -A -t -U app";

fn postgres(name: &str) -> Container {
    let server = Container::run(name, &POSTGRES, "postgres:1", &[]);
    server.wait_for("pg_isready -U app");
    server
}

#[test]
fn a_postgres_server_there_and_back_into_an_empty_one() {
    needs!("docker", "databases");
    let (lab, name) = (Lab::new(), unique("pg"));
    let server = postgres(&name);
    server.sh(&format!(
        "{PSQL} -d postgres -c 'CREATE DATABASE shop' && {PSQL} -d shop -c \
         \"CREATE ROLE clerk; CREATE TABLE t (n int PRIMARY KEY, s text); \
         INSERT INTO t SELECT n, 'row' || chr(10) || n FROM generate_series(1, 20000) n\""
    ));
    let sum = format!("{PSQL} -d shop -c 'SELECT count(*), md5(string_agg(s, chr(44) ORDER BY n)) FROM t'");
    let before = server.sh(&sum);
    assert!(before.starts_with("20000|"), "{before}");

    let ended = backup(&lab, &["postgres", &name]).expect(0);
    assert!(ended.stderr.contains("PostgreSQL 1"), "{}", ended.stderr);
    let shown = lab.run(&["show", "db", "--from", &lab.file_store()]).expect(0).text();
    assert!(shown.contains(&format!("source    postgres --user app {name}\n")), "{shown}");
    assert!(shown.contains("restore   # PostgreSQL 1"), "{shown}");
    // The command that ran is in the catalog; the password was expanded in the container alone.
    let catalog = lab.run(&["show", "db", "--json", "--from", &lab.file_store()]).expect(0).text();
    assert!(catalog.contains("$POSTGRES_PASSWORD") && !catalog.contains("$secret"), "{catalog}");

    // One database, of which psql stops at the first error; the role must be there.
    let store = lab.new_store("one");
    lab.run(&["backup", "postgres", "--database", "shop", "--job", "shop", "--to", &store, &name]).expect(0);
    let dump = lab.run(&["restore", "shop", "--to-stdout", "--from", &store]).expect(0).text();
    assert!(dump.contains("CREATE DATABASE shop") && !dump.contains("CREATE ROLE"), "{dump}");

    drop(server);
    let server = postgres(&name);
    restore(&lab).expect(0);
    assert_eq!(server.sh(&sum), before);
    assert_eq!(
        server.sh(&format!("{PSQL} -d shop -c \"SELECT 1 FROM pg_roles WHERE rolname = 'clerk'\"")),
        "1\n"
    );
    // Another database of the same server does not exist: the tool's own words, and nothing is made.
    let ended = lab.run(&["backup", "postgres", "--database", "none", "--job", "x", "--to", &store, &name]);
    assert!(ended.expect_error(1, "exited with code 1").stderr.contains("database \"none\" does not exist"));
}

#[test]
fn a_mariadb_server_there_and_back_into_an_empty_one() {
    needs!("docker", "databases");
    let (lab, name) = (Lab::new(), unique("maria"));
    lab.write("secret", b"it's \"$secret\" \\");
    let secret = format!("{}:/run/secret:ro", lab.path("secret").display());
    let options = ["-v", &secret, "-e", "MARIADB_ROOT_PASSWORD_FILE=/run/secret"];
    let login = "export MYSQL_PWD=\"$(cat /run/secret)\"; mariadb -u root -N";
    let start = || {
        let server = Container::run(&name, &options, "mariadb:1", &[]);
        server.wait_for(&format!("{login} -e 'SELECT 1'"));
        server
    };
    let server = start();
    server.sh(&format!(
        "{login} -e \"CREATE DATABASE shop; USE shop; CREATE TABLE t (n INT PRIMARY KEY, s TEXT); \
         INSERT INTO t SELECT seq, CONCAT('row', CHAR(10), seq) FROM seq_1_to_20000; \
         CREATE PROCEDURE p() SELECT 'kept'; CREATE USER clerk IDENTIFIED BY 'x'\""
    ));
    let sum = format!("{login} shop -e 'SELECT COUNT(*), SUM(CRC32(s)) FROM t; CALL p()'");
    let before = server.sh(&sum);
    assert!(before.starts_with("20000\t") && before.ends_with("kept\n"), "{before}");
    let ended = backup(&lab, &["mysql", &name]).expect(0);
    assert!(ended.stderr.contains("MariaDB 10") || ended.stderr.contains("MariaDB 11"), "{}", ended.stderr);
    drop(server);

    let server = start();
    restore(&lab).expect(0);
    assert_eq!(server.sh(&sum), before);
    // Accounts are in force at once.
    assert_eq!(server.sh("mariadb -u clerk -px -N -e 'SELECT 1'"), "1\n");
}

#[test]
fn a_redis_server_there_and_back_into_an_empty_one() {
    needs!("docker", "databases");
    let (lab, name) = (Lab::new(), unique("redis"));
    let login = "export REDISCLI_AUTH=\"$REDIS_PASSWORD\"; redis-cli";
    let start = || {
        let server = Container::run(&name, &["-e", "REDIS_PASSWORD=it's \"$secret\""], "redis:1", &[]);
        server.wait_for(&format!("{login} PING | grep -x PONG"));
        server
    };
    let server = start();
    let script = "for n = 1, 9 do redis.call('SET', 'k' .. n, string.rep(tostring(n), 5000)) end";
    server.sh(&format!("{login} EVAL \"{script}\" 0; {login} RPUSH list a b c"));
    let sum = format!("{login} DBSIZE; {login} LRANGE list 0 -1; {login} GET k7 | md5sum");
    let before = server.sh(&sum);
    assert!(before.starts_with("10\na\nb\nc\n"), "{before}");
    backup(&lab, &["redis", &name]).expect(0);
    drop(server);

    let server = start();
    assert_ne!(server.sh(&sum), before);
    restore(&lab).expect(0);
    server.wait_for(&format!("{login} PING | grep -x PONG"));
    assert_eq!(server.sh(&sum), before);
}

/// Stands in for mongodump, which Debian does not have: the outer framing of its archives is real (magic number, prelude,
/// blocks with their terminators, the end of the collection), the documents are not. It takes the password that the
/// container's environment has, by --config alone.
const MONGODUMP: &str = r#"
[ "$1" != --version ] || { echo 'mongodump version: 100.9.4'; exit; }
case "$*" in *correct*) echo 'a password on the command line' >&2; exit 1 ;; esac
for option; do case $option in --config=*) settings=$(cat "${option#--config=}") ;; esac; done
[ "${settings:-}" = "password: 'it''s correct'" ] || { echo 'authentication failed' >&2; exit 1; }
printf '\155\342\231\201\005\000\000\000\000\377\377\377\377'
yes document | head -c 100000
printf '\377\377\377\377\010EOF\000\001\022CRC\000\001\002\003\004\005\006\007\010\000\377\377\377\377'
"#;

/// Keeps what it is given.
const MONGORESTORE: &str = r#"
for option; do case $option in --config=*) settings=$(cat "${option#--config=}") ;; esac; done
[ "${settings:-}" = "password: 'it''s correct'" ] || { echo 'authentication failed' >&2; exit 1; }
cat > /tmp/restored
"#;

#[test]
fn what_a_stand_in_for_mongodump_writes_goes_back_to_one_for_mongorestore() {
    needs!("docker");
    let lab = Lab::new();
    let password = "MONGO_INITDB_ROOT_PASSWORD=it's correct";
    let options = ["-e", "MONGO_INITDB_ROOT_USERNAME=root", "-e", password];
    let server = Container::run(&unique("mongo"), &options, "bb:1", &["sleep", "1000"]);
    let mongod = "echo 'db version v7.0.5'; echo 'Build Info: {'";
    for (name, script) in [("mongod", mongod), ("mongodump", MONGODUMP), ("mongorestore", MONGORESTORE)] {
        let install = format!("cat > /bin/{name}; chmod +x /bin/{name}");
        server.feed(&["sh", "-c", &install], format!("#!/bin/sh\n{script}\n").as_bytes()).expect(0);
    }
    let ended = backup(&lab, &["mongo", &server.name]).expect(0);
    assert!(ended.stderr.contains("MongoDB 7.0.5"), "{}", ended.stderr);
    restore(&lab).expect(0);
    let dump = lab.run(&["restore", "db", "--to-stdout", "--from", &lab.file_store()]).expect(0).stdout;
    assert!(dump.len() > 100_000 && server.feed(&["cat", "/tmp/restored"], b"").stdout == dump);
}

#[test]
fn a_dump_without_its_end_marker_is_no_backup_whatever_its_exit_code() {
    needs!("docker");
    // What each tool writes first, and then not its end.
    let tools = [
        (
            "postgres",
            "pg_dumpall",
            "printf -- '--\\n-- PostgreSQL database cluster dump\\n--\\n'; seq 1 9999",
        ),
        ("mysql", "mysqldump", "echo '-- MySQL dump 10.13  Distrib 8.0.36, for Linux (x86_64)'; seq 1 9999"),
        ("mongo", "mongodump", "printf '\\155\\342\\231\\201'; seq 1 9999; printf '\\377\\377\\377\\377'"),
        (
            "redis",
            "redis-cli",
            "printf REDIS0011; seq 1 9999; printf '\\377\\001\\002\\003\\004\\005\\006\\007\\010'",
        ),
    ];
    for (kind, tool, script) in tools {
        let lab = Lab::new();
        let version = format!("[ \"$1\" != --version ] || {{ echo {tool} 1.2.3; exit; }}");
        let server = Container::with_programs(&[(tool, &format!("{version}\n{script}"))]);
        let ended = backup(&lab, &[kind, &server.name]);
        let words = format!("the dump breaks off: the end marker of {tool} is missing");
        ended.expect_error(1, &words).hint("look at the server's log");
        AnyStore::File(lab.path("store")).expect_nothing(&lab);
        // Other words instead of a dump.
        let usage = format!("{version}\necho usage: {tool} OPTIONS");
        let server = Container::with_programs(&[(tool, &usage)]);
        let words = format!("what {tool} wrote does not begin as its dumps do");
        backup(&lab, &[kind, &server.name]).expect_error(1, &words);
        AnyStore::File(lab.path("store")).expect_nothing(&lab);
    }
}

/// A dump of pg_dumpall that is whole, and no more.
const WHOLE: &str = "[ \"$1\" != --version ] || { echo 'pg_dumpall (PostgreSQL) 16.1'; exit; }\n\
    printf -- '--\\n-- PostgreSQL database cluster dump\\n--\\n\\n--\\n-- PostgreSQL database cluster dump complete\\n--\\n\\n'";

#[test]
fn a_whole_dump_whose_tool_failed_is_no_backup() {
    needs!("docker");
    let lab = Lab::new();
    let server = Container::with_programs(&[("pg_dumpall", &format!("{WHOLE}\nexit 3"))]);
    backup(&lab, &["postgres", &server.name]).expect_error(1, "exited with code 3");
    AnyStore::File(lab.path("store")).expect_nothing(&lab);
}

#[test]
fn a_server_that_is_none_is_told_with_what_to_do() {
    needs!("docker");
    let lab = Lab::new();
    backup(&lab, &["postgres", "nosuch"]).expect_error(1, "there is no container nosuch").hint("docker ps");
    let server = Container::with_programs(&[]);
    let name = server.name.as_str();
    for (kind, tools) in [
        ("postgres", "no pg_dumpall"),
        ("mysql", "no mariadb-dump and no mysqldump"),
        ("mongo", "no mongodump"),
        ("redis", "no valkey-cli and no redis-cli"),
    ] {
        let words = format!("container {name} (bb:1) has {tools}");
        backup(&lab, &[kind, name]).expect_error(1, &words).hint("backup exec");
    }
    docker(&["pause", name]);
    backup(&lab, &["redis", name]).expect_error(1, "is paused").hint(&format!("docker unpause {name}"));
    docker(&["unpause", name]);
    docker(&["stop", "-t", "0", name]);
    let ended = backup(&lab, &["mysql", name]);
    ended.expect_error(1, &format!("container {name} is not running")).hint(&format!("docker start {name}"));
    AnyStore::File(lab.path("store")).expect_nothing(&lab);
}

#[test]
fn a_database_is_a_job_of_the_settings_and_of_a_plan() {
    needs!("docker");
    let lab = Lab::new();
    let server = Container::with_programs(&[("pg_dumpall", WHOLE)]);
    let (store, name) = (lab.file_store(), &server.name);
    let settings = format!(
        "to = \"s\"\nfrom = \"s\"\n[stores.s]\nurl = \"{store}\"\n\
         [jobs.team-db]\nsource = \"postgres\"\ncontainer = \"{name}\"\n[sets.night]\njobs = [\"team-db\"]\n"
    );
    lab.write("sealift.toml", settings.as_bytes());
    let run = |words: &[&str]| lab.run(&[&["--config", "sealift.toml"], words].concat()).expect(0);
    run(&["config", "check"]);
    let plan = run(&["plan", "night"]).text();
    for words in [
        &format!("team-db: PostgreSQL 16.1, container {name}"),
        "+ team-db: all databases, as pg_dumpall writes them",
        "- not in it: the server's settings",
    ] {
        assert!(plan.contains(words), "{words:?} is not in {plan}");
    }
    assert!(!plan.contains("engine and kernel"), "that is an upgrade of Docker EE: {plan}");
    run(&["backup", "set", "night"]);
    run(&["backup", "job", "team-db"]);
    let restore = run(&["restore", "set", "night", "--plan"]).text();
    let words = format!(" --to-exec {name} psql -X -q -w -d postgres -U postgres");
    assert!(restore.contains(&words), "{restore}");
    // What anybody may read says which database it is, and neither where it is nor who asks it.
    let public = sh(&format!("cat {}/night/*.set.json", lab.path("store").display()));
    assert!(public.contains("PostgreSQL") && !public.contains(name.as_str()), "{public}");
}
