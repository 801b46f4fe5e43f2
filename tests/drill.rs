//! Drills with a real engine: what passes, with its time, what must fail, and that nothing else is touched or left.

use serde_json::Value;

use crate::databases::Container;
use crate::needs;
use crate::support::nights::settle;
use crate::support::{AnyStore, Ended, Lab, docker, noise, sh, unique};

/// `sealift drill WORDS… --from STORE --json`
fn drill(lab: &Lab, store: &str, words: &[&str]) -> Ended {
    let ended = lab.run(&[&["drill"], words, &["--json", "--from", store]].concat());
    for kind in ["ps -a", "volume ls"] {
        let left = sh(&format!("/usr/bin/docker {kind} -q --filter name=sealift-drill-"));
        let own = left.lines().filter(|name| is_own(name)).collect::<Vec<_>>();
        assert!(own.is_empty(), "{kind}: {own:?}");
    }
    ended
}

/// Whether the maker of something is gone: other tests drill at the same time.
fn is_own(name: &str) -> bool {
    let format = "{{index .Labels \"sealift\"}}{{with .Config}}{{index .Labels \"sealift\"}}{{end}}";
    let asked = std::process::Command::new("/usr/bin/docker").args(["inspect", "-f", format, name]).output();
    let pid =
        asked.map(|asked| String::from_utf8_lossy(&asked.stdout).trim().to_string()).unwrap_or_default();
    !pid.is_empty() && !std::path::Path::new(&format!("/proc/{pid}")).exists()
}

/// The event of a drill.
#[track_caller]
fn drilled(ended: &Ended) -> Value {
    let events = ended.text();
    let mut events = events.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    events.rfind(|event| event["event"] == "drilled").unwrap_or_else(|| panic!("{}", ended.stderr))
}

/// A volume with names and files of every kind, and a digest of it.
fn odd_volume() -> (String, String) {
    let volume = unique("odd");
    docker(&["volume", "create", &volume]);
    let data = docker(&["volume", "inspect", "-f", "{{.Mountpoint}}", &volume]);
    let long = "n".repeat(255);
    sh(&format!(
        "cd {data} && mkdir -p 'dir ü/below' && echo x > 'dir ü/a\nb' && echo y > {long} && ln {long} hard && \
         ln -s nowhere link && ln -s {long} other && mkfifo fifo && truncate -s 5M sparse && echo z >> sparse && \
         printf odd > \"$(printf 'n\\377')\" && head -c 300000 /dev/urandom > noise && : > empty && \
         chmod 4750 noise && chown 12:34 noise && touch -d '1999-12-31 23:59:59.5' empty && touch .wh.x && \
         python3 -c 'import os; os.setxattr(\"noise\", b\"user.sealift\", b\"1\")'"
    ));
    (volume, data)
}

fn digest_of(data: &str) -> String {
    sh(&format!("tar -C {data} --sort=name --xattrs -c . | sha256sum"))
}

#[test]
fn odd_files_pass_from_a_full_and_an_increment_and_production_is_untouched() {
    needs!("docker", "s3");
    let (lab, (volume, data)) = (Lab::new(), odd_volume());
    let store = AnyStore::S3(unique("drill")).url();
    let backup = || lab.run(&["backup", "volume", &volume, "--incremental", "--to", &store]).expect(0);
    backup();
    settle();
    sh(&format!("echo more > {data}/new && rm {data}/other"));
    backup();
    let (before, volumes) = (digest_of(&data), docker(&["volume", "ls", "-q"]).contains(&volume));

    let ended = drill(&lab, &store, &[&volume]).expect(0);
    let event = drilled(&ended);
    assert_eq!(
        (&event["passed"], &event["level"], &event["what"]),
        (&true.into(), &"restored".into(), &"files".into())
    );
    assert!(event["counts"]["members"].as_u64() > Some(12), "{event}");
    assert!(event["counts"]["contents"].as_u64() > Some(4), "{event}");
    assert!(event["restore_seconds"].as_f64() > Some(0.0) && event["seconds"].as_f64() > Some(0.0));
    assert!(
        event["record"].as_str().is_some_and(|name| name.contains(".drilled-passed-restored-")),
        "{event}"
    );
    // Of those of the window by chance.
    drill(&lab, &store, &[&volume, "--random", "1d", "--no-record"]).expect(0);
    drill(&lab, &store, &["--all", "--check", "test -s /data/new", "--check-image", "bb:1"]).expect(0);
    let ended = drill(&lab, &store, &[&volume, "--check", "echo gone >&2; exit 7", "--check-image", "bb:1"]);
    ended.expect_error(1, "--check ended with code 7: gone");
    assert!(volumes && digest_of(&data) == before, "production has changed");
    docker(&["volume", "rm", &volume]);
}

#[test]
fn folders_pass_and_what_is_damaged_fails_and_is_recorded() {
    needs!("docker");
    let lab = Lab::new();
    std::fs::create_dir_all(lab.path("src/below")).expect("folders");
    std::fs::write(lab.path("src/below/noise"), noise(7, 3 << 20)).expect("a file");
    let (dir, at) = (lab.path("src").display().to_string(), lab.file_store());
    let backup = || lab.run(&["backup", "path", &dir, "--job", "etc", "--to", &at]).expect(0);
    backup();
    let event = drilled(&drill(&lab, &at, &["etc"]).expect(0));
    assert!(event["counts"]["contents"] == 1 && event["bytes"].as_u64() > Some(3 << 20), "{event}");
    let status =
        |code: i32| lab.run(&["status", "--drilled-within", "30d", "--from", &at]).expect(code).text();
    status(0);

    // One flipped byte in a frame.
    let files = AnyStore::File(lab.path("store"));
    let (name, mut bytes) = files.archive();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    files.write(&name, &bytes);
    let ended = drill(&lab, &at, &["etc"]);
    let event = drilled(&ended);
    assert!(event["passed"] == false && event["cause"].is_string(), "{event}");
    ended.expect(13);
    assert!(status(1).contains("the drill of"), "a failed drill newer than the last passed one");
    let shown = lab.run(&["list", "etc", "--long", "--from", &at]).expect(0).text();
    assert!(shown.contains("drill failed"), "{shown}");

    // The catalog is gone.
    backup();
    let catalog = files.names().into_iter().rfind(|name| name.contains(".catalog.")).expect("a catalog");
    files.delete(&catalog);
    drill(&lab, &at, &["etc"]).expect(13);
    assert_eq!(files.all_names().iter().filter(|name| name.contains(".drilled-failed-")).count(), 2);

    // Records go with their archives; the newest whole one stays.
    backup();
    let id = name.rsplit('/').next().and_then(|name| name.split('.').next()).expect("an id").to_string();
    lab.run(&["delete", &format!("etc@{id}"), "--confirm", "--from", &at]).expect(0);
    assert!(!files.all_names().iter().any(|name| name.contains(&id)), "{:?}", files.all_names());
}

/// Waits for a server that listens on its socket.
fn server(image: &str, options: &[&str], ready: &str) -> Container {
    let server = Container::run(&unique("drilled"), options, image, &[]);
    server.wait_for(ready);
    server
}

#[test]
fn a_postgres_dump_passes_and_one_without_a_table_does_not() {
    needs!("docker", "databases");
    let lab = Lab::new();
    let at = lab.file_store();
    let options = ["-e", "POSTGRES_USER=app", "-e", "POSTGRES_PASSWORD=it's \"$secret\""];
    let server = server("postgres:1", &options, "pg_isready -U app");
    let psql = |database: &str, sql: &str| {
        server.sh(&format!(
            "export PGPASSWORD=\"$POSTGRES_PASSWORD\"; psql -X -A -t -U app -d {database} -c \"{sql}\""
        ))
    };
    psql("postgres", "CREATE DATABASE shop");
    psql(
        "shop",
        "CREATE ROLE clerk; CREATE TABLE \\\"odd one\\\" (n int); INSERT INTO \\\"odd one\\\" SELECT generate_series(1, 5000); \
        CREATE TABLE b (n int); INSERT INTO b VALUES (1); ALTER TABLE b OWNER TO clerk",
    );
    let backup = |more: &[&str]| {
        let words = [&["backup", "postgres", &server.name, "--to", &at], more].concat();
        lab.run(&words).expect(0)
    };
    backup(&["--job", "db"]);
    backup(&["--job", "shop", "--database", "shop"]);
    let event = drilled(&drill(&lab, &at, &["db", "--expect-tables", "2"]).expect(0));
    assert_eq!(event["counts"], serde_json::json!({"databases": 2, "tables": 2, "rows": 5001}), "{event}");
    assert_eq!(event["what"], "postgres");
    // Its owner is of another dump: roles that are missing are no failure, and nothing else is passed over.
    let event = drilled(&drill(&lab, &at, &["shop"]).expect(0));
    assert_eq!(event["counts"]["rows"], 5001);

    // A table that a later dump does not have.
    psql("shop", "DROP TABLE b");
    backup(&["--job", "db"]);
    let ended = drill(&lab, &at, &["db"]);
    ended.expect_error(1, "the dump has 1 table, 2 at the last drill").hint("--shrink 100%");
    drill(&lab, &at, &["db", "--shrink", "100%"]).expect(0);
    drill(&lab, &at, &["db"]).expect(0);

    // One whose rows have no table.
    let dump = lab.run(&["restore", "shop", "--to-stdout", "--from", &at]).expect(0).text();
    let broken = dump.replace("CREATE TABLE public.b ", "CREATE TABLE public.c ");
    let check = "grep -q 'CREATE TABLE public.b '";
    lab.feed(&["backup", "stdin", "--job", "piped", "--to", &at], broken.as_bytes()).expect(0);
    drill(&lab, &at, &["piped"]).expect(0);
    drill(&lab, &at, &["piped", "--check", check, "--check-image", "bb:1"])
        .expect_error(1, "ended with code 1");
}

#[test]
fn dumps_of_mariadb_and_redis_pass_with_what_they_hold() {
    needs!("docker", "databases");
    let lab = Lab::new();
    let at = lab.file_store();
    let client = "export MYSQL_PWD=\"$MARIADB_ROOT_PASSWORD\"; mariadb -u root";
    let maria =
        server("mariadb:1", &["-e", "MARIADB_ROOT_PASSWORD=it's"], &format!("{client} -e 'SELECT 1'"));
    maria.sh(&format!(
        "{client} -e 'CREATE DATABASE shop; CREATE TABLE shop.`a``b` (n int); INSERT INTO shop.`a``b` VALUES (1), (2); \
         CREATE TABLE shop.c (n int); INSERT INTO shop.c VALUES (3)'"
    ));
    lab.run(&["backup", "mysql", &maria.name, "--job", "maria", "--to", &at]).expect(0);
    let event = drilled(&drill(&lab, &at, &["maria"]).expect(0));
    assert_eq!(event["counts"], serde_json::json!({"databases": 1, "tables": 2, "rows": 3}), "{event}");

    let redis = server("redis:1", &[], "redis-cli PING | grep -x PONG");
    redis.sh("seq 1 500 | sed 's/.*/SET key& &/' | redis-cli >/dev/null; redis-cli -n 3 SET other 1");
    lab.run(&["backup", "redis", &redis.name, "--job", "cache", "--to", &at]).expect(0);
    let event = drilled(&drill(&lab, &at, &["cache"]).expect(0));
    assert_eq!(event["counts"], serde_json::json!({"databases": 2, "keys": 501}), "{event}");
    drill(&lab, &at, &["cache", "--min-rows", "502"]).expect_error(1, "501 rows, fewer than 502");
}

#[test]
fn a_registry_passes_and_one_without_a_blob_does_not() {
    needs!("docker", "registry");
    let lab = Lab::new();
    let (at, volume) = (lab.file_store(), unique("registry"));
    let address = crate::registry::serve(&volume, &volume);
    let digests =
        [("one", 1), ("two", 2)].map(|(tag, seed)| crate::registry::push(&lab, &address, tag, seed));
    let data = docker(&["volume", "inspect", "-f", "{{.Mountpoint}}", &volume]);
    let backup = || lab.run(&["backup", "volume", &volume, "--to", &at]).expect(0);
    backup();
    // The image is that of the container that serves the volume now.
    let event = drilled(&drill(&lab, &at, &[&volume, "--as", "registry"]).expect(0));
    assert_eq!(
        (&event["what"], &event["counts"]["tags"], &event["counts"]["pulled"]),
        (&"registry".into(), &2.into(), &2.into())
    );
    assert_eq!(event["counts"]["blobs"], 6, "two manifests, two configurations, two layers: {event}");

    // A layer that is gone before the backup.
    let hex = digests[0].split_once(':').expect("a digest").1;
    let manifest =
        std::fs::read_to_string(format!("{data}/docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]));
    let manifest: Value = serde_json::from_str(&manifest.expect("a manifest")).expect("JSON");
    let layer = manifest["layers"][0]["digest"].as_str().expect("a digest").to_string();
    let hex = layer.split_once(':').expect("a digest").1;
    sh(&format!("rm -r {data}/docker/registry/v2/blobs/sha256/{}/{hex}", &hex[..2]));
    docker(&["rm", "-f", &volume]);
    backup();
    let image = ["--registry-image", "dtr-registry:2.8"];
    let ended = drill(&lab, &at, &[&[volume.as_str()], &image[..]].concat());
    ended.expect_error(1, &layer);
    // A registry whose image is not there says nothing of the archive.
    let ended = drill(&lab, &at, &[&volume, "--registry-image", "no/such:1"]);
    ended.expect_error(1, "image no/such:1 is not on this engine").hint("--registry-image");
    docker(&["volume", "rm", &volume]);
}

#[test]
fn a_signal_leaves_nothing_and_what_a_kill_left_the_next_drill_removes() {
    needs!("docker");
    let lab = Lab::new();
    let at = lab.file_store();
    lab.write("file", b"x");
    let dir = lab.dir.display().to_string();
    lab.run(&["backup", "path", &format!("{dir}/file"), "--job", "one", "--to", &at]).expect(0);
    for signal in ["TERM", "KILL"] {
        let mut command = lab.sealift();
        command.args(["drill", "one", "--check", "sleep 1000", "--check-image", "bb:1", "--from", &at]);
        let mut child = command.spawn().expect("sealift runs");
        let own = format!("label=sealift={}", child.id());
        let left = |kind: &str| sh(&format!("/usr/bin/docker {kind} -q --filter {own}")).trim().to_string();
        crate::support::until("its container is there", || !left("ps").is_empty());
        sh(&format!("kill -{signal} {}", child.id()));
        let ended = child.wait().expect("an end");
        if signal == "TERM" {
            assert_eq!(ended.code(), Some(130));
        } else {
            assert!(!left("ps").is_empty() && !left("volume ls").is_empty(), "nothing to clear away");
            let listed =
                lab.run(&["clean", "--docker", "--older-than", "0s", "--from", &at]).expect(0).text();
            assert!(listed.contains("volume of a drill that was killed"), "{listed}");
            drill(&lab, &at, &["one"]).expect(0);
        }
        assert_eq!(left("ps -a") + &left("volume ls"), "", "{signal}");
    }
    let records = AnyStore::File(lab.path("store")).all_names();
    assert_eq!(
        records.iter().filter(|name| name.contains(".drilled-")).count(),
        1,
        "what was broken off is none"
    );
}
