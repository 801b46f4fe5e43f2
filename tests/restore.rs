//! `restore`: into folders, volumes, containers and the image store.

use std::io::Read;
use std::process::{Command, Stdio};

use crate::needs;
use crate::support::bridge::Bridge;
use crate::support::{AnyStore, Ended, JOB, Lab, docker, feed, noise, sh, text, unique, watch};

/// A listing that shows owners, modes, links, sizes, times and what is stored of them.
pub fn listing(dir: &str) -> String {
    sh(&format!(
        "cd {dir}; find . -type d -printf '%P %y %m %U:%G %n %T@\\n' | sort; \
         find . ! -type d -printf '%P %y %m %U:%G %s %n %T@ %l\\n' | sort; \
         getfattr -R -h -d -m - . | sort; getfacl -R -P -n -p . | sort"
    ))
}

/// A volume with everything that a file system knows: so many small files, and a large one.
pub fn full_volume(volume: &str, files: u32, noise: u64) -> String {
    docker(&["volume", "create", volume]);
    let dir = docker(&["volume", "inspect", "-f", "{{.Mountpoint}}", volume]);
    sh(&format!(
        "cd {dir}; mkdir -p small/a deep/{long}/{long}; for i in $(seq 1 {files}); do echo $i > small/a/$i; done; \
         head -c {noise} /dev/urandom > large; ln large hard; ln -s ../nowhere soft; mkfifo fifo; \
         truncate -s 50M sparse; printf end | dd of=sparse bs=1 seek=30000000 conv=notrunc status=none; \
         chown 1234:5678 large; chmod 2750 small; setfattr -n user.k -v value large; setfacl -m u:99:r large; \
         touch -d '2001-02-03 04:05:06.123456789' small/a/7",
        long = "n".repeat(150),
    ));
    dir
}

#[test]
fn a_large_volume_through_s3_into_a_new_volume_is_the_same() {
    needs!("docker", "s3");
    let (lab, from, to) = (Lab::new(), unique("full"), unique("back"));
    // 20,000 small files, and one of 2 GiB of which a quarter does not compress.
    let dir = full_volume(&from, 20_000, 512 << 20);
    sh(&format!(
        "cd {dir}; seq 1 400000000 2>/dev/null | head -c {} >> large || true; stat -c %s large",
        3u64 << 29
    ));
    lab.write("one", &noise(31, 1 << 20));
    sh(&format!("mv {}/one {dir}/one; chown 1234:5678 {dir}/large", lab.dir.display()));
    let store = AnyStore::S3(unique("p"));
    lab.run(&["backup", "volume", &from, "--job", JOB, "--to", &store.url()]).expect(0);
    let restore = |more: &[&str]| {
        let mut command = lab.sealift();
        command.args(["restore", JOB, "--to-volume", &to, "--from", &store.url(), "--verbose"]).args(more);
        command.stderr(Stdio::piped()).spawn().expect("sealift runs")
    };
    let mut child = restore(&[]);
    let most = watch(&mut child);
    let ended = Ended::from(child.wait_with_output().expect("sealift ends")).expect(0);
    assert!(ended.stderr.contains("up to 256.00 MiB of memory"), "{}", ended.stderr);
    assert!(most <= 256, "{most} MiB");
    eprintln!("VmHWM of a restore of 2 GiB: {most} MiB");
    let back = docker(&["volume", "inspect", "-f", "{{.Mountpoint}}", &to]);
    assert!(listing(&back) == listing(&dir), "the listings differ");
    sh(&format!("tar -c --sparse -C {dir} . | tar --compare -C {back}"));
    let blocks = |dir: &str| sh(&format!("stat -c %b {dir}/sparse")).trim().parse::<u64>().expect("a number");
    assert!(blocks(&back) < 1000, "holes are filled: {} blocks", blocks(&back));

    // One file of it: what the server sends is the catalog, the frames that hold the file, and some answers.
    let bridge = Bridge::to_s3_cut_after(u64::MAX, 0);
    let mut cat = lab.sealift();
    cat.env("AWS_ENDPOINT_URL", bridge.s3());
    cat.args(["cat", JOB, &format!("{from}/_data/one"), "--from", &store.url()]);
    let one = Ended::from(cat.output().expect("sealift runs")).expect(0).stdout;
    assert!(one == noise(31, 1 << 20));
    let names = store.names();
    let catalog =
        store.read(names.iter().find(|name| name.contains(".catalog")).expect("a catalog")).len() as u64;
    let sent = bridge.take_back();
    // 1 MiB lies in two frames of 4 MiB at most.
    let most = catalog + 2 * (4 << 20) + (64 << 10);
    eprintln!("one file of 1 MiB out of 2 GiB: the server sent {sent} bytes, {catalog} of them the catalog");
    assert!(sent > 1 << 20 && sent <= most, "{sent} of at most {most}");
    docker(&["volume", "rm", &from, &to]);
}

#[test]
fn a_volume_into_one_that_is_not_empty() {
    needs!("docker");
    let (lab, from, to) = (Lab::new(), unique("full"), unique("back"));
    let dir = full_volume(&from, 100, 1 << 20);
    let store = lab.file_store();
    lab.run(&["backup", "volume", &from, "--job", JOB, "--to", &store]).expect(0);
    let restore =
        |more: &[&str]| lab.run(&[&["restore", JOB, "--to-volume", &to, "--from", &store], more].concat());
    restore(&[]).expect(0);
    let back = docker(&["volume", "inspect", "-f", "{{.Mountpoint}}", &to]);
    restore(&[]).expect_error(1, "is not empty").hint("--overwrite");
    restore(&["--overwrite"]).expect(0);
    assert_eq!(listing(&back), listing(&dir));
    docker(&["volume", "rm", &from, &to]);
}

#[test]
fn a_connection_that_breaks_is_taken_up_again_and_an_object_that_changes_is_refused() {
    needs!("s3");
    let lab = Lab::new();
    let store = AnyStore::S3(unique("p"));
    let input = noise(32, 60_000_000);
    lab.backup_stdin(&store.url(), &input, &["--format", "raw"]).expect(0);
    let bridge = Bridge::to_s3_cut_after(3_000_000, 6);
    let restore = || {
        let mut command = lab.sealift();
        command.env("AWS_ENDPOINT_URL", bridge.s3());
        command.args(["restore", JOB, "--to-stdout", "--from", &store.url()]).stdout(Stdio::piped());
        command.stderr(Stdio::piped()).spawn().expect("sealift runs")
    };
    let ended = Ended::from(restore().wait_with_output().expect("sealift ends")).expect(0);
    assert!(ended.stdout == input);
    assert_eq!(bridge.cuts.load(std::sync::atomic::Ordering::SeqCst), 6, "the connections were not cut");

    // Put again while it is read: the reader has come to a stop, because nobody takes what it writes.
    let (name, good) = store.archive();
    let mut child = restore();
    let mut stdout = child.stdout.take().expect("a stdout");
    let mut first = vec![0; 1 << 20];
    stdout.read_exact(&mut first).expect("bytes");
    let mut other = good.clone();
    other[50_000_000] ^= 1;
    store.write(&name, &other);
    let mut rest = Vec::new();
    stdout.read_to_end(&mut rest).expect("bytes");
    let ended = Ended::from(child.wait_with_output().expect("sealift ends"));
    ended.expect_error(13, "changed while it was read").hint("incomplete");
    assert!(input.starts_with(&[first, rest].concat()));
}

#[test]
fn a_volume_into_an_engine_that_is_somewhere_else() {
    needs!("docker");
    let (lab, from, to) = (Lab::new(), unique("full"), unique("back"));
    let dir = full_volume(&from, 2_000, 20_000_000);
    let store = lab.file_store();
    lab.run(&["backup", "volume", &from, "--job", JOB, "--to", &store]).expect(0);
    let bridge = Bridge::to_engine();
    let restore = |more: &[&str]| {
        let mut command = lab.sealift();
        command
            .env("DOCKER_HOST", bridge.engine())
            .args(["restore", JOB, "--to-volume", &to, "--from", &store])
            .args(more);
        Ended::from(command.output().expect("sealift runs"))
    };
    restore(&[]).expect(0);
    let back = docker(&["volume", "inspect", "-f", "{{.Mountpoint}}", &to]);
    // What the archive API keeps: names, types, modes, owners, sizes, links and contents.
    let kept = |dir: &str| {
        sh(&format!(
            "cd {dir}; find . -mindepth 1 -type d -printf '%P %m %U:%G %n\\n' | sort; \
             find . ! -type d -printf '%P %y %m %U:%G %s %n %l\\n' | sort"
        ))
    };
    assert_eq!(kept(&back), kept(&dir));
    sh(&format!("cmp {dir}/large {back}/large; cmp {dir}/sparse {back}/sparse"));
    restore(&[]).expect_error(1, "is not empty");
    assert_eq!(docker(&["ps", "-aq", "--filter", "label=sealift", "--filter", &format!("volume={to}")]), "");
    docker(&["volume", "rm", &from, &to]);
}

#[test]
fn a_folder_and_some_members_of_it() {
    let lab = Lab::new();
    let dir = lab.dir.display();
    sh(&format!(
        "cd {dir}; mkdir -p t/etc t/srv; seq 1 9 > t/etc/a.conf; seq 1 99 > t/srv/big; ln t/srv/big t/etc/hard; ln -s x t/etc/soft"
    ));
    let store = lab.file_store();
    lab.run(&["backup", "path", "t", "--to", &store]).expect(0);
    let restore = |target: &str, more: &[&str]| {
        lab.run(&[&["restore", "t", "--to-path", target, "--from", &store], more].concat())
    };
    restore("whole", &[]).expect(0);
    sh(&format!("cd {dir}; diff -r --no-dereference t whole/t"));
    restore("whole", &[]).expect_error(1, "is not empty").hint("--overwrite");
    restore("none/none", &[]).expect_error(1, "cannot make folder");
    // A hard link brings its target's bytes; which of the two names is the link is up to tar.
    let entries = lab.run(&["ls", "t", "--json", "--from", &store]).expect(0).text();
    let link = entries.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
    let link = link.into_iter().find(|entry| entry["type"] == "link").expect("a hard link");
    let link = link["path"].as_str().expect("its name").to_string();
    restore("some", &["--include", &link, "--include", "t/etc/s*"]).expect(0);
    let found = sh(&format!("cd {dir}/some; find . ! -type d | sort; cmp {link} ../t/srv/big"));
    assert_eq!(found.split_whitespace().collect::<Vec<_>>(), ["./t/etc/hard", "./t/etc/soft", "./t/srv/big"]);
    restore("less", &["--include", "t/etc", "--exclude", "*.conf", "--exclude", "*hard"]).expect(0);
    assert_eq!(sh(&format!("cd {dir}/less; find . ! -type d")), "./t/etc/soft\n");
    restore("nothing", &["--include", "nowhere"]).expect_error(10, "no member matches").hint("sealift ls");
    assert!(!lab.path("nothing").exists(), "nothing was made for nothing");
    let tar =
        lab.run(&["restore", "t", "--to-stdout", "--include", "*.conf", "--from", &store]).expect(0).stdout;
    assert_eq!(feed(Command::new("tar").arg("-t"), &tar).expect(0).text(), "t/etc/a.conf\n");
}

#[test]
fn a_stores_files_are_private_and_restored_ones_are_as_they_were() {
    let lab = Lab::new();
    let dir = lab.dir.display();
    let store = format!("file://{dir}/made");
    sh(&format!("cd {dir}; umask 022; mkdir -p t/a; echo x > t/a/f"));
    // What the environment would add to tar's options is not heeded.
    let words = ["backup", "path", "t", "--make-store", "--to", &store];
    Ended::from(lab.sealift().args(words).env("TAR_OPTIONS", "--exclude=f").output().expect("sealift runs"))
        .expect(0);
    lab.run(&["verify", "t", "--from", &store]).expect(0);
    let open = sh(&format!("cd {dir}/made; find . -perm /077"));
    assert_eq!(open, "", "readable for others");
    assert_eq!(sh(&format!("cd {dir}/made; find . -type f | wc -l")), "4\n");
    // Folders around a member, which are in no tar, are made with the umask of whoever restores.
    let restore = format!("restore t --include t/a/f --to-path {dir}/new --from {store}");
    let restored = lab.sealift().args(restore.split(' ')).output().expect("sealift runs");
    Ended::from(restored).expect(0);
    assert_eq!(
        sh(&format!("cd {dir}/new; find . -printf '%m %P\n' | sort")),
        "644 t/a/f\n755 \n755 t\n755 t/a\n"
    );
}

#[test]
fn a_symlink_that_stands_in_the_way_is_not_followed() {
    let lab = Lab::new();
    let dir = lab.dir.display();
    sh(&format!(
        "cd {dir}; mkdir -p t/d target outside; echo new > t/d/passwd; ln -s {dir}/outside target/link"
    ));
    let store = lab.file_store();
    lab.run(&["backup", "path", "t", "--to", &store]).expect(0);
    // Whoever fills the target has put a symlink where a folder was.
    sh(&format!("cd {dir}; mkdir target/t; ln -s {dir}/outside target/t/d; chmod 750 t/d"));
    for more in [&["--include", "t/d/passwd"][..], &[]] {
        let words = ["restore", "t", "--to-path", "target", "--overwrite", "--from", &store];
        lab.run(&[&words[..], more].concat()).expect(0);
        assert_eq!(
            sh(&format!("cd {dir}; ls outside; cat target/t/d/passwd; readlink target/link")),
            format!("new\n{dir}/outside\n")
        );
        sh(&format!("cd {dir}; rm -r target/t/d; ln -s {dir}/outside target/t/d"));
    }
}

#[test]
fn a_process_gets_the_bytes_and_its_exit_code_is_ours() {
    needs!("docker");
    let (lab, name) = (Lab::new(), unique("sink"));
    let store = lab.file_store();
    let input = [text(9_000_000), noise(8, 9_000_000)].concat();
    lab.backup_stdin(&store, &input, &[]).expect(0);
    let sum = |bytes: &[u8]| feed(&mut Command::new("sha256sum"), bytes).expect(0).text();
    let restore = |words: &[&str]| lab.run(&[&["restore", JOB, "--from", &store], words].concat());

    let ran = restore(&[
        "--to-run",
        "--network",
        "none",
        "-e",
        "A=b",
        "bb:1",
        "sh",
        "-c",
        "test $A = b; echo said >&2; sha256sum",
    ]);
    let ran = ran.expect(0);
    assert_eq!(ran.text(), sum(&input));
    assert!(ran.stderr.contains("said"));
    restore(&["--to-run", "--network", "none", "bb:1", "sh", "-c", "cat > /dev/null; exit 7"]).expect(7);
    restore(&["--to-run"]).expect(2);
    restore(&["--to-run", "-t", "bb:1"]).expect_error(2, "-t (--tty) is refused");
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

    docker(&["run", "-d", "--name", &name, "--network", "none", "bb:1", "sleep", "600"]);
    assert_eq!(restore(&["--to-exec", &name, "sha256sum"]).expect(0).text(), sum(&input));
    restore(&["--to-exec", &name, "sh", "-c", "cat > /dev/null; exit 9"]).expect(9);
    docker(&["rm", "-f", &name]);
}

#[test]
fn images_are_loaded_again() {
    needs!("docker");
    let lab = Lab::new();
    let (store, image) = (lab.file_store(), format!("{}:1", unique("img")));
    docker(&["tag", "bb:1", &image]);
    lab.run(&["backup", "image", &image, "--job", JOB, "--to", &store]).expect(0);
    docker(&["rmi", &image]);
    lab.run(&["restore", JOB, "--to-image", "--from", &store]).expect(0);
    docker(&["inspect", &image]);
    docker(&["rmi", &image]);
}
