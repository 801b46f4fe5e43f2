//! The words of `restore` become requests, and those that contradict each other do not.

use super::*;
use crate::cli::{Cli, Verb};
use crate::job::version::Version;
use clap::Parser;

const ID: &str = "20261122T020000Z-1f2e3d4c";

fn parse(line: &str) -> Verb {
    Cli::try_parse_from(line.split(' ')).unwrap_or_else(|e| panic!("{line}: {e}")).verb
}

fn refused(line: &str) -> clap::Error {
    Cli::try_parse_from(line.split(' ')).err().unwrap_or_else(|| panic!("{line} was taken"))
}

fn restore(line: &str) -> Result<RestoreRequest> {
    match parse(&format!("sealift restore --from memory:///x {line}")) {
        Verb::Restore(Restore::Archive(restore)) => restore.request(),
        other => panic!("{other:?}"),
    }
}

fn restore_set(line: &str) -> RestoreSet {
    match parse(line) {
        Verb::Restore(Restore::Set(set)) => *set,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_restore_reads_the_catalog_unless_asked_not_to() {
    assert!(matches!(restore("db --to-stdout").unwrap().source, RestoreSource::Archive(a) if a.job == "db"));
    let front = restore(&format!("db@{ID} --sequential --to-stdout")).unwrap().source;
    assert!(matches!(front, RestoreSource::Front(archive) if archive.version != Version::Latest));
    let object = restore("old/Dump.tar.gz.gpg --object --to-stdout").unwrap().source;
    assert!(matches!(object, RestoreSource::Object(key) if key == "old/Dump.tar.gz.gpg"));
}

#[test]
fn an_archive_to_restore_must_be_one() {
    let error = restore("Upper --to-stdout").unwrap_err();
    assert_eq!(error.kind().exit_code(), 2);
    assert!(error.to_string().contains("is no job name"), "{error}");
}

#[test]
fn every_target_is_read() {
    let target = |line: &str| restore(line).unwrap().target;
    assert!(matches!(target("db --to-stdout"), RestoreTarget::Stdout));
    assert!(matches!(target("db --to-path /mnt"), RestoreTarget::Path(dir) if dir.ends_with("mnt")));
    assert!(matches!(target("db --to-volume v"), RestoreTarget::Volume(name) if name == "v"));
    assert!(matches!(target("db --to-image"), RestoreTarget::Image));
    let RestoreTarget::Exec(container, command) = target("db --to-exec c psql -U x") else {
        panic!("no exec")
    };
    assert_eq!((container.as_str(), command.join(" ").as_str()), ("c", "psql -U x"));
    let RestoreTarget::Run(spec) = target("db --to-run -e A=b img restore --to-path y") else {
        panic!("no run")
    };
    assert_eq!((spec.image.as_str(), spec.command.join(" ")), ("img", "restore --to-path y".into()));
}

#[test]
fn words_that_are_missing_or_stray_are_named() {
    for (line, text) in [
        ("db --to-stdout more", "unexpected \"more\""),
        ("db --to-exec", "--to-exec needs a container and a command"),
        ("db --to-exec c", "--to-exec needs a container and a command"),
        ("db --to-run", "--to-run: "),
        ("db --to-run -t img", "-t (--tty) is refused"),
    ] {
        let error = restore(line).unwrap_err();
        assert!(error.to_string().starts_with(text), "{line}: {error}");
        assert!(error.kind().exit_code() == 2 && error.hint_text().is_some(), "{line}");
    }
}

#[test]
fn a_dry_run_needs_a_catalog() {
    assert!(restore("db -n --to-stdout").unwrap().dry_run && !restore("db --to-stdout").unwrap().dry_run);
    for line in ["db -n --sequential --to-stdout", "x.gz --dry-run --object --to-stdout"] {
        let error = refused(&format!("sealift restore --from memory:///x {line}"));
        assert_eq!(error.kind(), ErrorKind::ArgumentConflict, "{line}");
    }
}

#[test]
fn what_is_selected_and_allowed_reaches_the_request() {
    let request = restore("db --to-path d --include a --include b --exclude c --overwrite").unwrap();
    assert_eq!((request.include.join(","), request.exclude.join(",")), ("a,b".into(), "c".into()));
    assert!(request.overwrite && !request.allow_devices && !request.open.no_encrypt);
    assert!(restore("db --to-path d --allow-devices --no-encrypt").unwrap().open.no_encrypt);
}

#[test]
fn of_several_volumes_one_is_said_or_all_are() {
    let one = restore("vs --to-volume new --from-volume b").unwrap();
    assert!(matches!(one.target, RestoreTarget::Volume(name) if name == "new"));
    assert_eq!(one.from_volume.as_deref(), Some("b"));
    assert!(matches!(restore("vs --to-volumes").unwrap().target, RestoreTarget::Volumes));
    for line in [
        "vs --to-volumes --from-volume b",
        "vs --to-path d --from-volume b",
        "vs --to-volumes --to-volume b",
        "vs --to-volumes --sequential",
        "vs --to-volume b --from-volume b --object",
    ] {
        refused(&format!("sealift restore --from memory:///x {line}"));
    }
}

#[test]
fn the_words_of_a_step_are_those_of_the_command_line() {
    let open = || restore("db --to-stdout --no-encrypt").unwrap().open;
    let words = |line: &str| line.split(' ').map(String::from).collect::<Vec<_>>();
    let archive = format!("db@{ID}");
    let request =
        RestoreArchive::request_of_words(&archive, &words("--to-path /srv --overwrite"), open()).unwrap();
    assert!(matches!(request.target, RestoreTarget::Path(dir) if dir.ends_with("srv")));
    assert!(request.overwrite && request.open.no_encrypt);
    let run = "--to-run --name ucp -v /a:/a --security-opt label=disable docker/ucp:3 restore";
    let request = RestoreArchive::request_of_words(&archive, &words(run), open()).unwrap();
    let RestoreTarget::Run(spec) = request.target else { panic!("no run") };
    assert_eq!((spec.name.as_deref(), spec.image.as_str()), (Some("ucp"), "docker/ucp:3"));
    assert_eq!((spec.volumes.join(","), spec.command.join(" ")), ("/a:/a".into(), "restore".into()));
    let error = RestoreArchive::request_of_words(&archive, &words("--to-moon"), open()).unwrap_err();
    assert!(error.to_string().contains("no words of `restore`") && error.kind().exit_code() == 2, "{error}");
}

#[test]
fn a_restore_has_one_target() {
    let missing = refused("sealift restore db --from memory:///x");
    assert_eq!(missing.kind(), ErrorKind::MissingRequiredArgument);
    let both = refused("sealift restore db --to-stdout --to-image --from memory:///x");
    assert_eq!(both.kind(), ErrorKind::ArgumentConflict);
}

#[test]
fn set_is_a_subcommand_of_restore_wherever_its_options_stand() {
    for line in [
        "sealift restore set x --plan --from memory:///a",
        "sealift restore --from memory:///a set x --plan",
        "sealift restore --from=memory:///b set x --plan --from memory:///a",
        "sealift --quiet restore --from memory:///a set --plan x",
    ] {
        let set = restore_set(line);
        assert_eq!((set.set.as_str(), set.open.from.from.as_deref()), ("x", Some("memory:///a")), "{line}");
        assert!(!set.open.no_encrypt, "{line}");
    }
}

#[test]
fn what_opens_the_archives_of_a_set_may_stand_before_it() {
    assert!(restore_set("sealift restore --from memory:///a --no-encrypt set x --plan").open.no_encrypt);
    assert!(restore_set("sealift restore --from memory:///a set x --plan --no-encrypt").open.no_encrypt);
    let set = restore_set("sealift restore --passphrase-file f --from memory:///a set x --plan");
    assert_eq!(set.open.request().unwrap().passphrase.file.as_deref(), Some("f"));
}

#[test]
fn a_set_says_what_it_lacks() {
    let lacks = |line: &str, word: &str| {
        let error = refused(line);
        assert_eq!(error.kind(), ErrorKind::MissingRequiredArgument, "{line}");
        assert!(error.to_string().contains(word), "{error}");
    };
    lacks("sealift restore set x --plan", "--from <STORE>");
    lacks("sealift restore set --plan --from memory:///a", "<SET>");
}

#[test]
fn a_set_takes_no_target_and_no_members() {
    for (line, stray) in [
        ("sealift restore --to-stdout set x --plan --from memory:///a", "--to-stdout"),
        ("sealift restore --include y set x --plan --from memory:///a", "--include"),
        ("sealift restore set x --plan --to-stdout --from memory:///a", "--to-stdout"),
        ("sealift restore db set x --plan --from memory:///a", "set"),
    ] {
        let error = refused(line);
        assert_eq!((error.kind(), error.exit_code()), (ErrorKind::UnknownArgument, 2), "{line}");
        assert!(error.to_string().contains(stray), "{error}");
    }
}

#[test]
fn only_the_word_set_is_a_subcommand() {
    for line in [
        format!("set@{ID} --to-stdout"),
        "sets --to-stdout".into(),
        "help --to-stdout".into(),
        "db --to-exec -- set psql".into(),
        "db --to-run img set".into(),
    ] {
        assert!(restore(&line).is_ok(), "{line}");
    }
}
