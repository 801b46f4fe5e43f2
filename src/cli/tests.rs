//! The command line as a whole.

use clap::CommandFactory;

use super::*;
use crate::job::Subject;
use crate::source::Source;

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn job_names_are_safe_as_keys() {
    for good in ["a", "team/db", "0.1_x-y", &"a".repeat(200)] {
        assert!(job_name(good).is_ok(), "{good}");
    }
    for bad in ["", "/", "a/", "a/../b", ".a", "A", "a b", "ä", &"a".repeat(201)] {
        assert!(job_name(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_set_and_a_job_without_settings_are_no_source() {
    let backup = |line: &str| match Cli::try_parse_from(line.split(' ')).unwrap().verb {
        Verb::Backup(backup) => backup,
        _ => panic!("no backup"),
    };
    let error = backup("sealift backup set night").request().unwrap_err();
    assert_eq!(error.to_string(), "night is a set, no job");
    let error = backup("sealift backup job db --to file:///x").request().unwrap_err();
    assert_eq!(error.to_string(), "there is no job db without a settings file");
    assert!(backup("sealift backup stdin --to file:///x").into_set().is_err());
    assert_eq!(backup("sealift backup set night --keep-going").into_set().unwrap().name, "night");
}

#[test]
fn details_are_asked_for_by_the_same_word_everywhere_and_a_short_one_where_docker_has_none() {
    for line in [
        "list -v --from memory:///x",
        "-v list --from memory:///x",
        "backup path -v --to memory:///x /etc",
        "backup run --verbose --to memory:///x img",
        "restore db --verbose --to-stdout --from memory:///x",
        "restore set db --verbose --plan --from memory:///x",
    ] {
        let cli = Cli::try_parse_from(format!("sealift {line}").split(' ')).unwrap();
        assert!(cli.view.mode().1, "{line}");
    }
    let line = "sealift -q restore db --from memory:///x --to-run -v a:b img";
    let cli = Cli::try_parse_from(line.split(' ')).unwrap();
    assert_eq!(cli.view.mode(), (crate::report::Mode::Quiet, false));
}

#[test]
fn everything_behind_the_image_is_the_containers() {
    let line = "sealift backup run --to file:///x -i --rm --log-driver none -e A=b img backup --to y -e C";
    let cli = Cli::try_parse_from(line.split(' ')).unwrap();
    let Verb::Backup(backup) = cli.verb else { panic!("no backup") };
    let (Subject::Source(Source::Run(spec)), options) = backup.request().unwrap() else { panic!("no run") };
    assert_eq!(spec.command, ["backup", "--to", "y", "-e", "C"]);
    assert_eq!((spec.image.as_str(), spec.env.join(",")), ("img", "A=b".into()));
    assert_eq!(options.stores.iter().map(|to| to.url.as_str()).collect::<Vec<_>>(), ["file:///x"]);
}

#[test]
fn a_terminal_is_refused_with_the_reason() {
    let cli = Cli::try_parse_from("sealift backup run --to file:///x -it img".split(' ')).unwrap();
    let Verb::Backup(backup) = cli.verb else { panic!("no backup") };
    let error = backup.request().unwrap_err();
    assert!(error.to_string().contains("-t") && error.kind().exit_code() == 2, "{error}");
}

#[test]
fn no_option_takes_a_secret_itself() {
    fn options(command: &clap::Command, found: &mut Vec<String>) {
        found.extend(command.get_arguments().filter_map(|a| a.get_long().map(String::from)));
        command.get_subcommands().for_each(|c| options(c, found));
    }
    let mut found = Vec::new();
    options(&Cli::command(), &mut found);
    found.retain(|name| name.contains("pass"));
    let leads = |name: &String| name.ends_with("-file") || name.ends_with("-command");
    assert!(found.len() > 3 && found.iter().all(leads), "{found:?}");
}
