//! `backup`: every source to every store; what comes back by gpg, zstd and tar is what went in.

use std::io::Read;

use crate::needs;
use crate::support::bridge::Bridge;
use crate::support::{AnyStore, JOB, Lab, docker, feed, noise, sh, text, unique};

/// Backs up, then reads the object as somebody without sealift would.
#[track_caller]
fn round_trip(lab: &Lab, store: &AnyStore, words: &[&str], input: Option<&[u8]>) -> Vec<u8> {
    // Our options stand before the source's own words, where those end the options.
    let (verb, rest) = words.split_at(2);
    let url = store.url();
    let words = [verb, &["--job", JOB, "--to", &url], rest].concat();
    match input {
        Some(input) => lab.feed(&words, input).expect(0),
        None => lab.run(&words).expect(0),
    };
    let (_, object) = store.archive();
    let by_gpg = lab.by_gpg(&object, &["zstd", "-d"]);
    let restored = lab.run(&["restore", JOB, "--to-stdout", "--from", &store.url()]).expect(0).stdout;
    assert!(restored == by_gpg, "restore and gpg differ");
    lab.run(&["verify", JOB, "--from", &store.url()]).expect(0);
    lab.run(&["verify", JOB, "--stored", "--from", &store.url()]).expect(0);
    by_gpg
}

fn tar_names(tar: &[u8]) -> Vec<String> {
    let mut names: Vec<_> = feed(std::process::Command::new("tar").arg("-t"), tar)
        .expect(0)
        .text()
        .lines()
        .map(String::from)
        .collect();
    names.sort();
    names
}

#[test]
fn the_stdout_of_a_new_container() {
    needs!("docker", "gpg");
    let lab = Lab::new();
    for store in AnyStore::all(&lab) {
        let script = "echo to stderr >&2; head -c 9000000 /dev/zero | tr '\\0' x";
        let words = [
            "backup",
            "run",
            "-i",
            "--rm",
            "--log-driver",
            "none",
            "--network",
            "none",
            "bb:1",
            "sh",
            "-c",
            script,
        ];
        assert!(round_trip(&lab, &store, &words, None) == [b'x'; 9_000_000]);
    }
    assert_eq!(
        docker(&[
            "ps",
            "-aq",
            "--filter",
            "label=sealift",
            "--filter",
            "ancestor=bb:1",
            "--filter",
            "status=exited"
        ]),
        ""
    );
}

#[test]
fn the_stdout_of_a_command_in_a_running_container() {
    needs!("docker", "gpg");
    let (lab, name) = (Lab::new(), unique("exec"));
    docker(&["run", "-d", "--name", &name, "--network", "none", "bb:1", "sleep", "600"]);
    for store in AnyStore::all(&lab) {
        let words = ["backup", "exec", &name, "sh", "-c", "seq 1 300000"];
        assert!(round_trip(&lab, &store, &words, None) == sh("seq 1 300000").into_bytes());
    }
    docker(&["rm", "-f", &name]);
}

#[test]
fn a_volume_by_its_folder_and_by_the_engine() {
    needs!("docker", "gpg");
    let (lab, volume) = (Lab::new(), unique("vol"));
    docker(&["volume", "create", &volume]);
    let script = "mkdir /v/d; seq 1 99999 > /v/d/numbers; ln /v/d/numbers /v/hard; ln -s d/numbers /v/soft; mkfifo /v/fifo; \
                  chown 12:34 /v/d/numbers; chmod 4755 /v/d/numbers; head -c 5000000 /dev/urandom > /v/random";
    docker(&["run", "--rm", "--network", "none", "-v", &format!("{volume}:/v"), "bb:1", "sh", "-c", script]);
    let mountpoint = docker(&["volume", "inspect", "-f", "{{.Mountpoint}}", &volume]);
    let expected = sh(&format!(
        "cd {mountpoint}/../..; find {volume}/_data -printf '%p %y\\n' | sed 's/ d$/\\//; s/ .$//' | sort"
    ));
    for store in AnyStore::all(&lab) {
        let tar = round_trip(&lab, &store, &["backup", "volume", &volume], None);
        assert_eq!(tar_names(&tar).join("\n"), sort(&expected));
        let restored = unpack(&lab, &tar);
        same_files(&format!("{restored}/{volume}/_data"), &mountpoint);
    }
    // An engine that is not on this host: the same members, through the archive API.
    let bridge = Bridge::to_engine();
    let store = AnyStore::File(lab.path("remote"));
    let mut command = lab.sealift();
    command.env("DOCKER_HOST", bridge.engine()).args(["backup", "volume", &volume, "--to", &store.url()]);
    crate::support::Ended::from(command.output().expect("sealift runs")).expect(0);
    let by_engine = lab.by_gpg(&store.archive().1, &["zstd", "-d"]);
    let mut names = tar_names(&by_engine);
    names.retain(|name| *name != format!("{volume}/"));
    assert_eq!(names.join("\n"), sort(&expected));
    assert_eq!(
        docker(&["ps", "-aq", "--filter", "label=sealift", "--filter", "ancestor=sealift/empty:1"]),
        ""
    );
    docker(&["volume", "rm", &volume]);
}

/// Names, types, modes, owners, sizes, links and contents.
fn same_files(left: &str, right: &str) {
    let list =
        |dir: &str| sh(&format!("cd {dir}; find . ! -type d -printf '%P %y %m %U:%G %s %n %l\\n' | sort"));
    assert_eq!(list(left), list(right));
    let sums = |dir: &str| sh(&format!("cd {dir}; find . -type f -exec sha256sum {{}} + | sort"));
    assert_eq!(sums(left), sums(right));
}

#[test]
fn several_volumes_in_one_archive_both_ways() {
    needs!("docker", "gpg");
    let (lab, a, b) = (Lab::new(), unique("vola"), unique("volb"));
    for volume in [&a, &b] {
        docker(&[
            "run",
            "--rm",
            "--network",
            "none",
            "-v",
            &format!("{volume}:/v"),
            "bb:1",
            "sh",
            "-c",
            "seq 1 9 > /v/n",
        ]);
    }
    let bridge = Bridge::to_engine();
    for host in [std::env::var("DOCKER_HOST").expect("an engine"), bridge.engine()] {
        let store = AnyStore::File(lab.path(&unique("store")));
        let mut command = lab.sealift();
        command.env("DOCKER_HOST", host).args([
            "backup",
            "volume",
            &a,
            &b,
            "--job",
            JOB,
            "--to",
            &store.url(),
        ]);
        crate::support::Ended::from(command.output().expect("sealift runs")).expect(0);
        let names = tar_names(&lab.by_gpg(&store.archive().1, &["zstd", "-d"]));
        for volume in [&a, &b] {
            assert!(names.contains(&format!("{volume}/_data/n")), "{names:?}");
        }
        lab.run(&["verify", JOB, "--from", &store.url()]).expect(0);
    }
    docker(&["volume", "rm", &a, &b]);
}

fn sort(names: &str) -> String {
    let mut names: Vec<_> = names.lines().collect();
    names.sort_unstable();
    names.join("\n")
}

fn unpack(lab: &Lab, tar: &[u8]) -> String {
    let dir = lab.path(&unique("unpacked"));
    std::fs::create_dir(&dir).expect("a folder");
    feed(std::process::Command::new("tar").args(["-x", "-p", "-C"]).arg(&dir), tar).expect(0);
    dir.display().to_string()
}

#[test]
fn an_image() {
    needs!("docker", "gpg");
    let lab = Lab::new();
    for store in AnyStore::all(&lab) {
        let tar = round_trip(&lab, &store, &["backup", "image", "bb:1"], None);
        let names = tar_names(&tar);
        assert!(names.iter().any(|name| name == "manifest.json"), "{names:?}");
        feed(std::process::Command::new("/usr/bin/docker").arg("load"), &tar).expect(0);
    }
}

#[test]
fn folders_of_the_host() {
    needs!("gpg");
    let lab = Lab::new();
    let long = "n".repeat(180);
    sh(&format!(
        "cd {}; mkdir -p tree/{long}/{long}; echo x > tree/{long}/{long}/deep; truncate -s 3M tree/sparse; \
         echo y >> tree/sparse; touch -d '1960-01-01 UTC' tree/old; setfattr -n user.k -v v tree/old; \
         printf z > \"$(printf 'tree/\\377name')\"",
        lab.dir.display()
    ));
    for store in AnyStore::all(&lab) {
        let tar = round_trip(&lab, &store, &["backup", "path", "tree"], None);
        let restored = unpack(&lab, &tar);
        sh(&format!("diff -r {restored}/tree {}/tree", lab.dir.display()));
        let again = feed(std::process::Command::new("tar").args(["--compare", "-C"]).arg(&lab.dir), &tar);
        again.expect(0);
    }
}

#[test]
fn standard_input() {
    needs!("gpg");
    let lab = Lab::new();
    let input = [text(3_000_000), noise(1, 6_000_000)].concat();
    for store in AnyStore::all(&lab) {
        assert!(round_trip(&lab, &store, &["backup", "stdin"], Some(&input)) == input);
    }
}

#[test]
fn every_size_at_the_seams_is_read_by_gpg_and_by_sequoia() {
    needs!("gpg");
    let lab = Lab::new();
    let store = AnyStore::File(lab.path("store"));
    let (frame, partial) = (4 << 20, 1 << 20);
    let all = noise(2, 2 * frame + partial);
    // Without compression the stream's bytes are the source's: 6 bytes before them in the literal packet, 54 in all
    // in the SEIPD packet.
    let raw =
        [0, 1, partial - 7, partial - 6, partial - 5, partial - 55, partial - 54, partial - 53, partial - 28];
    let raw = raw.map(|size| (size, "none"));
    let zstd = [0, 1, frame - 1, frame, frame + 1, 2 * frame + partial].map(|size| (size, "auto"));
    for (size, codec) in raw.into_iter().chain(zstd) {
        let input = &all[..size];
        lab.backup_stdin(&store.url(), input, &["--allow-empty", "--compress", codec, "--format", "raw"])
            .expect(0);
        let (name, object) = store.archive();
        let packed = lab.by_gpg(&object, &[]);
        let passphrase = secrecy::SecretString::from(crate::support::PASSPHRASE);
        let mut by_sequoia = Vec::new();
        let mut message = sealift::archive::openpgp::decrypt(&object[..], &passphrase).expect("a message");
        message.read_to_end(&mut by_sequoia).expect("a whole message");
        assert!(packed == by_sequoia, "size {size}: gpg and sequoia differ");
        let plain = match codec {
            "none" => packed,
            _ => feed(std::process::Command::new("zstd").arg("-d"), &packed).expect(0).stdout,
        };
        assert!(plain == input, "size {size}, {name}");
        let restored = lab.run(&["restore", JOB, "--to-stdout", "--from", &store.url()]).expect(0).stdout;
        assert!(restored == input, "size {size}: restored");
        sh(&format!("rm -r {}/store", lab.dir.display()));
    }
}

#[test]
fn several_parts_of_every_kind() {
    needs!("s3", "azure", "gpg");
    let lab = Lab::new();
    let input = noise(3, 45 << 20);
    for store in AnyStore::all(&lab) {
        assert!(
            round_trip(&lab, &store, &["backup", "stdin", "--part-size", "16MiB"], Some(&input)) == input
        );
        lab.backup_stdin(
            &store.url(),
            &input,
            &["--part-size", "5MiB", "--max-parts", "20", "--parallel", "2"],
        )
        .expect(0);
        lab.run(&["verify", JOB, "--from", &store.url()]).expect(0);
    }
}

#[test]
fn other_codecs_are_read_by_their_own_tools() {
    needs!("gpg");
    let lab = Lab::new();
    let input = [text(5_000_000), noise(4, 5_000_000)].concat();
    for (codec, suffix, tool) in
        [("gzip", ".gz.gpg", "gzip"), ("xz", ".xz.gpg", "xz"), ("zstd", ".zst.gpg", "zstd")]
    {
        let store = AnyStore::File(lab.path(codec));
        lab.backup_stdin(&store.url(), &input, &["--compress", codec]).expect(0);
        let (name, object) = store.archive();
        assert!(name.ends_with(suffix), "{name}");
        assert!(lab.by_gpg(&object, &[tool, "-d"]) == input, "{codec}");
        lab.run(&["verify", JOB, "--from", &store.url()]).expect(0);
    }
    let store = AnyStore::File(lab.path("clear"));
    let warned = lab.backup_stdin(&store.url(), &input, &["--no-encrypt"]).expect(0);
    assert!(warned.stderr.contains("warning: --no-encrypt"));
    let (name, object) = store.archive();
    assert!(name.ends_with(".zst"), "{name}");
    assert!(feed(std::process::Command::new("zstd").arg("-d"), &object).expect(0).stdout == input);
    // The manifest is anybody's: an archive in the clear is taken only by whoever asks for it.
    let url = store.url();
    for verb in [&["verify", JOB][..], &["restore", JOB, "--to-stdout"]] {
        let words = [verb, &["--from", &url]].concat();
        let refused = lab.run(&words).expect_error(13, "is not encrypted").hint("--no-encrypt");
        assert!(refused.stdout.is_empty());
        let accepted = lab.run(&[&words[..], &["--no-encrypt"]].concat()).expect(0);
        assert!(verb[0] == "verify" || accepted.stdout == input);
    }
}

#[test]
fn the_catalog_is_read_by_gpg_zstd_and_jq_alike() {
    needs!("gpg");
    let lab = Lab::new();
    sh(&format!("cd {}; mkdir tree; seq 1 9 > tree/a; ln tree/a tree/b", lab.dir.display()));
    let store = AnyStore::File(lab.path("store"));
    lab.run(&["backup", "path", "tree", "--to", &store.url()]).expect(0);
    let names = store.names();
    let name = names.iter().find(|name| name.ends_with(".catalog.zst.gpg")).expect("a catalog");
    let catalog = String::from_utf8(lab.by_gpg(&store.read(name), &["zstd", "-d"])).expect("text");
    let lines: Vec<serde_json::Value> =
        catalog.lines().map(|line| serde_json::from_str(line).expect("NDJSON")).collect();
    assert_eq!(lines.first().expect("a line")["archive"]["job"], "tree");
    // Behind the end comes the index.
    let end = lines.iter().find(|line| line["end"] != serde_json::Value::Null);
    assert_eq!(end.expect("an end")["end"]["entries"], 3);
    assert!(lines.last().expect("a line")["page"]["at"].is_number());
    let entry = lines.iter().find(|line| line["entry"]["link"] != serde_json::Value::Null);
    assert_eq!(entry.expect("a hard link")["entry"]["type"], "link");
    let manifest =
        store.read(names.iter().find(|name| name.ends_with(".manifest.json")).expect("a manifest"));
    let manifest = String::from_utf8(manifest).expect("text");
    assert!(!manifest.contains("tree/a"), "no file names in a manifest");
    assert!(sh(&format!("stat -c %a {}/store/tree/*", lab.dir.display())).lines().all(|mode| mode == "600"));
    assert_eq!(sh(&format!("stat -c %a {}/store/tree", lab.dir.display())).trim(), "700");
}

#[test]
fn a_command_of_this_host_is_backed_up_when_it_ends_with_0() {
    let lab = Lab::new();
    let store = lab.file_store();
    let script = r#"echo "dumping $1" >&2; seq 100000; exit ${2:-0}"#;
    let backup = |more: &[&str]| {
        let words = ["backup", "command", "--job", "dump", "--to", &store, "--", "sh", "-c", script, "sh"];
        lab.run(&[&words[..], more].concat())
    };
    let failed = backup(&["app", "7"]).expect_error(1, "sh failed (exit status: 7): dumping app");
    assert!(failed.stderr.contains("dumping app"), "{}", failed.stderr);
    assert!(lab.list(&store).is_empty());
    backup(&["app"]).expect(0);
    assert_eq!(lab.list(&store).len(), 1);
    let restored = lab.run(&["restore", "dump", "--to-stdout", "--from", &store]).expect(0);
    assert_eq!(restored.stdout, sh("seq 100000").into_bytes());
    let shown = lab.run(&["show", "dump", "--from", &store]).expect(0).text();
    assert!(shown.contains("command -- sh -c"), "{shown}");
    lab.write(
        "sealift.toml",
        format!("[jobs.seq]\nsource = \"command\"\ncommand = [\"seq\", \"3\"]\nto = {store:?}\n").as_bytes(),
    );
    lab.run(&["--config", "sealift.toml", "backup", "job", "seq"]).expect(0);
    let restored = lab.run(&["restore", "seq", "--to-stdout", "--from", &store]).expect(0);
    assert_eq!(restored.text(), "1\n2\n3\n");
}
