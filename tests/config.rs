//! The settings file: what it says holds, unless the command line or the environment say otherwise.

use std::process::Command;

use crate::needs;
use crate::support::nights::settle;
use crate::support::{Ended, Lab, a_second_later, docker, leftovers, unique};

/// A lab with a settings file, a store that has a name, and a folder to back up.
fn lab(settings: &str) -> Lab {
    let lab = Lab::new();
    write(&lab, settings);
    std::fs::create_dir(lab.path("data")).expect("a folder");
    lab.write("data/file", b"kept\n");
    lab
}

/// Writes the settings file, with the store that has a name at its end.
fn write(lab: &Lab, settings: &str) {
    let store = format!("[stores.near]\nurl = \"{}\"\n", lab.file_store());
    lab.write("sealift.toml", format!("{settings}\n{store}").as_bytes());
}

/// The command with nothing in its environment that would win over the file.
fn sealift(lab: &Lab) -> Command {
    let mut command = lab.sealift();
    ["SEALIFT_PASSPHRASE_FILE", "SEALIFT_STORE", "SEALIFT_CONFIG"].iter().for_each(|name| {
        command.env_remove(name);
    });
    command.env("XDG_CONFIG_HOME", lab.path("home"));
    command
}

#[track_caller]
fn run(lab: &Lab, line: &str) -> Ended {
    ended(sealift(lab).args(line.split_whitespace()))
}

#[track_caller]
fn ended(command: &mut Command) -> Ended {
    Ended::from(command.output().expect("sealift runs"))
}

const HOST: &str = "passphrase_file = \"passphrase\"\nto = [\"near\"]\nfrom = \"near\"\n\
                    [jobs.host]\nsource = \"path\"\ndirs = [\"data\"]\n";

#[test]
fn a_job_is_backed_up_listed_and_restored_by_names_alone() {
    let lab = lab(HOST);
    let sealed = run(&lab, "backup job host --verbose").expect(0);
    assert!(sealed.stderr.contains("the settings are those of sealift.toml"), "{}", sealed.stderr);
    // Messages name the store by its URL, as ever.
    assert!(sealed.stderr.contains(&format!("→ {}", lab.file_store())), "{}", sealed.stderr);
    for list in ["list", "list --from near"] {
        assert!(run(&lab, list).expect(0).text().contains("\nhost  "), "{list}");
    }
    run(&lab, "verify host").expect(0);
    run(&lab, "restore host --to-path out").expect(0);
    assert_eq!(std::fs::read(lab.path("out/data/file")).expect("the file"), b"kept\n");
    run(&lab, "copy host").expect(2);
    run(&lab, &format!("copy host --make-store --to file://{}", lab.path("far").display())).expect(0);
    let mut by_environment = sealift(&lab);
    ended(by_environment.env("SEALIFT_STORE", "near").args(["verify", "host"])).expect(0);
}

#[test]
fn options_win_over_the_environment_and_that_over_the_job_and_that_over_the_top() {
    let lab = lab(&format!("level = 30\n{HOST}compress = \"gzip\"\nlevel = 2\njob = \"own\"\n"));
    let other = lab.new_store("other");
    run(&lab, "backup job host").expect(0);
    run(&lab, "backup job host --compress none --job given --level 0").expect(0);
    ended(sealift(&lab).env("SEALIFT_STORE", &other).args(["backup", "job", "host"])).expect(0);
    let given = ["backup", "job", "--to", "near", "host", "--job", "flag"];
    ended(sealift(&lab).env("SEALIFT_STORE", &other).args(given)).expect(0);
    let names = |store: &str| crate::support::sh(&format!("cd {}/{store} && ls */*.gpg", lab.dir.display()));
    let near = names("store");
    assert!(near.lines().any(|name| name.starts_with("own/") && name.ends_with(".tar.gz.gpg")), "{near}");
    assert!(near.lines().any(|name| name.starts_with("given/") && name.ends_with(".tar.gpg")), "{near}");
    assert!(near.contains("flag/"), "{near}");
    assert!(names("other").starts_with("own/"));
    // The top's level holds where no job and no option says another; it is one that no codec has.
    run(&lab, "backup path data --level 3").expect(0);
    run(&lab, "backup path data").expect_error(2, "has no level 30");
}

#[test]
fn where_the_file_is_found() {
    let lab = lab(HOST);
    std::fs::create_dir_all(lab.path("home/sealift")).expect("a folder");
    std::fs::rename(lab.path("sealift.toml"), lab.path("home/sealift/sealift.toml")).expect("moved");
    let used = |ended: Ended| {
        let line = ended.stderr.lines().find(|line| line.contains("the settings are those of"));
        line.map(|line| line.rsplit('/').take(2).collect::<Vec<_>>().join(" of ")).unwrap_or_default()
    };
    run(&lab, "backup job host").expect(0);
    assert_eq!(used(run(&lab, "list --verbose").expect(0)), "sealift.toml of sealift");
    std::fs::copy(lab.path("home/sealift/sealift.toml"), lab.path("other.toml")).expect("copied");
    let other = lab.path("other.toml").display().to_string();
    for line in [format!("--config {other} list --verbose"), format!("list --verbose --config {other}")] {
        assert!(used(run(&lab, &line).expect(0)).starts_with("other.toml"), "{line}");
    }
    for line in [format!("--config {other} backup job host"), format!("backup job host --config {other}")] {
        assert!(used(run(&lab, &format!("{line} --verbose")).expect(0)).starts_with("other.toml"), "{line}");
    }
    let named = ended(sealift(&lab).env("SEALIFT_CONFIG", &other).args(["list", "--verbose"])).expect(0);
    assert!(used(named).starts_with("other.toml"));
    lab.write("sealift.toml", b"verbose = true\n");
    let here = run(&lab, &format!("list --from {}", lab.file_store())).stderr;
    assert!(here.contains("those of sealift.toml"), "{here}");
    run(&lab, "list --config none.toml")
        .expect_error(2, "there is no settings file none.toml")
        .hint("--config");
    ended(sealift(&lab).env("SEALIFT_CONFIG", "none.toml").arg("list")).expect_error(2, "none.toml");
}

#[test]
fn what_is_misspelled_is_named_with_what_was_meant() {
    let lab = lab(&format!("{HOST}levle = 3\n"));
    run(&lab, "list")
        .expect_error(2, "sealift.toml:7: [jobs.host] there is no setting \"levle\"")
        .hint("did you mean \"level\"?");
    write(&lab, &format!("{HOST}level = \"much\"\n"));
    run(&lab, "backup job host").expect_error(2, "sealift.toml:7: [jobs.host] level: invalid digit");
    lab.write("sealift.toml", b"[jobs.host\n");
    run(&lab, "list").expect_error(2, "sealift.toml:1: ");
    // Nothing of that stands in the way of help, and of what mends it.
    for line in ["--help", "backup path --help", "--version", "completions bash", "help backup"] {
        run(&lab, line).expect(0);
    }
    write(&lab, &HOST.replace("near", "nera"));
    run(&lab, "list").expect_error(2, "sealift.toml:2: to: \"nera\" is no store");
}

#[test]
fn a_timetable_stands_in_the_file() {
    let top = "limit_rate = \"08:00,20MiB 19:00,off\"\n";
    let lab = lab(&format!("{top}{HOST}limit_rate = \"Mon-09:00,20MiB\"\n"));
    run(&lab, "backup job host").expect(0);
    run(&lab, "restore host --to-path out").expect(0);
    assert_eq!(std::fs::read(lab.path("out/data/file")).expect("the file"), b"kept\n");
    write(&lab, &format!("{HOST}limit_rate = \"8:0,off\"\n"));
    run(&lab, "backup job host")
        .expect_error(2, "sealift.toml:7: [jobs.host] limit_rate: \"8:0,off\" is no entry of a timetable")
        .hint("\"08:00,2MiB 19:00,off\"");
}

#[test]
fn names_that_nothing_has() {
    let lab = lab(HOST);
    run(&lab, "backup job hots").expect_error(2, "there is no job hots").hint("did you mean \"host\"?");
    run(&lab, "list --from naer").expect_error(2, "\"naer\" is no store").hint("did you mean \"near\"?");
    run(&lab, "backup job host data").expect_error(2, "unexpected \"data\"").hint("options alone");
    run(&lab, "backup job host --levle 3").expect(2);
    std::fs::remove_file(lab.path("sealift.toml")).expect("removed");
    run(&lab, "backup job host").expect_error(2, "there is no settings file").hint("--config");
    run(&lab, "list --from near").expect_error(2, "\"near\" is no store").hint("file:///folder");
}

#[test]
fn check_tells_every_problem() {
    let lab = lab(HOST);
    let fine = run(&lab, "config check").expect(0);
    assert_eq!(fine.text(), "sealift.toml: 1 store, 1 job, 0 sets: fine\n");
    let broken = "levle = 3\npassphrase = \"hidden\"\nsecret_access_key = \"hidden\"\n\
                  [stores.far]\nurl = \"s3://key:hidden@bucket\"\nclass = \"x\"\n\
                  [jobs.a]\nsource = \"exce\"\n\
                  [jobs.b]\nsource = \"exec\"\ncontainer = \"db\"\nallow_empty = 1\n\
                  [jobs.c]\nsource = \"path\"\ndirs = [\"x\"]\nto = \"faar\"\nno_encrypt = true\npassphrase_file = \"p\"\n\
                  [jobs.d]\nsource = \"path\"\ndirs = [\"x\"]\nto = \"file:///x\"\nsse_kms_key_id = \"k\"\nschedule = 2\n\
                  [jobs.e]\nsource = \"path\"\ndirs = [\"x\"]\n\
                  [sets.s]\njobs = [\"a\", \"f\", \"a\"]\n";
    lab.write("broken.toml", broken.as_bytes());
    lab.write("p", b"");
    lab.write("x", b"");
    let told = run(&lab, "config check --config broken.toml").expect_error(2, "problems");
    let text = told.text();
    for (line, words) in [
        (1, "there is no setting \"levle\"; did you mean \"level\"?"),
        (2, "holds no secrets: \"passphrase\" cannot stand here; passphrase_file"),
        (3, "holds no secrets: \"secret_access_key\""),
        (5, "[stores.far] url: a store's URL carries no credentials"),
        (6, "[stores.far] there is no setting \"class\""),
        (8, "[jobs.a] \"exce\" is no source; did you mean \"exec\"?"),
        (9, "[jobs.b] has no command"),
        (12, "[jobs.b] allow_empty is true or false"),
        (16, "[jobs.c] to: \"faar\" is no store; did you mean \"far\"?"),
        (18, "[jobs.c] no_encrypt and passphrase_file exclude each other"),
        (24, "[jobs.d] schedule: \"2\" is no cron expression"),
        (25, "[jobs.e] job e: the following required arguments were not provided: --to <STORE>"),
        (29, "[sets.s] there is no job \"f\""),
        (29, "[sets.s] job \"a\" is named twice"),
    ] {
        let start = format!("broken.toml:{line}: ");
        let found = text.lines().any(|told| told.starts_with(&start) && told.contains(words));
        assert!(found, "{line}: {words} is not in:\n{text}");
    }
    assert_eq!(text.lines().count(), 14, "{text}");
    assert!(!text.contains("hidden") && !told.stderr.contains("hidden"), "{text}");
    let json = run(&lab, "config check --config broken.toml --json").expect(2).text();
    let first: serde_json::Value = serde_json::from_str(json.lines().next().expect("a line")).expect("JSON");
    assert_eq!((first["line"].as_u64(), first["event"].as_str()), (Some(1), Some("problem")));
    // Any verb refuses such a file as a whole.
    run(&lab, "list --config broken.toml")
        .expect_error(2, "broken.toml:1: ")
        .hint("12 more: `sealift config check`");
}

#[test]
fn show_gives_no_secret_away() {
    let lab = lab("passphrase_command = \"echo hidden\"\nto = \"near\"\n\
         [jobs.run]\nsource = \"run\"\nimage = \"bb:1\"\nenv = [\"A=hidden\", \"B\"]\nlevel = 5\n");
    let shown = run(&lab, "config show").expect(0).text();
    assert!(!shown.contains("hidden"), "{shown}");
    let read: toml::Table = toml::from_str(&shown).expect("TOML");
    assert_eq!(read["passphrase_command"].as_str(), Some("<redacted>"));
    let job = &read["jobs"]["run"];
    assert_eq!(job["env"].as_array().expect("a list")[0].as_str(), Some("A=<redacted>"));
    assert_eq!((job["to"].as_str(), job["level"].as_integer()), (Some("near"), Some(5)));
    let json = run(&lab, "config show --json").expect(0).text();
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["jobs"]["run"]["env"], serde_json::json!(["A=<redacted>", "B"]));
    assert_eq!(json["top"]["passphrase_command"], "<redacted>");
}

/// Which of the passphrases opens the newest archive of a job.
#[track_caller]
fn sealed_with(lab: &Lab, job: &str) -> String {
    let opens =
        |name: &&str| run(lab, &format!("verify {job} --from near --passphrase-file {name}")).code == 0;
    ["top", "own", "flag", "env"].into_iter().find(opens).unwrap_or("none of them").into()
}

#[test]
fn the_passphrase_is_the_one_that_was_given_nearest() {
    let lab = lab("passphrase_file = \"top\"\nto = \"near\"\n\
         [jobs.plain]\nsource = \"path\"\ndirs = [\"data\"]\n\
         [jobs.own]\nsource = \"path\"\ndirs = [\"data\"]\npassphrase_command = \"cat own\"\n");
    for name in ["top", "own", "flag", "env"] {
        lab.write(name, format!("passphrase of {name}\n").as_bytes());
    }
    let variables = [
        ("SEALIFT_PASSPHRASE", "passphrase of env"),
        ("SEALIFT_PASSPHRASE_FILE", "env"),
        ("SEALIFT_PASSPHRASE_COMMAND", "cat env"),
    ];
    for (job, of_file) in [("plain", "top"), ("own", "own")] {
        let backup = |more: &str, variable: Option<(&str, &str)>| {
            let (mut command, own) = (sealift(&lab), unique("own"));
            command.envs(variable).args(["backup", "job", job, "--job", &own]);
            // Words that hold a space are separated by a bar.
            ended(command.args(more.split('|').filter(|word| !word.is_empty()))).expect(0);
            sealed_with(&lab, &own)
        };
        assert_eq!(backup("", None), of_file, "{job}");
        assert_eq!(backup("--passphrase-file|flag", None), "flag", "{job}");
        assert_eq!(backup("--passphrase-command|cat flag", None), "flag", "{job}");
        for variable in variables {
            assert_eq!(backup("", Some(variable)), "env", "{job} {variable:?}");
        }
        assert_eq!(backup("--passphrase-command|cat flag", Some(variables[1])), "flag", "{job}");
    }
    // Reading verbs as well.
    run(&lab, "backup job plain").expect(0);
    run(&lab, "verify plain --from near").expect(0);
    ended(sealift(&lab).env("SEALIFT_PASSPHRASE", "x").args(["verify", "plain", "--from", "near"]))
        .expect(12);
}

#[test]
fn no_encrypt_and_a_passphrase_exclude_each_other_wherever_they_stand() {
    let lab = lab("to = \"near\"\nno_encrypt = true\n\
         [jobs.clear]\nsource = \"path\"\ndirs = [\"data\"]\n\
         [jobs.sealed]\nsource = \"path\"\ndirs = [\"data\"]\npassphrase_file = \"passphrase\"\n\
         [jobs.closed]\nsource = \"path\"\ndirs = [\"data\"]\nno_encrypt = false\n");
    let encrypted = |job: &str| {
        let found = crate::support::sh(&format!("ls -t {}/store/{job}/*.tar.zst*", lab.dir.display()));
        found.lines().next().expect("an archive").ends_with(".gpg")
    };
    run(&lab, "backup job clear").expect(0);
    assert!(!encrypted("clear"));
    run(&lab, "backup job clear --job flag --passphrase-file passphrase").expect(0);
    assert!(encrypted("flag"));
    run(&lab, "backup job sealed").expect(0);
    assert!(encrypted("sealed"));
    run(&lab, "backup job sealed --job open --no-encrypt").expect(0);
    assert!(!encrypted("open"));
    let mut closed = sealift(&lab);
    ended(closed.env("SEALIFT_PASSPHRASE_FILE", "passphrase").args(["backup", "job", "closed"])).expect(0);
    assert!(encrypted("closed"));
    // One that excludes another only where both are given on the line is an error there, as ever.
    run(&lab, "backup job clear --no-encrypt --passphrase-file passphrase").expect(2);
}

#[test]
fn flags_are_true_or_false_and_views_exclude_each_other() {
    let lab = lab("quiet = true\nto = \"near\"\npassphrase_file = \"passphrase\"\n\
         [jobs.nothing]\nsource = \"stdin\"\nallow_empty = true\n");
    let feed = |more: &[&str]| {
        let mut command = sealift(&lab);
        crate::support::feed(command.args([&["backup", "job", "nothing"], more].concat()), b"")
    };
    assert_eq!(feed(&[]).expect(0).stderr, "");
    assert!(feed(&["--json"]).expect(0).text().contains("\"event\":\"sealed\""));
    lab.write(
        "off.toml",
        std::fs::read_to_string(lab.path("sealift.toml"))
            .expect("a file")
            .replace("true", "false")
            .as_bytes(),
    );
    feed(&["--config", "off.toml"]).expect_error(1, "").hint("--allow-empty");
}

#[test]
fn what_is_said_of_a_store_holds_for_that_store_alone() {
    let lab = lab(HOST);
    std::fs::create_dir_all(lab.path("store-2")).expect("a folder");
    let two = format!(
        "passphrase_file = \"passphrase\"\nto = [\"near\", \"far\"]\n\
         [stores.near]\nurl = \"{0}\"\n[stores.far]\nurl = \"{0}-2\"\nsse = \"aws:kms\"\nretry_for = \"1s\"\n",
        lab.file_store()
    );
    lab.write("sealift.toml", two.as_bytes());
    let warned = run(&lab, "backup path data").expect(0);
    let of = |store: &str| warned.stderr.contains(&format!("--sse has no effect at {store}\n"));
    assert!(of(&format!("{}-2", lab.file_store())) && !of(&lab.file_store()), "{}", warned.stderr);
}

#[test]
fn jobs_of_the_settings_are_made_of_increments_until_a_full_is_due() {
    let top = "passphrase_file = \"passphrase\"\nto = \"near\"\nincremental = true\nsegment = \"off\"\nfull_every = \"30d\"\n";
    let jobs = "[jobs.one]\nsource = \"path\"\ndirs = [\"data\"]\n\
                [jobs.two]\nsource = \"path\"\ndirs = [\"more\"]\n\
                [jobs.plain]\nsource = \"path\"\ndirs = [\"data\"]\nincremental = false\n\
                [sets.all]\njobs = [\"one\", \"two\", \"plain\"]\n";
    let lab = lab(&format!("{top}{jobs}"));
    std::fs::create_dir(lab.path("more")).expect("a folder");
    lab.write("more/file", b"kept\n");
    settle();
    let kept = |line: &str| {
        a_second_later();
        let text = run(&lab, &format!("{line} --json")).expect(0).text();
        let events = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
        let sealed = events.filter(|event| event["event"] == "sealed");
        sealed.map(|event| event["kept"]["entries"].as_u64()).collect::<Vec<_>>()
    };
    assert_eq!(kept("backup set all"), [None, None, None]);
    assert_eq!(kept("backup set all"), [Some(2), Some(2), None]);
    assert_eq!(kept("backup job one"), [Some(2)]);
    assert_eq!(kept("backup job one --full"), [None]);
    assert_eq!(kept("backup job one"), [Some(2)]);
    write(&lab, &format!("{top}{jobs}").replace("30d", "1s"));
    assert_eq!(kept("backup job one"), [None], "the last full one is older than that");
    assert_eq!(kept("backup job one --full-every 30d"), [Some(2)]);
    let by_content = format!("{top}compare = \"content\"\n{jobs}");
    write(&lab, &by_content);
    assert_eq!(kept("backup job one"), [None], "no hashes are known");
    assert_eq!(kept("backup job one"), [Some(2)]);
    write(&lab, &by_content.replace("content", "contents"));
    let refused = run(&lab, "config check").expect(2);
    let told = refused.text();
    assert!(told.contains("compare: invalid value 'contents'"), "{told}");
    write(&lab, &by_content);
    for job in ["one", "two", "plain"] {
        run(&lab, &format!("verify {job} --whole --from near")).expect(0);
        run(&lab, &format!("restore {job} --to-path {job} --from near")).expect(0);
    }
    assert_eq!(std::fs::read(lab.path("two/more/file")).expect("the file"), b"kept\n");
}

#[test]
fn a_job_that_is_a_container() {
    needs!("docker");
    let name = unique("job");
    let lab = lab(&format!(
        "passphrase_file = \"passphrase\"\nto = \"near\"\nfrom = \"near\"\n\
         [jobs.\"team/{name}\"]\nsource = \"run\"\nimage = \"bb:1\"\nname = \"{name}\"\n\
         env = [\"WHAT=said\"]\nentrypoint = \"sh\"\ncommand = [\"-c\", \"echo -n $WHAT\"]\n"
    ));
    run(&lab, &format!("backup job team/{name}")).expect(0);
    assert_eq!(run(&lab, &format!("restore team/{name} --to-stdout")).expect(0).text(), "said");
    // Options of that source alone are taken as well.
    a_second_later();
    run(&lab, &format!("backup job team/{name} -e WHAT=given")).expect(0);
    assert_eq!(run(&lab, &format!("restore team/{name} --to-stdout")).expect(0).text(), "given");
    assert_eq!(leftovers(&name), [""; 0]);
    assert!(docker(&["images", "-q", "bb:1"]).len() > 1);
}

#[test]
fn a_file_to_begin_with_is_right_as_it_is_and_never_replaces_one() {
    let lab = Lab::new();
    let init = |words: &str| {
        let mut command = sealift(&lab);
        ended(
            command
                .env("DOCKER_HOST", "unix:///nowhere")
                .args(["config", "init"])
                .args(words.split_whitespace()),
        )
    };
    let written = init("").expect(0);
    assert!(written.stderr.contains("no containers and volumes were looked for"), "{}", written.stderr);
    let text = std::fs::read_to_string(lab.path("sealift.toml")).expect("the settings");
    assert_eq!(init("-").expect(0).text(), text);
    let checked = run(&lab, "config check").expect(0);
    assert!(checked.text().contains("sealift.toml: 1 store, 1 job, 1 set: fine"), "{}", checked.text());
    init("").expect_error(2, "sealift.toml is there already, and is left as it is");
    std::os::unix::fs::symlink("elsewhere.toml", lab.path("link.toml")).expect("a link");
    init("link.toml").expect_error(2, "link.toml is there already");
    assert!(!lab.path("elsewhere.toml").exists());
    assert_eq!(std::fs::read_to_string(lab.path("sealift.toml")).expect("the settings"), text);
    init("no/such/folder.toml").expect_error(1, "cannot write no/such/folder.toml");
    init("other.toml --config third.toml").expect(0);
    assert!(lab.path("other.toml").exists() && !lab.path("third.toml").exists());
}
